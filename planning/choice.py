"""What is planned where the user names nothing: 2D or 3D, and which network. A table of rules, the first match wins."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Final

from planning import rules
from planning.fingerprint import CaseFingerprint, Fingerprint
from planning.networks import MSS_UNET, PLAIN_UNET, VNET_SHARP
from planning.plan import Reason
from planning.sizing import Target


@dataclass(frozen=True)
class Features:
    """What the rules look at.

    `slices` counts those of the median case on the target grid, along the first axis of the plan; `slice_ratio` is how
    many times thicker a slice is than its pixels are wide. `foreground_share` is the median over the cases of the
    labelled part of the image; `object_mm` the median over the cases with labels of the diameter of the ball as large
    as their largest object. The last two are None where the fingerprint does not have them. Of an image that is
    annotated in part, labels and object are taken to go on in the rest as they are there.
    """

    slices: float
    slice_mm: float
    slice_ratio: float
    foreground_share: float | None
    object_mm: float | None


def measure(fingerprint: Fingerprint, target: Target) -> Features:
    """The features of a data set whose volumes are resampled to `target`."""
    cases = fingerprint.cases
    counted = all(case.voxels_per_class for case in cases)
    objects = [size for size in map(_largest_object_mm3, cases) if size > 0]
    return Features(
        slices=target.median_shape[0],
        slice_mm=target.spacing_mm[0],
        slice_ratio=target.spacing_mm[0] / max(target.spacing_mm[1:]),
        foreground_share=median(map(_foreground_share, cases)) if counted else None,
        object_mm=_ball_diameter_mm(median(objects)) if objects else None,
    )


def _foreground_share(case: CaseFingerprint) -> float:
    return sum(case.voxels_per_class) / math.prod(case.cropped_shape) / case.annotated_share


def _largest_object_mm3(case: CaseFingerprint) -> float:
    return max((size for sizes in case.object_sizes_mm3 for size in sizes), default=0.0) / case.annotated_share


def _ball_diameter_mm(volume_mm3: float) -> float:
    return (6 * volume_mm3 / math.pi) ** (1 / 3)


@dataclass(frozen=True)
class Rule:
    """Where `holds`, `decision` is taken; `when` says the condition in words, `because` with the measured features.

    `decides` is one of `DEFAULT`, the configuration that is trained when none is named, and "2d" or "3d", the network
    of that configuration.
    """

    name: str
    decides: str
    holds: Callable[[Features], bool]
    when: str
    decision: str
    because: str
    source: str


DEFAULT: Final = "default_configuration"


def _planar(features: Features) -> bool:
    return features.slices == 1


def _thick_slices(features: Features) -> bool:
    return features.slices < rules.FEWEST_SLICES_TO_RELATE and features.slice_ratio > rules.ANISOTROPY_FACTOR


def _small_sparse_targets(features: Features) -> bool:
    share, diameter = features.foreground_share, features.object_mm
    if share is None or diameter is None:
        return False
    return share <= rules.SPARSE_FOREGROUND_SHARE and diameter <= rules.SMALL_OBJECT_MM


def _always(_features: Features) -> bool:
    return True


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        name="planar images",
        decides=DEFAULT,
        holds=_planar,
        when="one slice",
        decision="2d",
        because="the images are single slices",
        source="rule of this project",
    ),
    Rule(
        name="slices too thick to relate",
        decides=DEFAULT,
        holds=_thick_slices,
        when=f"fewer than {rules.FEWEST_SLICES_TO_RELATE} slices, more than {rules.ANISOTROPY_FACTOR:g} times as thick "
        "as their pixels are wide",
        decision="2d",
        because="{slices:g} slices of {slice_mm:.3g} mm, {slice_ratio:.2g} times as thick as their pixels are wide: "
        "what lies between them is guesswork, and a 3D network could halve so few once at most",
        source="Baumgartner et al. (2017), who find slice by slice better on ACDC's thick slices",
    ),
    Rule(
        name="volumes",
        decides=DEFAULT,
        holds=_always,
        when="else",
        decision="3d",
        because="the images are volumes of {slices:g} slices, {slice_ratio:.2g} times as thick as their pixels are "
        "wide, and context across slices helps",
        source="rule of this project; KiTS19, with slices 3.8 times as thick, is the MSS U-Net's own 3D result",
    ),
    Rule(
        name="small sparse targets",
        decides="3d",
        holds=_small_sparse_targets,
        when=f"at most {rules.SPARSE_FOREGROUND_SHARE:.1%} of the image is labelled, and the largest object is at most "
        f"{rules.SMALL_OBJECT_MM:g} mm across",
        decision=VNET_SHARP.name,
        because="{targets}: small sparse targets, as the lung nodules (LUNA16) on which V-Net# reaches an IoU of .795 "
        "where V-Net reaches .712",
        source="Qian et al., UNet# (2022), Table 1",
    ),
    Rule(
        name="any other volume",
        decides="3d",
        holds=_always,
        when="else",
        decision=MSS_UNET.name,
        because="{targets}; small sparse targets would ask for V-Net#, anything else for multi-scale supervision, with "
        "which kidneys and their tumours gain .007 and .024 Dice on a 3D U-Net",
        source="Zhao et al., MSS U-Net (2020), Table II",
    ),
    Rule(
        name="any slice",
        decides="2d",
        holds=_always,
        when="always",
        decision=PLAIN_UNET.name,
        because="in 2D the papers disagree on the order of the networks (on nuclei Render U-Net's has UNet++ below "
        "U-Net, UNet#'s above) and on membranes they differ by .006, while the nested grids hold several times the "
        "features; this one leaves the memory to patch and batch",
        source="result tables of the Render U-Net, UNet# and U-Net school papers; Baumgartner et al. (2017)",
    ),
)


def choose_configuration(features: Features) -> Reason:
    """The configuration that is trained when none is named, and why; its name is the reason's decision."""
    return _first(DEFAULT, features, DEFAULT)


def choose_network(features: Features, configuration: str, asked: str | None = None) -> Reason:
    """The network of configuration "2d" or "3d", and why; its name is the reason's decision.

    `asked` is the user's word, which wins; the reason then says what the rules would have taken.
    """
    chosen = _first(configuration, features, f"configurations.{configuration}.network")
    if asked is None:
        return chosen
    otherwise = "the rules agree" if asked == chosen.decision else f"the rules would take {chosen.decision}"
    return Reason(chosen.subject, asked, f"it was asked for; {otherwise}: {chosen.because}", "the user")


def _first(decides: str, features: Features, subject: str) -> Reason:
    rule = next(rule for rule in RULES if rule.decides == decides and rule.holds(features))
    words = {**vars(features), "targets": _targets_in_words(features)}
    return Reason(subject, rule.decision, rule.because.format(**words), rule.source)


def _targets_in_words(features: Features) -> str:
    if features.foreground_share is None:
        return "the fingerprint does not say how large the targets are"
    if features.object_mm is None:
        return f"labels take {_percent(features.foreground_share)} of the median image, their objects were not measured"
    return (
        f"labels take {_percent(features.foreground_share)} of the median image, and the largest object of the median "
        f"case is as large as a ball of {features.object_mm:.3g} mm"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
