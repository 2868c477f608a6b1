"""Scores of many classes brought to the image's grid as they come: processor and wall seconds, peak memory.

    python benchmarks/export_memory.py [--classes 61] [--prepared 149 426 515] [--image 224 388 469] [--rows 24]
    python benchmarks/export_memory.py --nnunet /venv/with/nnunet/bin/python --classes 12

The scores are smooth and random and made slab by slab, which does not count; so the peak is that of a process which
holds one slab. With `--nnunet`, nnU-Net's own export function takes as many classes, all scores at once, in its
environment.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from measure import measure

HERE = Path(__file__).parent
_COARSE = (12, 30, 36)


def export(num_classes: int, prepared: Sequence[int], image: Sequence[int], rows: int) -> dict[str, float]:
    """Seconds that labelling took, wall and processor, and how many classes came out."""
    import numpy as np
    import torch

    from msseg.inference.collectors import LargestClass
    from msseg.inference.score_stream import ScoreStream

    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(num_classes, *_COARSE, generator=generator)
    largest = LargestClass(num_classes, image)
    stream = ScoreStream([largest], prepared, image, order=1)
    wall = cpu = 0.0
    with torch.inference_mode():
        for start in range(0, prepared[0], rows):
            slab = _smooth(coarse, prepared, slice(start, min(start + rows, prepared[0])))
            before = time.monotonic(), time.process_time()
            stream.push(slab)
            wall, cpu = wall + time.monotonic() - before[0], cpu + time.process_time() - before[1]
            del slab
    return {"wall_s": wall, "cpu_s": cpu, "classes": len(np.unique(largest.labels()))}


def _smooth(coarse, prepared: Sequence[int], rows: slice):
    """Rows of scores (k, rows, y, x), interpolated from coarse ones."""
    import torch
    from torch.nn import functional

    position = torch.linspace(0, coarse.shape[1] - 1, prepared[0])[rows]
    lower = position.long().clamp(max=coarse.shape[1] - 2)
    share = (position - lower)[:, None, None]
    slab = torch.empty(len(coarse), len(position), *prepared[1:])
    for scores, its in zip(slab, coarse, strict=True):
        between = torch.lerp(its[lower], its[lower + 1], share)
        scores.copy_(functional.interpolate(between[None], size=tuple(prepared[1:]), mode="bilinear")[0])
    return slab


def _numbers(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def _command(arguments: argparse.Namespace, work: Path) -> list[str]:
    if arguments.nnunet is None:
        sizes = [*map(str, arguments.prepared), "--image", *map(str, arguments.image)]
        own = ["--classes", str(arguments.classes), "--rows", str(arguments.rows), "--prepared", *sizes]
        return [sys.executable, __file__, "--here", *own]
    peer = [str(arguments.nnunet), str(HERE / "nnunet_peer.py"), "export", str(work), "Dataset161_Made"]
    return [*peer, str(arguments.classes), _numbers(arguments.prepared), _numbers(arguments.image)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=61)
    parser.add_argument("--prepared", type=int, nargs=3, default=(149, 426, 515), help="the scores' grid")
    parser.add_argument("--image", type=int, nargs=3, default=(224, 388, 469), help="the image's grid")
    parser.add_argument("--rows", type=int, default=24, help="rows of scores that are final at a time")
    parser.add_argument("--nnunet", type=Path, help="python of an environment with nnunetv2")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(export(arguments.classes, arguments.prepared, arguments.image, arguments.rows)))
        return
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        measured = measure(_command(arguments, Path(folder)), log)
        found = log.read_text().strip().splitlines()[-1]
    print(f"{found} process: {measured.wall_s:.1f} s, peak {measured.peak_bytes / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
