"""nnU-Net's plans.json and dataset.json as our plan of one configuration. Axes are in plan order in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from msseg.data.regions import DeclaredRegions, declared_regions
from msseg.nnunet.architecture import Architecture, read_architecture
from planning.errors import PlanError
from planning.json_fields import flag, integer, mapping, number, one_of, positive, refuse, sequence, text
from planning.networks import network_row
from planning.plan import ChannelPlan, Configuration, Plan, Reason, validate_plan
from planning.regions import Region
from planning.rules import DUMMY_2D_FACTOR, LABEL_ORDERS, SPLINE_ORDERS
from planning.weights import SUPERVISION, uniform_weights

_SCHEMES = {
    "CTNormalization": "ct",
    "ZScoreNormalization": "zscore",
    "NoNormalization": "nonorm",
    "RescaleTo01Normalization": "rescale_to_0_1",
    "RGBTo01Normalization": "rgb_to_0_1",
}
_PREPROCESSOR = "DefaultPreprocessor"
_RESAMPLING = "resample_data_or_seg_to_shape"
# Each of the three resamplings, the orders that ours have for it, and what it brings to the other grid.
_RESAMPLED: dict[str, tuple[tuple[int, ...], bool]] = {
    "data": (SPLINE_ORDERS, False),
    "seg": (LABEL_ORDERS, True),
    "probabilities": ((0, 1), False),
}
_READERS_AS_STORED = ("SimpleITKIO", "NibabelIO", "NaturalImage2DIO", "Tiff3DIO")
_READERS_REORIENTED = ("NibabelIOWithReorient", "SimpleITKIOWithReorient")
_LABEL_MANAGER = "LabelManager"
_IGNORE = "ignore"
_NOT_YET = "Such a model cannot be taken over yet; predict with nnU-Net itself."


@dataclass(frozen=True)
class ModelFiles:
    """What lies beside the folds of an nnU-Net model; `folder` names it in messages."""

    folder: str
    plans: Mapping[str, Any]
    dataset: Mapping[str, Any]


@dataclass(frozen=True)
class ImportedPlan:
    """Our plan of one nnU-Net configuration; `notes` say what whoever predicts with it should know."""

    plan: Plan
    configuration: Configuration
    notes: tuple[str, ...] = field(default=())


def import_plan(
    files: ModelFiles, configuration_name: str, trainer: str, mirror_axes: tuple[int, ...] | None
) -> ImportedPlan:
    """Our plan with the one configuration that a model was trained in.

    `mirror_axes` are the checkpoint's. Raises PlanError where a field is missing, or asks for what ours cannot do:
    a cascade with regions, other networks, preprocessors, resamplings or intensity schemes; DatasetError where regions
    are malformed.
    """
    place = f"{files.folder}/plans.json"
    fields = _inherited(files.plans, configuration_name, place)
    place = f"{place}: configurations.{configuration_name}"
    one_of(_PREPROCESSOR)(fields.get("preprocessor_name", _PREPROCESSOR), f"{place}.preprocessor_name")
    dimensions = len(sequence(integer)(fields.get("patch_size"), f"{place}.patch_size"))
    plans_name = str(files.plans.get("plans_name", ""))
    architecture = read_architecture(fields, dimensions, plans_name, trainer, place)
    configuration = _configuration(configuration_name, fields, architecture, mirror_axes, place)
    labels, regions, ignore = _labels(files)
    previous = _previous_stage(fields, regions, place)
    if previous is not None:
        configuration = replace(configuration, previous_stage=previous, previous_classes=len(labels) - 1)
    row = network_row(architecture.network)
    plan = Plan(
        dataset_name=text(files.plans.get("dataset_name"), f"{files.folder}/plans.json: dataset_name"),
        channels=_channels(files, fields, place),
        labels=labels,
        axis_order=sequence(integer)(
            files.plans.get("transpose_forward"), f"{files.folder}/plans.json: transpose_forward"
        ),
        class_weights=uniform_weights(len(labels)),
        configurations={configuration_name: configuration},
        default_configuration=configuration_name,
        memory_bytes=row.reference_memory_bytes,
        reasons=(_reason(files, configuration_name, plans_name),),
        regions=regions,
        ignore=ignore,
    )
    validate_plan(plan, f"{files.folder}/plans.json")
    return ImportedPlan(plan, configuration, (*_reader_notes(files.plans), *_network_notes(architecture)))


def _inherited(plans: Mapping[str, Any], name: str, place: str) -> dict[str, Any]:
    """The fields of a configuration with those of all that it inherits from below them."""
    known = plans.get("configurations")
    if not isinstance(known, Mapping):
        raise refuse(f"{place}: configurations", known, "an object, as nnU-Net v2 writes it")
    layers: list[Mapping[str, Any]] = []
    seen: list[str] = []
    ancestor: Any = name
    while ancestor is not None:
        fields = known.get(ancestor) if isinstance(ancestor, str) else None
        if not isinstance(fields, Mapping) or ancestor in seen:
            wanted = "one of " + ", ".join(map(str, known)) + ", none its own ancestor"
            raise refuse(f"{place}: configurations", ancestor, wanted)
        seen.append(ancestor)
        layers.append(fields)
        ancestor = fields.get("inherits_from")
    return {key: value for layer in reversed(layers) for key, value in layer.items()}


def _previous_stage(fields: Mapping[str, Any], regions: Sequence[Region], place: str) -> str | None:
    """The configuration before it in a cascade; both programs show each foreground class after the image's channels."""
    if fields.get("previous_stage") is None:
        return None
    if regions:
        raise PlanError(
            f"{place}: found a cascade with regions, whose network sees a plane for each label; here it would see one "
            f"for each region. {_NOT_YET}"
        )
    name: str = text(fields["previous_stage"], f"{place}.previous_stage")
    return name


