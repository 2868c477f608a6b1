"""What a command will take: the sum of named parts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One step of a command and its share of the wall time, in seconds."""

    name: str
    wall_s: float


@dataclass(frozen=True)
class Estimate:
    """Wall time in seconds; bytes: peaks of main memory (all processes) and of a graphics card, what lands on disk.

    `parts` add up to the wall time. `settings` are choices that the figures stand for, such as workers, and
    `assumptions` what is not known before the command runs.
    """

    wall_s: float
    ram_bytes: int
    vram_bytes: int
    disk_bytes: int
    parts: tuple[Part, ...]
    settings: tuple[tuple[str, str], ...] = ()
    assumptions: tuple[str, ...] = ()


def estimate_of(
    parts: Iterable[Part],
    ram_bytes: float,
    disk_bytes: float = 0,
    vram_bytes: float = 0,
    settings: Iterable[tuple[str, str]] = (),
    assumptions: Iterable[str] = (),
) -> Estimate:
    """The estimate whose wall time is the sum of the parts; parts of no time are left out."""
    told = tuple(part for part in parts if part.wall_s > 0)
    return Estimate(
        wall_s=sum(part.wall_s for part in told),
        ram_bytes=round(ram_bytes),
        vram_bytes=round(vram_bytes),
        disk_bytes=round(disk_bytes),
        parts=told,
        settings=tuple(settings),
        assumptions=tuple(assumptions),
    )


def in_sequence(estimates: Iterable[tuple[str, Estimate]]) -> Estimate:
    """One after the other: times and disk add up, of memory the largest counts; a part each."""
    named = list(estimates)
    each = [estimate for _, estimate in named]
    return estimate_of(
        parts=(Part(name, estimate.wall_s) for name, estimate in named),
        ram_bytes=max(estimate.ram_bytes for estimate in each),
        vram_bytes=max(estimate.vram_bytes for estimate in each),
        disk_bytes=sum(estimate.disk_bytes for estimate in each),
        settings=dict.fromkeys(setting for estimate in each for setting in estimate.settings),
        assumptions=dict.fromkeys(one for estimate in each for one in estimate.assumptions),
    )
