"""The form that all cases of a converted data set share, decided from what their files hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msseg.challenges.challenge import Pages
from msseg.challenges.source import MOST_VALUES, Listing, Look, Source
from msseg.data.image import image_ending, output_ending
from msseg.data.problems import Problem
from msseg.errors import DatasetError

VOLUME_ENDING = ".nii.gz"
_BACKGROUND = {"background": 0}
_COLOUR = ("red", "green", "blue")
_GREY = ("grey",)


@dataclass(frozen=True)
class Form:
    """Ending and channel names of the images, names and values of the labels, and what the pages of a source are.

    A case is one file where `is_packed` (grey, or red, green and blue in one), else a file a channel. What does not
    change the files of the cases is not shown: `regions` with the value `painted` for each, which the description has
    in place of the labels, and the value `ignore` of voxels that nobody annotated.
    """

    ending: str
    channels: tuple[str, ...]
    labels: dict[str, int]
    instances: bool
    pages: Pages
    is_packed: bool
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict, repr=False)
    painted: tuple[int, ...] = field(default=(), repr=False)
    ignore: int | None = field(default=None, repr=False)

    @property
    def values(self) -> tuple[int, ...]:
        """The values that label files may hold."""
        return (*self.labels.values(), *(() if self.ignore is None else (self.ignore,)))

    def description(self, name: str, training: int) -> dict[str, Any]:
        """The dataset.json of so many training cases, in the layout of nnU-Net v2."""
        value = {
            "name": name,
            "channel_names": {str(number): channel for number, channel in enumerate(self.channels)},
            "labels": self._declared(),
            "numTraining": training,
            "file_ending": self.ending,
        }
        value |= {"regions_class_order": list(self.painted)} if self.regions else {}
        return {**value, "instances": True} if self.instances else value

    def _declared(self) -> dict[str, Any]:
        regions = {name: list(one) if len(one) > 1 else one[0] for name, one in self.regions.items()}
        declared = {**_BACKGROUND, **regions} if regions else self.labels
        return {**declared, "ignore": self.ignore} if self.ignore is not None else declared


def volume_form(channels: Sequence[str], labels: Mapping[str, int], ending: str = VOLUME_ENDING) -> Form:
    """The form of volumes whose channels and labels (without the background) are known beforehand."""
    return Form(ending, tuple(channels), {**_BACKGROUND, **labels}, instances=False, pages="slices", is_packed=False)


def volume_listing(
    found: Sequence[Source | Problem], channels: Sequence[str], labels: dict[str, int], **more: Any
) -> Listing:
    """The listing of volumes of a known form, from sources and problems as they were found; `more` as of `Listing`."""
    return Listing(
        sources=tuple(one for one in found if isinstance(one, Source)),
        problems=tuple(one for one in found if isinstance(one, Problem)),
        labels=labels,
        instances=False,
        form=volume_form(channels, labels),
        **more,
    )


def decide_form(looks: Mapping[Source, Look], labels: Mapping[str, int], instances: bool, pages: Pages) -> Form:
    """The form for sources of which each was looked at; `labels` are those named, else the values that were found.

    Raises DatasetError where the sources do not go together.
    """
    ending, flat = _ending_of_volumes(list(looks)), all(source.is_flat for source in looks)
    channels = _channels(list(looks.values()), pages) if flat else _channels_of_volumes(list(looks.values()))
    return Form(
        ending=_picture_ending(list(looks.values()), channels, pages) if flat else ending,
        channels=channels,
        labels={**_BACKGROUND, **(labels or _found_labels(list(looks.values())))},
        instances=instances,
        pages=pages,
        is_packed=flat and pages != "channels",
    )


def _ending_of_volumes(sources: Sequence[Source]) -> str:
    endings = {"picture" if source.is_flat else _ending_of_volume(source) for source in sources}
    if len(endings) > 1:
        raise DatasetError(
            f"images of the kinds {', '.join(sorted(endings))}; expected one: pictures, or volumes of one ending. "
            "Convert them apart."
        )
    return endings.pop()


def _ending_of_volume(source: Source) -> str:
    return VOLUME_ENDING if source.image.is_dir() else output_ending(image_ending(source.image) or "")


def _channels_of_volumes(looks: Sequence[Look]) -> tuple[str, ...]:
    return tuple(f"channel_{number}" for number in range(_only({look.channels for look in looks}, "channels")))


def _channels(looks: Sequence[Look], pages: Pages) -> tuple[str, ...]:
    is_colour = any(look.is_colour for look in looks)
    if pages != "channels":
        return _COLOUR if is_colour else _GREY
    if is_colour:
        raise DatasetError("pages as channels: found colour images, expected grey pages. Leave out --pages channels.")
    return tuple(f"channel_{number}" for number in range(_only({look.slices for look in looks}, "pages")))


def _only(counts: set[int], what: str) -> int:
    if len(counts) > 1:
        raise DatasetError(
            f"images of {', '.join(map(str, sorted(counts)))} {what}; expected one number. Convert them apart."
        )
    return counts.pop()


def _picture_ending(looks: Sequence[Look], channels: tuple[str, ...], pages: Pages) -> str:
    """`.png`, or `.tif` where one of the images holds what PNG has no room for."""
    needs_tiff = any(
        look.kind == "float32"
        or (look.kind == "uint16" and channels == _COLOUR)
        or (look.slices > 1 and pages == "slices")
        or look.has_spacing
        for look in looks
    )
    return ".tif" if needs_tiff else ".png"


def _found_labels(looks: Sequence[Look]) -> dict[str, int]:
    values = sorted({value for look in looks for value in look.values} - set(_BACKGROUND.values()))
    if not values:
        raise DatasetError("labels that are 0 everywhere; expected a foreground. Export them again.")
    if len(values) > MOST_VALUES:
        raise DatasetError(
            f"labels of more than {MOST_VALUES} values; expected fewer, one a class. If they number objects, name "
            "their folder instances/; else name every class with --labels NAME=VALUE."
        )
    return {"foreground": values[0]} if len(values) == 1 else {f"class_{value}": value for value in values}