def _configuration(
    name: str,
    fields: Mapping[str, Any],
    architecture: Architecture,
    mirror_axes: tuple[int, ...] | None,
    place: str,
) -> Configuration:
    patch = sequence(integer)(fields["patch_size"], f"{place}.patch_size")
    median = sequence(number)(fields.get("median_image_size_in_voxels", patch), f"{place}.median_image_size_in_voxels")
    return Configuration(
        name=name,
        dimensions=len(patch),
        spacing_mm=sequence(positive)(fields.get("spacing"), f"{place}.spacing"),
        median_shape=tuple(max(1, round(edge)) for edge in median),
        patch_size=patch,
        batch_size=integer(fields.get("batch_size", 2), f"{place}.batch_size"),
        network=architecture.network,
        features=architecture.features,
        strides=architecture.strides,
        kernel_sizes=architecture.kernel_sizes,
        encoder_convolutions=architecture.encoder_convolutions,
        decoder_convolutions=architecture.decoder_convolutions,
        supervision_weights=SUPERVISION["halving"](len(architecture.strides)),
        batch_dice=flag(fields.get("batch_dice", False), f"{place}.batch_dice"),
        dummy_2d=len(patch) == 3 and max(patch) / patch[0] > DUMMY_2D_FACTOR,
        image_order=_order(fields, "data", place),
        label_order=_order(fields, "seg", place),
        score_order=_order(fields, "probabilities", place),
        mirror_axes=tuple(mirror_axes or ()),
        network_options=dict(architecture.options),
    )


def _order(fields: Mapping[str, Any], what: str, place: str) -> int:
    """The spline order of one resampling, which must be nnU-Net's own: the coarse axis apart where it is coarse."""
    orders, of_labels = _RESAMPLED[what]
    place = f"{place}.resampling_fn_{what}"
    one_of(_RESAMPLING)(fields.get(f"resampling_fn_{what}"), place)
    place = f"{place}_kwargs"
    arguments = mapping(lambda value, _: value)(fields.get(f"resampling_fn_{what}_kwargs"), place)
    one_of(of_labels)(arguments.get("is_seg", False), f"{place}.is_seg")
    one_of(0)(arguments.get("order_z", 0), f"{place}.order_z")
    if arguments.get("force_separate_z", False) is not None:
        wanted = "null: the coarse axis is resampled apart where the spacing asks for it"
        raise refuse(f"{place}.force_separate_z", arguments.get("force_separate_z", False), wanted)
    order: int = one_of(*orders)(arguments.get("order", 3), f"{place}.order")
    return order


def _channels(files: ModelFiles, fields: Mapping[str, Any], place: str) -> tuple[ChannelPlan, ...]:
    """Name, scheme and the fingerprint's figures of each channel."""
    dataset = f"{files.folder}/dataset.json"
    by_number = files.dataset.get("channel_names", files.dataset.get("modality"))
    names = list(mapping(text)(by_number, f"{dataset}: channel_names").values())
    schemes = sequence(one_of(*_SCHEMES))(fields.get("normalization_schemes"), f"{place}.normalization_schemes")
    masked = sequence(flag)(fields.get("use_mask_for_norm"), f"{place}.use_mask_for_norm")
    if not len(names) == len(schemes) == len(masked):
        found = f"{len(schemes)} schemes and {len(masked)} masks"
        raise PlanError(f"{place}.normalization_schemes: found {found}, expected {len(names)}: one a channel.")
    return tuple(
        _channel(name, _SCHEMES[scheme], inside, _figures(files, index, scheme))
        for index, (name, scheme, inside) in enumerate(zip(names, schemes, masked, strict=True))
    )


