"""The words behind each decision: every function gives the `Reason` for a value that was already decided."""

from __future__ import annotations

import math
from collections.abc import Sequence

from planning import rules
from planning.encoders import OWN
from planning.explain import product
from planning.fingerprint import Fingerprint
from planning.memory import training_bytes
from planning.network_row import NetworkRow
from planning.plan import ChannelPlan, Configuration, Reason
from planning.sizing import Size, Target, patch_batch
from planning.spacing import anisotropic_axis
from planning.variation import COLOUR, POLARITY, polarity_shares

_NNUNET = "nnU-Net 2.8.1, default_experiment_planner.py"
_TOPOLOGY = "nnU-Net 2.8.1, network_topology.py"
_MSS = "Zhao et al., MSS U-Net (2020)"


def axes(order: Sequence[int], target: Target, planar: bool) -> Reason:
    """Why the axes are in this order."""
    if planar:
        because = f"axis {order[0]} has a single slice, so its spacing means nothing"
    elif len(set(target.spacing_mm)) == 1:
        because = f"all axes have the same spacing ({target.spacing_mm[0]:.4g} mm), so they keep their order"
    else:
        because = (
            f"axis {order[0]} has the coarsest spacing ({target.spacing_mm[0]:.4g} mm); the others keep their order"
        )
    return Reason("axis_order", f"file axis {order[0]} comes first: {list(order)}", because, _NNUNET)


def spacing(fingerprint: Fingerprint, order: Sequence[int], target: Target) -> Reason:
    """Why the cases are resampled to this spacing."""
    medians = [_median([case.spacing_mm[axis] for case in fingerprint.cases]) for axis in order]
    sizes = [_median([float(case.cropped_shape[axis]) for case in fingerprint.cases]) for axis in order]
    axis = anisotropic_axis(medians, sizes)
    because = f"the median over {len(fingerprint.cases)} cases, so that half are coarser and half finer"
    if axis is not None:
        because += (
            f"; except for axis {axis}, which is more than {rules.ANISOTROPY_FACTOR:g} times coarser and shorter than "
            f"the others (median {medians[axis]:.4g} mm): there the {rules.ANISOTROPIC_SPACING_PERCENTILE:g}th "
            "percentile keeps the slices of the better-resolved cases"
        )
    decision = f"{product(target.spacing_mm)} mm, median shape {product(target.median_shape)}"
    return Reason("spacing_mm", decision, because, _NNUNET)


