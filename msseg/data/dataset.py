"""Data set folders as cases, read as they are: the Decathlon's layout, nnU-Net v2's, folders of images and masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from msseg.data.cases import Case, find_images
from msseg.data.found_layouts import found_layout
from msseg.data.ignored import check_ignored, without_ignored
from msseg.data.in_place import read_in_place
from msseg.data.labels import LabelCoding, LabelMap
from msseg.data.layouts import LAYOUTS, Listing, malformed
from msseg.data.problems import Problem
from msseg.data.regions import ORDER, declared_regions, painting_notes
from msseg.data.sides import declared_pairs
from msseg.errors import DatasetError
from msseg.files import read_json
from planning.regions import Region, measured_labels

__all__ = ["Case", "Dataset", "find_images", "read_dataset"]

_BACKGROUND = 0
_PAGES = ("slices", "channels")


@dataclass(frozen=True)
class Dataset:
    """A data set folder as its dataset.json describes it; no image has been opened yet.

    `labels` maps names to the values in the files, background first, then by value. `training` and `test` are sorted by
    name. `notes` says what was seen in the folder and not taken, or taken in a way worth knowing. With `instances` the
    label files hold object numbers of the one foreground label, which is semantic all the same. `label_pairs` are the
    names of left and right that dataset.json declares, None where it says nothing. `ignore` is the value of voxels that
    nobody annotated, of which no class is known; None where all are annotated. `regions` are sets of values that may
    overlap, with the value `painted` for each, in the order of painting; a network then learns those, and `labels` has
    their single values.
    """

    name: str
    folder: Path
    channels: tuple[str, ...]
    labels: dict[str, int]
    file_ending: str
    training: tuple[Case, ...]
    test: tuple[Case, ...] = ()
    notes: tuple[Problem, ...] = ()
    instances: bool = False
    label_pairs: tuple[tuple[str, str], ...] | None = None
    ignore: int | None = None
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    painted: tuple[int, ...] = ()

    @property
    def label_map(self) -> LabelCoding:
        """Between the values in the label files and class indices; of objects, between their numbers and levels."""
        if not self.instances:
            return LabelMap(tuple(self.labels.values()), self.ignore)
        from msseg.instances.coding import InstanceCoding

        return InstanceCoding(self.object_label[1])

    @property
    def class_names(self) -> dict[str, int]:
        """Names of the classes that a network learns: the labels, or the levels of objects with their indices."""
        if not self.instances:
            return dict(self.labels)
        from msseg.instances.coding import LEVELS

        return {name: index for index, name in enumerate(LEVELS)}

    @property
    def measured(self) -> dict[str, int | tuple[int, ...]]:
        """What is measured of its label files, names to values: the regions, where there are any, else the labels."""
        return measured_labels(self.labels, self.planned_regions)

    @property
    def planned_regions(self) -> tuple[Region, ...]:
        """The regions with class indices for their values."""
        index = {value: place for place, value in enumerate(self.labels.values())}
        return tuple(
            Region(name, tuple(index[value] for value in values), index[painted])
            for (name, values), painted in zip(self.regions.items(), self.painted, strict=True)
        )

    @property
    def object_label(self) -> tuple[str, int]:
        """Name and value of the last label, the objects' where they have numbers."""
        return list(self.labels.items())[-1]


def read_dataset(folder: Path, cache: Path | None = None) -> Dataset:
    """The data set in a folder with a dataset.json of the Decathlon or of nnU-Net v2 (told apart by `channel_names`).

    Files are listed, not opened, and files that are missing are no error here: `check_dataset_structure` reports them
    all. Without a dataset.json, folders of images and masks are read as they are (`read_in_place`), for which files are
    opened and what they show is kept in the folder `cache`. Raises DatasetError for a dataset.json that is missing,
    malformed or asks for what is not supported.
    """
    folder = Path(folder)
    source = folder / "dataset.json"
    layout = None if source.is_file() else found_layout(folder)
    if layout is not None:
        found = read_in_place(folder, layout, cache)
        return _dataset(folder, found.channels, found.labels, found.listing, found.instances)
    description = read_json(source, DatasetError)
    if not isinstance(description, dict):
        raise malformed(source, f"a {type(description).__name__}", "an object with named entries")
    key = next((key for key in LAYOUTS if key in description), None)
    if key is None:
        raise malformed(source, "no channel names", f"one of the entries {', '.join(LAYOUTS)}")
    channels = _channels(source, key, description[key])
    declared, ignore = without_ignored(source, description.get("labels"))
    regions = declared_regions(source, declared, description.get(ORDER))
    labels = _labels(source, declared if regions is None else regions.labels)
    listing = LAYOUTS[key](folder, description, len(channels))
    if not listing.training and not listing.test:
        raise malformed(source, "no cases", "images in imagesTr or imagesTs, or a list of them")
    _check_pages(source, description.get("pages"), len(channels))
    if regions is not None and description.get("instances"):
        raise malformed(source, "instances beside regions", "numbered objects, or labels of several values")
    dataset = _dataset(folder, channels, labels, listing, _instances(source, description, labels))
    check_ignored(source, ignore, labels, dataset.instances)
    notes = (*dataset.notes, *_count_notes(source, description, listing))
    if regions is not None:
        notes = (*notes, *painting_notes(source, regions))
        dataset = replace(dataset, regions=regions.values, painted=regions.painted)
    pairs = declared_pairs(source, description.get("label_pairs"), [*labels, *dataset.regions])
    return replace(dataset, notes=notes, label_pairs=pairs, ignore=ignore)


