"""The phases of the heart, which ACDC tells apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from msseg.evaluation.case import CaseMetrics

DIASTOLE, SYSTOLE = "ED", "ES"
_PHASE_VOLUME = "left_ventricle"


def phases_of(cases: Sequence[CaseMetrics]) -> dict[str, str]:
    """The heart's phase in each case: as its name ends (`_ED`, `_ES`), else by the volume of the left ventricle.

    Of the two frames of a patient (`patient001_frame01`, `patient001_frame12`) the one with more of it in the reference
    is the diastole. A case whose phase neither tells is left out.
    """
    phases = {}
    frames: dict[str, list[CaseMetrics]] = {}
    for case in cases:
        patient, _, frame = case.name.rpartition("_")
        if frame in (DIASTOLE, SYSTOLE):
            phases[case.name] = frame
        else:
            frames.setdefault(patient, []).append(case)
    for pair in frames.values():
        if len(pair) == 2 and all(_PHASE_VOLUME in case.labels for case in pair):
            smaller, larger = sorted(pair, key=lambda case: case.labels[_PHASE_VOLUME].reference_ml)
            phases |= {smaller.name: SYSTOLE, larger.name: DIASTOLE}
    return phases


def phase_row(region: str, phase: str) -> str:
    """What a region's figures in a phase are called; the region alone where the phase is not known."""
    return f"{region} {phase}".strip()
