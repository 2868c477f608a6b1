"""How each challenge ranks, as data: regions, metrics of a case, what an empty region counts, what is averaged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from msseg.errors import DatasetError
from msseg.evaluation.lesions import LesionRule
from msseg.evaluation.phases import phase_row, phases_of

if TYPE_CHECKING:
    from msseg.evaluation.case import CaseMetrics, EvaluationOptions
    from msseg.evaluation.evaluate import Evaluation

Regions = Mapping[str, int | Sequence[int]]
Tolerances = Callable[[Regions, float], Mapping[str, float]]


def _as_given(regions: Regions, default_mm: float) -> dict[str, float]:
    return dict.fromkeys(regions, default_mm)


@dataclass(frozen=True)
class Ranking:
    """One challenge's way to rank.

    `regions`: names with their values in the challenge's files; None: the labels of the data set. `metrics`: those of
    `region_metrics.REGION_METRICS` for every region and case. `both_empty`, `one_empty`: what they are where a region
    is on neither side (else: not defined, in no mean) or on one side alone (else: as measured). `pooled`: figures of
    all cases together; `omitted`: what a region has not of these and of the metrics. `ranked_by`: whose means over the
    cases, of the regions in `ranked_regions` (None: all), are averaged to the figure that ranks; more is better.
    `lesions`: how lesions are parted, by region where `lesions_by_region` has it.
    `phases`: systole and diastole are told apart. `objects`: the figure is one of the numbered objects.
    """

    title: str
    ranked_by: tuple[str, ...]
    source: str
    regions: Regions | None = None
    metrics: tuple[str, ...] = ()
    both_empty: Mapping[str, float] = field(default_factory=dict)
    one_empty: Mapping[str, float] = field(default_factory=dict)
    pooled: tuple[str, ...] = ()
    omitted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ranked_regions: tuple[str, ...] | None = None
    tolerances: Tolerances = _as_given
    lesions: LesionRule | None = None
    lesions_by_region: Mapping[str, LesionRule] = field(default_factory=dict)
    phases: bool = False
    objects: bool = False

    def lesions_of(self, region: str) -> LesionRule | None:
        """How the lesions of that region are parted and weighed; None of a challenge that does not ask for lesions."""
        return self.lesions_by_region.get(region, self.lesions)

    def metrics_of(self, region: str) -> tuple[str, ...]:
        """What is measured of that region in every case."""
        return tuple(name for name in self.metrics if name not in self.omitted.get(region, ()))

    def pooled_of(self, region: str) -> tuple[str, ...]:
        """What is measured of that region in all cases together."""
        return tuple(name for name in self.pooled if name not in self.omitted.get(region, ()))


_NO_LESIONS = {"lesions_found": 0.0, "lesions_false": 0.0, "lesions_missed": 0.0}
_LOST_SURFACE = {"surface_dice": 0.0}
_CHAOS_SCORES = ("dice_score", "ravd_score", "assd_score", "mssd_score")
# The diagonal of BraTS's grid of 240 x 240 x 155 mm; its lesion-wise program rounds up to 374, and has 337 for the
# grid of 182 x 218 x 182 mm of 2024.
_BRATS_LOST_MM, _BRATS23_LOST_MM, _BRATS24_LOST_MM = 373.13, 374.0, 337.0
# Label 4 enhances until 2021, label 3 since 2023; what 2024 calls 4 is the resection cavity.
_BRATS21_REGIONS: Regions = {"whole": (1, 2, 4), "core": (1, 4), "enhancing": 4}
_BRATS23_REGIONS: Regions = {"whole": (1, 2, 3), "core": (1, 3), "enhancing": 3}
_BRATS24_REGIONS: Regions = {
    **_BRATS23_REGIONS,
    "non_enhancing_core": 1,
    "flair_hyperintensity": 2,
    "resection_cavity": 4,
}
_BRATS24_LESIONS = LesionRule(dilation=3, smallest_mm3=20.0, lost_mm=_BRATS24_LOST_MM, joins_predicted=True)
_BRATS_BOTH_EMPTY = {"dice": 1.0, "sensitivity": 1.0, "specificity": 1.0}

# `HEC_SD_TOLERANCES_MM` of kits23/configuration/labels.py in neheller/kits23: what annotators agree on.
KITS23_TOLERANCES_MM = {
    "kidney_and_masses": 1.0330772532390826,
    "masses": 1.1328796488598762,
    "tumour": 1.1498198361434828,
}

# Antonelli et al. 2022 (Nature Communications 13:4128), methods: tolerance in mm that clinicians chose for each task,
# by the names of its labels.
DECATHLON_TASKS: Mapping[str, tuple[float, frozenset[str]]] = {
    "Task01_BrainTumour": (5.0, frozenset({"edema", "non-enhancing tumor", "enhancing tumour"})),
    "Task02_Heart": (4.0, frozenset({"left atrium"})),
    "Task03_Liver": (7.0, frozenset({"liver", "cancer"})),
    "Task04_Hippocampus": (1.0, frozenset({"anterior", "posterior"})),
    "Task05_Prostate": (4.0, frozenset({"pz", "tz"})),
    "Task06_Lung": (2.0, frozenset({"cancer"})),
    "Task07_Pancreas": (5.0, frozenset({"pancreas", "cancer"})),
    "Task08_HepaticVessel": (3.0, frozenset({"vessel", "tumour"})),
    "Task09_Spleen": (3.0, frozenset({"spleen"})),
    "Task10_Colon": (4.0, frozenset({"colon cancer primaries"})),
}


def decathlon_tolerances(regions: Regions, default_mm: float) -> dict[str, float]:
    """The tolerance in mm of each label of a Decathlon task, which its labels' names tell; else the default."""
    names = frozenset(name.lower() for name in regions)
    tolerance_mm = next((mm for mm, labels in DECATHLON_TASKS.values() if labels == names), default_mm)
    return dict.fromkeys(regions, tolerance_mm)


