"""What a conversion and a submission will take, from the sizes of files."""

from __future__ import annotations

from pathlib import Path

from msseg.errors import DatasetError
from planning.costs.estimate import Estimate, Part, estimate_of
from planning.costs.machine import Machine

# Pictures are read twice: once to look at them, once to write them. Decoding is by zlib, as inflating gzip is.
_READS = 2
_INFLATED = 3  # bytes of a picture for each byte of its file
_COPIES = 10  # of the largest picture in memory: its stored values, float32, and what is written


def conversion_cost(source: str | Path, machine: Machine, workers: int) -> Estimate:
    """msseg_convert: every file below a folder decoded twice and written once."""
    sizes = _file_sizes(Path(source))
    total, rates = sum(sizes), machine.cases
    decoding_s = _READS * _INFLATED * total / rates.gunzip_to_bytes_per_s
    reading_s = _READS * total / rates.read_bytes_per_s
    process = machine.processes["prepare"]
    workers = min(workers, len(sizes))
    parts = [
        Part("start", process.start_s),
        Part("read", (reading_s + decoding_s) / workers),
        Part("write", (total / rates.write_bytes_per_s + _INFLATED * total / rates.gzip_label_bytes_per_s) / workers),
    ]
    memory = process.resident_bytes + workers * (process.private_bytes + _COPIES * _INFLATED * max(sizes))
    assumptions = [f"pictures inflate to {_INFLATED} times their file, and take as much on disk as they do now"]
    return estimate_of(parts, memory, total, settings=[("workers", str(workers))], assumptions=assumptions)


def submission_cost(source: str | Path, machine: Machine) -> Estimate:
    """msseg_submit: every prediction, or the one file to check, read once."""
    path = Path(source)
    sizes = [path.stat().st_size] if path.is_file() else _file_sizes(path)
    total, rates = sum(sizes), machine.cases
    process = machine.processes["prepare"]
    reading_s = total / rates.read_bytes_per_s + _INFLATED * total / rates.gunzip_to_bytes_per_s
    parts = [Part("start", process.start_s), Part("read", reading_s), Part("write", total / rates.write_bytes_per_s)]
    memory = process.resident_bytes + _COPIES * _INFLATED * max(sizes)
    return estimate_of(parts, memory, total, assumptions=["the submission takes as much on disk as the predictions"])


def _file_sizes(folder: Path) -> list[int]:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    if not sizes:
        raise DatasetError(f"{folder}: no files; expected a folder of them. Name another.")
    return sizes
