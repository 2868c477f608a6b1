"""Plain-text tables for a terminal: aligned columns, no dependency."""

from __future__ import annotations

from collections.abc import Sequence

from msseg.evaluation.challenge_summary import ChallengeSummary
from msseg.evaluation.evaluate import Evaluation
from msseg.evaluation.object_summary import ObjectSummary
from msseg.evaluation.overlap import OVERLAP_METRICS

# Metric → heading and decimals; ratios need four to tell two models apart, a distance in mm two.
_COLUMNS = {
    "dice": ("Dice", 4),
    "jaccard": ("Jaccard", 4),
    "accuracy": ("accuracy", 4),
    "precision": ("precision", 4),
    "recall": ("recall", 4),
    "hausdorff_mm": ("HD mm", 2),
    "hd95_mm": ("HD95 mm", 2),
    "assd_mm": ("ASSD mm", 2),
    "nsd": ("NSD", 4),
}
_OBJECT_COLUMNS = {
    "object_f1": "F1",
    "object_precision": "precision",
    "object_recall": "recall",
    "object_f1_75": "F1 at 0.75",
    "object_f1_90": "F1 at 0.9",
    "dsb2018": "DSB2018",
    "aji": "AJI",
    "pq": "PQ",
}
# The same for what challenges measure.
_RANKED_COLUMNS = {
    "dice": ("Dice", 4),
    "dice_global": ("global Dice", 4),
    "hausdorff_mm": ("HD mm", 2),
    "hd95_mm": ("HD95 mm", 2),
    "robust_hd95_mm": ("HD95 mm", 2),
    "assd_mm": ("ASSD mm", 2),
    "sensitivity": ("sensitivity", 4),
    "specificity": ("specificity", 4),
    "voe": ("VOE", 4),
    "rvd": ("RVD", 4),
    "ravd_percent": ("RAVD %", 2),
    "dice_score": ("Dice score", 2),
    "ravd_score": ("RAVD score", 2),
    "assd_score": ("ASSD score", 2),
    "mssd_score": ("MSSD score", 2),
    "surface_dice": ("surface Dice", 4),
    "lesions_found": ("found", 2),
    "lesions_false": ("false", 2),
    "lesions_missed": ("missed", 2),
    "lesion_precision": ("lesion precision", 4),
    "lesion_recall": ("lesion recall", 4),
    "lesion_dice": ("lesion Dice", 4),
    "lesion_hd95_mm": ("lesion HD95 mm", 2),
    "v_rand": ("V Rand", 4),
    "v_info": ("V Info", 4),
    "dsb2018": ("DSB2018 score", 4),
}
_NOTHING = "–"
_NAMED_CASES = 5


def evaluation_table(evaluation: Evaluation) -> str:
    """The evaluation as a page for the terminal: a row a label, the mean, and below it all that needs saying."""
    metrics = [name for name in _COLUMNS if evaluation.options.surfaces or name in OVERLAP_METRICS]
    headings = ["label", *(_heading(name, evaluation) for name in metrics), "pooled Dice", "cases"]
    rows = [
        [
            label,
            *(_number(summary.mean[name], name) for name in metrics),
            _number(summary.pooled["dice"], "dice"),
            str(summary.counted["dice"]),
        ]
        for label, summary in evaluation.summary.items()
    ]
    overall = [_number(evaluation.mean_foreground.get(name), name) for name in metrics]
    rows.append(["mean", *overall, _number(evaluation.pooled_foreground.get("dice"), "dice"), ""])
    objects = [] if evaluation.objects is None else ["", _object_table(evaluation.objects)]
    challenge = [] if evaluation.challenge is None else ["", challenge_table(evaluation.challenge)]
    return "\n".join([aligned(headings, rows), *objects, *challenge, *_remarks(evaluation)])