def _dataset(
    folder: Path, channels: tuple[str, ...], labels: dict[str, int], listing: Listing, instances: bool
) -> Dataset:
    return Dataset(
        name=folder.resolve().name,
        folder=folder,
        channels=channels,
        labels=labels,
        file_ending=listing.file_ending,
        training=tuple(sorted(listing.training, key=lambda case: case.name)),
        test=tuple(sorted(listing.test, key=lambda case: case.name)),
        notes=tuple(listing.notes),
        instances=instances,
    )


def _instances(source: Path, description: Mapping[str, Any], labels: Mapping[str, int]) -> bool:
    """Whether label files hold object numbers, which takes exactly one label beside the background."""
    said = description.get("instances", False)
    if not isinstance(said, bool):
        raise malformed(source, f"instances {said!r}", "true or false")
    if said and len(labels) != 2:
        names = ", ".join(labels)
        raise malformed(source, f"instances of the labels {names}", 'one label, such as {"background": 0, "cell": 1}')
    return said


def _check_pages(source: Path, said: Any, channels: int) -> None:
    """The number of channels decides what a TIFF's pages are; an entry that says otherwise is refused."""
    if said is not None and said not in _PAGES:
        raise malformed(source, f"pages {said!r}", f"one of {', '.join(_PAGES)}")
    if said == "channels" and channels == 1:
        raise malformed(source, "pages that are channels, and one channel", "a name for each page's channel")


def _channels(source: Path, key: str, names: Any) -> tuple[str, ...]:
    """Channel names in the order of their numbers; {"0": "CT"}, or a list of names."""
    if isinstance(names, list):
        names = {str(number): name for number, name in enumerate(names)}
    if not isinstance(names, dict) or not names or {str(n) for n in range(len(names))} != set(names):
        raise malformed(source, f"{key} {names!r}", 'names numbered from 0 without gaps, such as {"0": "CT"}')
    return tuple(str(names[str(number)]) for number in range(len(names)))


def _labels(source: Path, declared: Any) -> dict[str, int]:
    """Names to values, background first, from {"0": "background"} (Decathlon) or {"background": 0} (nnU-Net)."""
    if not isinstance(declared, dict) or not declared:
        raise malformed(source, f"labels {declared!r}", 'names and values, such as {"background": 0, "tumour": 1}')
    pairs = [_label_pair(source, name, value) for name, value in declared.items()]
    labels = dict(sorted(pairs, key=lambda pair: (pair[1] != _BACKGROUND, pair[1])))
    if len(labels) < len(pairs) or len(set(labels.values())) < len(pairs):
        raise malformed(source, f"labels with a name or value twice ({declared})", "one name for each value")
    if _BACKGROUND not in labels.values() or len(labels) < 2:
        raise malformed(source, f"label values {sorted(labels.values())}", "background 0 and at least one other")
    return labels


def _label_pair(source: Path, name: str, value: Any) -> tuple[str, int]:
    if isinstance(value, str) and name.lstrip("-").isdigit():
        name, value = value, int(name)
    if isinstance(value, str) and value.lstrip("-").isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise malformed(source, f"label {name!r} with value {value!r}", "an integer value")
    return name, value


def _count_notes(source: Path, description: Mapping[str, Any], listing: Listing) -> list[Problem]:
    promised, found = description.get("numTraining"), len(listing.training)
    if promised in (None, found):
        return []
    return [Problem("", str(source), f"{found} training cases", f"numTraining {promised}", "Correct either.", "note")]
