"""What a command will take, as a small table, and what it took beside that."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from msseg.errors import ResourceError
from msseg.progress import format_duration
from planning.costs.estimate import Estimate
from planning.costs.machine import Machine

_WIDTH = 100


def estimate_page(program: str, estimate: Estimate, machine: Machine) -> str:
    """The prediction with its parts, the settings that it stands for, and what it assumes."""
    figures = [
        ("wall time", said_duration(estimate.wall_s)),
        ("peak RAM", said_bytes(estimate.ram_bytes)),
        ("peak VRAM", said_bytes(estimate.vram_bytes) if estimate.vram_bytes else "none"),
        ("disk", said_bytes(estimate.disk_bytes) if estimate.disk_bytes else "none"),
    ]
    parts = [(f"  {part.name}", said_duration(part.wall_s)) for part in estimate.parts]
    rows = [figures[0], *parts, *figures[1:]]
    width = max(len(name) for name, _ in rows)
    lines = [f"{program} would take, predicted for {machine.name}, {machine.cores} cores:"]
    lines += [f"  {name.ljust(width)}  {value}" for name, value in rows]
    lines += _listed("with", [f"{name} {value}" for name, value in estimate.settings])
    lines += _listed("assuming", estimate.assumptions)
    return "\n".join(lines)


def _listed(word: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    text = f"{word}: {'; '.join(items)}"
    return textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def said_duration(seconds: float) -> str:
    """A duration as people say it; below ten seconds with a digit more."""
    if not math.isfinite(seconds):
        return "without end"
    return f"{seconds:.1f} s" if seconds < 10 else format_duration(seconds)


def said_bytes(size: float) -> str:
    """Gigabytes, or megabytes below one."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def comparison(predicted: Estimate, took_s: float, took_bytes: int) -> str:
    """One line: the prediction beside what was measured."""
    return (
        f"predicted {said_duration(predicted.wall_s)}, {said_bytes(predicted.ram_bytes)}; "
        f"took {said_duration(took_s)}, {said_bytes(took_bytes)}, children included"
    )


def too_little_memory(what: str, needed_bytes: float, max_bytes: int, why: str, remedy: str) -> ResourceError:
    """The error for a limit that even the least of a command does not fit."""
    return ResourceError(
        f"--max-ram {said_bytes(max_bytes)}: {what} needs at least {said_bytes(needed_bytes)}: {why}. {remedy}"
    )