def challenge_table(summary: ChallengeSummary) -> str:
    """The challenge's figures: a row a region, those of all cases together, and the line that ranks."""
    metrics = list(dict.fromkeys(name for values in summary.mean.values() for name in values))
    rows = [
        [row, *(_ranked(values.get(name), name) for name in metrics), str(max(summary.counted[row].values()))]
        for row, values in summary.mean.items()
        if values
    ]
    table = [aligned([summary.title, *(_RANKED_COLUMNS[name][0] for name in metrics), "cases"], rows)] if rows else []
    pooled = [
        f"{region}: {', '.join(f'{_RANKED_COLUMNS[name][0]} {_ranked(value, name)}' for name, value in values.items())}"
        for region, values in summary.pooled.items()
        if values
    ]
    return "\n".join([*table, *pooled, _ranking_line(summary)])


def _ranking_line(summary: ChallengeSummary) -> str:
    names = " and ".join(_RANKED_COLUMNS[name][0] for name in summary.ranked_by)
    score = _ranked(summary.score, summary.ranked_by[0])
    of = f" of {', '.join(summary.ranked_regions)}" if summary.ranked_regions else ""
    return f"As {summary.title} ranks: {score} (mean {names}{of})."


def _ranked(value: float | None, name: str) -> str:
    return _NOTHING if value is None else f"{value:.{_RANKED_COLUMNS[name][1]}f}"


def _object_table(objects: ObjectSummary) -> str:
    """The objects' figures: the mean over cases, and all cases' objects together."""
    rows = [
        [name, *(_ratio(values[metric]) for metric in _OBJECT_COLUMNS), str(counted)]
        for name, values, counted in (
            ("mean of the cases", objects.mean, objects.counted),
            ("all objects together", objects.pooled, objects.counted),
        )
    ]
    return aligned(["objects, IoU above 0.5", *_OBJECT_COLUMNS.values(), "cases"], rows)


def _ratio(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.4f}"


def aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The rows under their headings, first column flush left, the others flush right, a rule between."""
    columns = list(zip(headings, *rows, strict=True))
    widths = [max(len(entry) for entry in column) for column in columns]
    rule = ["-" * width for width in widths]
    return "\n".join(_line(row, widths) for row in [headings, rule, *rows])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(row, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(entry.rjust(width) for entry, width in others)]).rstrip()


def _heading(name: str, evaluation: Evaluation) -> str:
    heading = _COLUMNS[name][0]
    heading = f"{heading} {evaluation.options.tolerance_mm:g} mm" if name == "nsd" else heading
    return heading if evaluation.has_spacing else heading.replace(" mm", " px")


def _number(value: float | None, name: str) -> str:
    return _NOTHING if value is None else f"{value:.{_COLUMNS[name][1]}f}"


def _remarks(evaluation: Evaluation) -> list[str]:
    remarks = []
    if evaluation.options.ignore is not None and not evaluation.options.instances:
        remarks.append(f"Left out: what the references mark as not annotated (value {evaluation.options.ignore}).")
    if evaluation.objects is not None and evaluation.objects.both_empty:
        remarks.append(f"{evaluation.objects.both_empty} case(s) without an object on either side: in no mean.")
    for label, summary in evaluation.summary.items():
        if summary.both_empty:
            remarks.append(f"{label}: in {summary.both_empty} case(s) on neither side, left out of the means.")
        if summary.missed:
            remarks.append(f"{label}: missed entirely in {summary.missed} case(s), Dice 0.")
        if summary.invented:
            remarks.append(f"{label}: found in {summary.invented} case(s) where the reference has none, Dice 0.")
    for case in evaluation.cases:
        for side, values in case.undeclared.items():
            found = ", ".join(f"{value} ({voxels} voxels)" for value, voxels in values.items())
            remarks.append(f"{case.name}: the {side} holds values that no label declares: {found}.")
    if evaluation.missing:
        remarks.append(f"No prediction for {len(evaluation.missing)} case(s): {_named(evaluation.missing)}.")
    if evaluation.unexpected:
        remarks.append(f"No reference for {len(evaluation.unexpected)} prediction(s): {_named(evaluation.unexpected)}.")
    remarks.extend(f"Not evaluated: {reason}" for reason in evaluation.failed.values())
    return remarks


def _named(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_CASES
    return ", ".join(names[:_NAMED_CASES]) + (f" and {more} more" if more > 0 else "")
