"""The files of probabilities in a folder of predictions."""

from __future__ import annotations

from pathlib import Path

ENDING = ".probabilities.npz"


def probability_files(folder: Path) -> dict[str, Path]:
    """The `CASE.probabilities.npz` of a folder by case, sorted; hidden files left out."""
    paths = sorted(folder.glob(f"*{ENDING}"))
    return {path.name.removesuffix(ENDING): path for path in paths if not path.name.startswith(".")}