_BRATS21 = Ranking(
    title="BraTS until 2021",
    source="Bakas et al. 2018, section 2.3; empty regions as the challenge's platform reports them",
    regions=_BRATS21_REGIONS,
    metrics=("dice", "hd95_mm", "sensitivity", "specificity"),
    both_empty={**_BRATS_BOTH_EMPTY, "hd95_mm": 0.0},
    one_empty={"hd95_mm": _BRATS_LOST_MM},
    ranked_by=("dice",),
)
_BRATS23 = Ranking(
    title="BraTS 2023",
    source="rachitsaluja/BraTS-2023-Metrics, BraTS-GLI",
    regions=_BRATS23_REGIONS,
    metrics=("lesion_dice", "lesion_hd95_mm", "dice", "robust_hd95_mm", "sensitivity", "specificity"),
    both_empty={**_BRATS_BOTH_EMPTY, "robust_hd95_mm": 0.0, "lesion_dice": 1.0, "lesion_hd95_mm": 0.0},
    one_empty={"robust_hd95_mm": _BRATS23_LOST_MM},
    lesions=LesionRule(dilation=3, smallest_mm3=50.0, lost_mm=_BRATS23_LOST_MM),
    ranked_by=("lesion_dice",),
)
_BRATS24 = replace(
    _BRATS23,
    title="BraTS 2024, gliomas after treatment",
    source="metrics_GLI.py of rachitsaluja/BraTS-2024-Metrics",
    regions=_BRATS24_REGIONS,
    one_empty={"robust_hd95_mm": _BRATS24_LOST_MM},
    lesions=_BRATS24_LESIONS,
    lesions_by_region={
        "enhancing": replace(_BRATS24_LESIONS, smallest_mm3=10.0),
        **dict.fromkeys(("non_enhancing_core", "resection_cavity"), replace(_BRATS24_LESIONS, dilation=5)),
    },
)
_CHAOS = Ranking(
    title="CHAOS",
    source="Kavur et al. 2021, table 4; emrekavur/CHAOS-evaluation",
    metrics=("dice", "ravd_percent", "assd_mm", "hausdorff_mm", *_CHAOS_SCORES),
    one_empty=dict.fromkeys(_CHAOS_SCORES, 0.0),
    ranked_by=_CHAOS_SCORES,
)


def _kits23_tolerances(regions: Regions, default_mm: float) -> dict[str, float]:
    return {name: KITS23_TOLERANCES_MM.get(name, default_mm) for name in regions}