def _channel(name: str, scheme: str, inside: bool, figures: Mapping[str, float]) -> ChannelPlan:
    return ChannelPlan(
        name=name,
        normalisation=scheme,
        inside_nonzero_mask=inside and scheme == "zscore",
        lower=figures.get("percentile_00_5", 0.0),
        upper=figures.get("percentile_99_5", 0.0),
        mean=figures.get("mean", 0.0),
        std=figures.get("std", 1.0),
    )


def _figures(files: ModelFiles, index: int, scheme: str) -> Mapping[str, float]:
    """The intensity figures of a channel; only `ct` uses, and so must have, them."""
    place = f"{files.folder}/plans.json: foreground_intensity_properties_per_channel"
    old = files.plans.get("foreground_intensity_properties_by_modality")
    of_all = files.plans.get("foreground_intensity_properties_per_channel", old)
    found = of_all.get(str(index)) if isinstance(of_all, Mapping) else None
    if scheme == "CTNormalization":
        figures = mapping(number)(found, f"{place}.{index}")
        for name in ("percentile_00_5", "percentile_99_5", "mean", "std"):
            number(figures.get(name), f"{place}.{index}.{name}")
        return figures
    return found if isinstance(found, Mapping) and _all_finite(found) else {}


def _all_finite(figures: Mapping[str, Any]) -> bool:
    return all(isinstance(value, (int, float)) and abs(value) < float("inf") for value in figures.values())


def _labels(files: ModelFiles) -> tuple[dict[str, int], tuple[Region, ...], int | None]:
    """The classes in the order of their values, which nnU-Net wants to be 0, 1, 2, …, the regions, the ignored value.

    nnU-Net learns regions where some label has several values: every label but the background is one then.
    """
    place = f"{files.folder}/dataset.json: labels"
    one_of(_LABEL_MANAGER)(
        files.plans.get("label_manager", _LABEL_MANAGER), f"{files.folder}/plans.json: label_manager"
    )
    found = mapping(lambda value, _: value)(files.dataset.get("labels"), place)
    classes = {name: value for name, value in found.items() if name != _IGNORE}
    ignore = _label(found[_IGNORE], f"{place}.{_IGNORE}") if _IGNORE in found else None
    declared = _declared(files, classes)
    labels = (
        {name: _label(value, f"{place}.{name}") for name, value in classes.items()}
        if declared is None
        else declared.labels
    )
    ordered = dict(sorted(labels.items(), key=lambda item: item[1]))
    if list(ordered.values()) != list(range(len(ordered))):
        raise refuse(place, found, "the values 0 (background), 1, 2, … without gaps")
    return ordered, _regions(declared), ignore


def _declared(files: ModelFiles, labels: Mapping[str, Any]) -> DeclaredRegions | None:
    if not any(isinstance(value, (list, tuple)) and len(value) > 1 for value in labels.values()):
        return None
    return declared_regions(Path(files.folder) / "dataset.json", labels, files.dataset.get("regions_class_order"))


def _regions(declared: DeclaredRegions | None) -> tuple[Region, ...]:
    """The regions in nnU-Net's order; class indices are the values, which have no gaps."""
    if declared is None:
        return ()
    pairs = zip(declared.values.items(), declared.painted, strict=True)
    return tuple(Region(name, values, painted) for (name, values), painted in pairs)


def _label(value: Any, place: str) -> int:
    if isinstance(value, (list, tuple)):
        if len(value) != 1:
            raise PlanError(f"{place}: found the values {list(value)}, expected one value a class.")
        value = value[0]
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    return integer(value, place)


def _reason(files: ModelFiles, name: str, plans_name: str) -> Reason:
    return Reason(
        subject=f"configurations.{name}",
        decision="nnU-Net's plan, taken over as it is",
        because="the weights were trained in it",
        source=f"nnU-Net v2, {plans_name or 'plans.json'} of {files.plans.get('dataset_name')}",
    )


def _reader_notes(plans: Mapping[str, Any]) -> tuple[str, ...]:
    """What nnU-Net's reader did to images that ours does not."""
    reader = plans.get("image_reader_writer", _READERS_AS_STORED[0])
    if reader in _READERS_AS_STORED:
        return ()
    if reader in _READERS_REORIENTED:
        return (
            f"nnU-Net read its images with {reader}, which turns them to RAS axes first; here they are taken as "
            "stored. Bring images to RAS before predicting, or the segmentation will be wrong",
        )
    return (f"nnU-Net read its images with {reader}, which is not its own; here they are taken as stored",)


def _network_notes(architecture: Architecture) -> tuple[str, ...]:
    return ("nnU-Net trained with dropout; training it on would go without",) if architecture.has_dropout else ()