def _median(values: list[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


_NORMALISATION_WORDS = {
    "ct": "clip to [{lower:.4g}, {upper:.4g}], subtract {mean:.4g}, divide by {std:.4g}",
    "zscore": "subtract each image's mean, divide by its standard deviation",
    "nonorm": "leave as it is",
    "rescale_to_0_1": "rescale each image to 0..1",
    "rgb_to_0_1": "divide by 255",
    "colour": "subtract its own mean in each image, divide by the one standard deviation of all three colours",
}
_NORMALISATION_BECAUSE = {
    "ct": "CT intensities have a physical unit, so all cases share the foreground's 0.5th and 99.5th percentiles, "
    "mean and standard deviation",
    "zscore": "intensities without a physical unit compare only within their own image",
    "colour": "red, green and blue belong together: one deviation leaves the proportions between them, the hue, as it "
    "is, where a z-score of each would blow a faint colour up",
}
_NORMALISATION_SOURCE = {"colour": "rule of this project; a grey image gets its z-score"}


def channel(index: int, plan: ChannelPlan, fingerprint: Fingerprint) -> Reason:
    """Why a channel is normalised as it is."""
    words = _NORMALISATION_WORDS[plan.normalisation]
    decision = words.format(lower=plan.lower, upper=plan.upper, mean=plan.mean, std=plan.std)
    because = _NORMALISATION_BECAUSE.get(plan.normalisation, "the channel's name asks for it")
    if plan.normalisation in rules.MASKABLE_NORMALISATIONS:
        kept = fingerprint.relative_size_after_crop
        place = "inside the nonzero mask" if plan.inside_nonzero_mask else "over the whole image"
        decision += f", {place}"
        because += (
            f"; the nonzero crop keeps {kept:.0%} of the median image, "
            f"{'below' if plan.inside_nonzero_mask else 'not below'} {rules.MASKED_NORMALISATION_BELOW:.0%}"
        )
    source = _NORMALISATION_SOURCE.get(plan.normalisation, "nnU-Net 2.8.1, default_normalization_schemes.py")
    return Reason(f"channels[{index}].normalisation", f"{plan.name}: {decision}", because, source)


def regions(fingerprint: Fingerprint) -> list[Reason]:
    """What a network scores where the data set has regions, and how that becomes labels; nothing where it has none."""
    if not fingerprint.regions:
        return []
    values = list(fingerprint.labels.values())
    shown = "; ".join(
        f"{region.name} ({', '.join(str(values[index]) for index in region.classes)}) paints {values[region.painted]}"
        for region in fingerprint.regions
    )
    because = (
        "dataset.json declares them (regions_class_order): the network scores each by itself, with a sigmoid, and "
        "learns by cross entropy and Dice of the regions without class weights; labels are painted in this order"
    )
    return [Reason("regions", shown, because, "the user")]


def class_weights(weights: Sequence[float], volumes_mm3: Sequence[float] | None) -> Reason:
    """Why the classes weigh what they weigh in the losses."""
    decision = ", ".join(f"{weight:.3g}" for weight in weights)
    if volumes_mm3 is None:
        because = "the fingerprint has no class frequencies, so all classes weigh the same"
        return Reason("class_weights", decision, because, "rule of this project")
    total = sum(volumes_mm3) or 1.0
    shares = ", ".join(f"{volume / total:.1%}" for volume in volumes_mm3)
    because = (
        f"foreground shares of the classes are {shares}; a class weighs the cube root of its rarity, at most "
        f"{rules.LARGEST_CLASS_WEIGHT_RATIO:g} times the most frequent, and the background as much as that one"
    )
    return Reason("class_weights", decision, because, f"rule of this project, fitted to {_MSS}")


def configuration(
    plan: Configuration, row: NetworkRow, network: Reason, target: Target, size: Size, memory_bytes: int, grow: str
) -> list[Reason]:
    """Why each value of a configuration is what it is; `network` says why it has this one."""
    place = f"configurations.{plan.name}"
    return [
        Reason(f"{place}.network", *_network(plan, row, network)),
        *([Reason(f"{place}.network_options", *_options(plan))] if plan.network_options else []),
        Reason(f"{place}.patch_size", *_patch(plan, row, target, size, memory_bytes, grow)),
        Reason(f"{place}.strides", *_strides(plan, row)),
        Reason(f"{place}.kernel_sizes", *_kernels(plan)),
        Reason(f"{place}.batch_size", *_batch(plan, row, size, memory_bytes, grow)),
        Reason(f"{place}.supervision_weights", *_supervision(plan, row)),
        Reason(f"{place}.batch_dice", *_batch_dice(plan, row)),
        Reason(f"{place}.dummy_2d", *_dummy_2d(plan)),
        Reason(f"{place}.mirror_axes", *_mirror(plan)),
        Reason(f"{place}.image_order", *_orders(plan)),
    ]


def two_stages(full: Configuration, coarse: Configuration, cascade: Configuration) -> list[Reason]:
    """Why there is `coarse`, a low-resolution stage beside `full`, and `cascade`, which sees what it predicts."""
    seen, sees = (math.prod(one.patch_size) / math.prod(one.median_shape) for one in (full, coarse))
    fewer = math.prod(full.median_shape) / math.prod(coarse.median_shape)
    because = (
        f"a patch of {full.name} sees {seen:.1%} of the median image, and below {rules.LOW_RESOLUTION_PATCH_SHARE:.0%} "
        f"a low-resolution stage pays: on {fewer:.2g} times fewer voxels a patch sees {sees:.0%}"
    )
    worth = (
        f"worth a try beside {full.name}, where what lies beyond a patch tells what is in it: it is {full.name} again, "
        f"with {cascade.previous_classes} further channels that show the prediction; msseg_find_best compares them"
    )
    decision = f"{product(coarse.spacing_mm)} mm, median shape {product(coarse.median_shape)}"
    return [
        Reason(f"configurations.{coarse.name}.spacing_mm", decision, because, _NNUNET),
        Reason(f"configurations.{cascade.name}.previous_stage", coarse.name, worth, _NNUNET),
    ]


Words = tuple[str, str, str]


def _network(plan: Configuration, row: NetworkRow, network: Reason) -> Words:
    decision = f"{row.title} ({row.name}), {len(plan.features)} levels of {', '.join(map(str, plan.features))} features"
    cap = row.feature_cap[plan.dimensions]
    because = (
        f"{network.because}. Its features start at {row.base_features}, double at each level and stop at {cap}; "
        f"{_depths(plan, row)}"
    )
    return decision, because, f"{network.source}; the network: {row.source}"


def _depths(plan: Configuration, row: NetworkRow) -> str:
    """How deep each level is, in words."""
    if row.encoder != OWN:
        return f"its encoder is {row.encoder}, its decoder has {_counted(plan.decoder_convolutions, row.decoder_block)}"
    encoder = _counted(plan.encoder_convolutions, row.encoder_block)
    return f"its encoder has {encoder}, its decoder {_counted(plan.decoder_convolutions, row.decoder_block)}"


def _counted(depths: Sequence[int], block: str) -> str:
    kind = "blocks" if block == "residual" else "convolutions"
    counts = str(depths[0]) if len(set(depths)) == 1 else ", ".join(map(str, depths))
    return f"{counts} {kind} a level"


def _options(plan: Configuration) -> Words:
    decision = ", ".join(f"{name}={value}" for name, value in plan.network_options.items())
    return decision, "asked for in place of the values of the network's row", "the user"


def _patch(plan: Configuration, row: NetworkRow, target: Target, size: Size, memory_bytes: int, grow: str) -> Words:
    seen = math.prod(plan.patch_size) / math.prod(target.median_shape)
    held = min(memory_bytes, row.reference_memory_bytes) if grow == "batch" else memory_bytes
    batch = patch_batch(row, plan.dimensions)
    need = training_bytes(size.voxels, batch, plan.dimensions, row)
    because = (
        f"the largest in the proportions of the median image that fits {_gigabytes(held)} with a batch of "
        f"{batch} (it takes about {_gigabytes(need)}, {_measure(row)}), rounded to what the strides need; "
        f"it covers {seen:.0%} of the median image"
    )
    return product(plan.patch_size), because, _NNUNET


def _measure(row: NetworkRow) -> str:
    return "by what its convolutions write" if row.counts_convolutions_alone else "by all the features it keeps"


def _gigabytes(count: int) -> str:
    return f"{count / rules.GIGABYTE:.3g} GB"


def _strides(plan: Configuration, row: NetworkRow) -> Words:
    because = (
        f"an axis is halved while it keeps {rules.SMALLEST_FEATURE_EDGE} voxels and its spacing is less than "
        f"{rules.SAME_RESOLUTION_FACTOR:g} times the finest's, so that voxels become cubic on the way down"
    )
    if len(plan.features) == row.level_limit:
        because += f"; the network ends at {row.level_limit} levels"
    return ", ".join(str(stride) for stride in plan.strides), because, _TOPOLOGY


def _kernels(plan: Configuration) -> Words:
    because = "an axis takes part in convolutions once its spacing is within a factor of two of the finest"
    return ", ".join(str(kernel) for kernel in plan.kernel_sizes), because, _TOPOLOGY


def _batch(plan: Configuration, row: NetworkRow, size: Size, memory_bytes: int, grow: str) -> Words:
    because = f"what {_gigabytes(memory_bytes)} hold of this patch"
    if grow == "batch" and memory_bytes > row.reference_memory_bytes:
        because += f"; memory beyond {_gigabytes(row.reference_memory_bytes)} goes into the batch, as asked"
    if plan.batch_size == size.batch_limit:
        because += f", but at most {row.batch_share:.0%} of the data set's voxels"
    if plan.batch_size == rules.SMALLEST_BATCH:
        because += f", and at least {rules.SMALLEST_BATCH}"
    return str(plan.batch_size), because, _NNUNET


_SUPERVISION = {
    "paired": ("full resolution first: 1, ½, ½, ¼, ¼, … normalised, the paper's .4, .2, .2, .1, .1 at any depth", _MSS),
    "halving": ("each coarser level weighs half, the coarsest nothing", "nnU-Net 2.8.1, nnUNetTrainer.py"),
    "mean": ("every head weighs the same", "the papers of UNet++, UNet 3+, UNet# and ANU-Net"),
}


def _supervision(plan: Configuration, row: NetworkRow) -> Words:
    because, source = _SUPERVISION[row.supervision]
    return ", ".join(f"{weight:.3g}" for weight in plan.supervision_weights), because, source


def _batch_dice(plan: Configuration, row: NetworkRow) -> Words:
    if row.batch_dice == "always":
        because = "Dice is taken over the whole batch, as in the MSS U-Net's code: a patch often lacks a class"
        return _yes(plan.batch_dice), because, _MSS
    if plan.dimensions == 2:
        return _yes(plan.batch_dice), "a slice often lacks a class, so Dice is taken over the whole batch", _NNUNET
    sees = "so little of the image that a low-resolution stage would pay" if plan.batch_dice else "enough of the image"
    return _yes(plan.batch_dice), f"a patch sees {sees}", _NNUNET


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _dummy_2d(plan: Configuration) -> Words:
    ratio = max(plan.patch_size) / plan.patch_size[0]
    because = (
        f"the patch's longest edge is {ratio:.2g} times its first, and slices are augmented one by one beyond "
        f"{rules.DUMMY_2D_FACTOR:g}"
        if plan.dimensions == 3
        else "patches are slices already"
    )
    return _yes(plan.dummy_2d), because, "nnU-Net 2.8.1, nnUNetTrainer.py"


def _mirror(plan: Configuration) -> Words:
    because = "all axes; labels of left and right are swapped where they are known (label_pairs)"
    if len(plan.mirror_axes) < plan.dimensions:
        because = "not along an axis that may run from side to side, as labels have sides (lateral_axis)"
    return ", ".join(map(str, plan.mirror_axes)) or "none", because, "nnU-Net 2.8.1, nnUNetTrainer.py"


def _orders(plan: Configuration) -> Words:
    decision = f"splines of order {plan.image_order} (images), {plan.label_order} (labels), {plan.score_order} (scores)"
    because = "cubic keeps edges; linear invents no label and lets no score overshoot"
    return decision, because, "nnU-Net 2.8.1, default_resampling.py"


def images(plan: Configuration, fingerprint: Fingerprint) -> list[Reason]:
    """Why images are varied, padded and shown with their neighbours as they are."""
    place = f"configurations.{plan.name}"
    return [
        Reason(f"{place}.variations", *_variations(plan, fingerprint)),
        Reason(f"{place}.image_padding", *_padding(plan)),
        Reason(f"{place}.neighbour_slices", *_neighbours(plan)),
    ]


def _variations(plan: Configuration, fingerprint: Fingerprint) -> Words:
    words = [
        "the channels are red, green and blue, which stains, lamps and cameras shift"
        if COLOUR in plan.variations
        else "the channels are not red, green and blue",
        _polarity(polarity_shares(fingerprint), POLARITY in plan.variations),
    ]
    return " and ".join(plan.variations) or "none", "; ".join(words), "rule of this project"


def _polarity(shares: tuple[float, float] | None, mixed: bool) -> str:
    if shares is None:
        return "contrasts were not measured, as they are in single slices alone"
    asks = "so training inverts images" if mixed else f"too few of one kind (below {rules.MIXED_POLARITY_SHARE:.0%})"
    found = f"clearly brighter than its background in {shares[0]:.0%} of the images, clearly darker in {shares[1]:.0%}"
    return f"the foreground is {found}: {asks}"


def _padding(plan: Configuration) -> Words:
    because = (
        "single images differ in size and are often smaller than a patch; a frame of one grey value would be an edge "
        "that no image has"
        if plan.image_padding == "mirror"
        else "0 is the mean of normalised intensities, and air or nothing around a scan"
    )
    source = "Ronneberger et al. (2015)" if plan.image_padding == "mirror" else "nnU-Net 2.8.1"
    return plan.image_padding, because, source


def _neighbours(plan: Configuration) -> Words:
    if plan.neighbour_slices:
        because = "what lies above and below tells organs apart that look alike in a slice; mirrored at the ends"
        return f"{plan.neighbour_slices} on either side", because, "Li et al., H-DenseUNet (2018)"
    because = "volumes show them anyway" if plan.dimensions == 3 else "slice by slice; 2.5d, if asked for, has them"
    return "0", because, "rule of this project"