RANKINGS: Mapping[str, Ranking] = {
    "kits19": Ranking(
        title="KiTS19",
        source="starter_code/evaluation.py of neheller/kits19; Heller et al. 2021",
        regions={"kidney": (1, 2), "tumour": 2},
        metrics=("dice",),
        ranked_by=("dice",),
    ),
    "kits23": Ranking(
        title="KiTS23",
        source="kits23/evaluation/metrics.py of neheller/kits23",
        regions={"kidney_and_masses": (1, 2, 3), "masses": (2, 3), "tumour": 2},
        metrics=("dice", "surface_dice"),
        both_empty={"dice": 1.0, "surface_dice": 1.0},
        one_empty=_LOST_SURFACE,
        tolerances=_kits23_tolerances,
        ranked_by=("dice", "surface_dice"),
    ),
    "lits17": Ranking(
        title="LiTS17",
        source="Bilic et al. 2023, section 2.3; PatrickChrist/lits-challenge-scoring",
        regions={"liver": (1, 2), "tumour": 2},
        metrics=("dice", "voe", "rvd", "assd_mm", "hausdorff_mm", *_NO_LESIONS),
        both_empty={"dice": 1.0, **_NO_LESIONS},
        pooled=("dice_global", "lesion_precision", "lesion_recall"),
        omitted={"liver": (*_NO_LESIONS, "lesion_precision", "lesion_recall")},
        ranked_by=("dice",),
        ranked_regions=("tumour",),
    ),
    **dict.fromkeys(("chaos", "chaos_ct", "chaos_t1", "chaos_t2"), _CHAOS),
    **dict.fromkeys(("brats19", "brats20", "brats21"), _BRATS21),
    "brats23": _BRATS23,
    "brats24": _BRATS24,
    "acdc": Ranking(
        title="ACDC",
        source="Bernard et al. 2018, section III",
        regions={"right_ventricle": 1, "myocardium": 2, "left_ventricle": 3},
        metrics=("dice", "hausdorff_mm"),
        ranked_by=("dice",),
        phases=True,
    ),
    "decathlon": Ranking(
        title="the Medical Segmentation Decathlon",
        source="Antonelli et al. 2022, methods",
        metrics=("dice", "surface_dice"),
        one_empty=_LOST_SURFACE,
        tolerances=decathlon_tolerances,
        ranked_by=("dice", "surface_dice"),
    ),
    "dsb2018": Ranking(
        title="the Data Science Bowl 2018",
        source="Caicedo et al. 2019; evaluation page of the competition",
        objects=True,
        ranked_by=("dsb2018",),
    ),
    "isbi2012": Ranking(
        title="ISBI 2012",
        source="Arganda-Carreras et al. 2015; brainiac2.mit.edu/isbi_challenge/evaluation",
        metrics=("v_rand", "v_info"),
        one_empty={"v_rand": 0.0, "v_info": 0.0},
        ranked_by=("v_rand",),
    ),
}


def find_ranking(name: str) -> Ranking:
    """The way that challenge ranks; DatasetError that lists the known ones for any other name."""
    if name not in RANKINGS:
        raise DatasetError(f"{name}: no challenge whose ranking is known. Known are {', '.join(RANKINGS)}.")
    return RANKINGS[name]


def ranking_labels(name: str, labels: Regions | None) -> Regions | None:
    """The regions that challenge measures, in the values of the data set with these labels (None: unknown).

    A region of several values that the data set itself declares by the same name stands before the challenge's own.
    None is all labels of the files.
    """
    ranking = find_ranking(name)
    if ranking.regions is None:
        return labels
    declared = {region: values for region, values in (labels or {}).items() if not isinstance(values, int)}
    return {region: declared.get(region, values) for region, values in ranking.regions.items()}


@dataclass(frozen=True)
class ChallengeMetric:
    """The figure by which the challenge of that name ranks, of an evaluation with these `labels` and `options`.

    Called with the evaluation: a float, more is better, NaN where nothing could be measured.
    """

    name: str

    def __call__(self, evaluation: Evaluation) -> float:
        summary = evaluation.challenge
        if summary is None or summary.challenge != self.name:
            raise ValueError(f"the evaluation was not made with EvaluationOptions(challenge={self.name!r})")
        return float("nan") if summary.score is None else summary.score

    def labels(self, labels: Regions) -> Regions:
        """The regions to evaluate in a data set with these labels."""
        return ranking_labels(self.name, labels) or labels

    def options(self) -> EvaluationOptions:
        """The options to evaluate with."""
        from msseg.evaluation.case import EvaluationOptions

        return EvaluationOptions(challenge=self.name, instances=find_ranking(self.name).objects or None)

    def terms(self, cases: Sequence[CaseMetrics]) -> list[dict[str, float | None]]:
        """What each case adds: the figure is the mean over these names of their means over the cases, None left out.

        Where a challenge tells phases apart, a case adds to the names of its phase alone.
        """
        phases = phases_of(cases) if find_ranking(self.name).phases else {}
        return [self._terms(case, phases.get(case.name, "")) for case in cases]

    def _terms(self, case: CaseMetrics, phase: str) -> dict[str, float | None]:
        ranking = find_ranking(self.name)
        if ranking.objects:
            return {name: None if case.objects is None else case.objects.values[name] for name in ranking.ranked_by}
        values = case.challenge or {}
        regions = [one for one in values if ranking.ranked_regions is None or one in ranking.ranked_regions]
        return {
            f"{phase_row(region, phase)} {name}": values[region][name]
            for region in regions
            for name in ranking.ranked_by
        }
