"""Which format should hold prepared cases? Prints a table of size, times and safety; docs/preprocessing.md has ours.

    pip install blosc2 zarr
    python benchmarks/store_formats.py DATA

DATA holds Task04_Hippocampus and volumes/CT_MR_multiorgan. The large volume is the CT torso zoomed to 512 x 512 x 200
with fresh noise (fixed seed). Times are warm: everything is in the page cache.
"""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blosc2
import nibabel
import numpy as np
import zarr
from scipy import ndimage

from msseg.data import store

Arrays = tuple[np.ndarray, np.ndarray]
Box = tuple[slice, ...]
PATCHES = 50
SECONDS_TO_ANSWER = 20.0
LARGE_SHAPE = (200, 512, 512)


@dataclass(frozen=True)
class Format:
    """How one format writes image (1, z, y, x) and label (z, y, x) under a path, and reads a box of both."""

    write: Callable[[Path, np.ndarray, np.ndarray, tuple[int, ...]], None]
    open: Callable[[Path], Any]
    read: Callable[[Any, Box], Arrays]


def _write_npy(path: Path, image: np.ndarray, label: np.ndarray, patch: tuple[int, ...]) -> None:
    path.mkdir(exist_ok=True)
    np.save(path / "image.npy", image)
    np.save(path / "label.npy", label)


def _open_npy(path: Path) -> Any:
    return [np.load(path / name, mmap_mode="r", allow_pickle=False) for name in ("image.npy", "label.npy")]


def _write_blosc2(path: Path, image: np.ndarray, label: np.ndarray, patch: tuple[int, ...]) -> None:
    path.mkdir(exist_ok=True)
    settings = {"codec": blosc2.Codec.LZ4HC, "clevel": 8, "nthreads": 1}
    for name, array, chunk in (("image", image, (1, *patch)), ("label", label, patch)):
        chunks = tuple(min(c, n) for c, n in zip(chunk, array.shape, strict=True))
        target = str(path / f"{name}.b2nd")
        blosc2.asarray(array, urlpath=target, chunks=chunks, cparams=settings, mode="w")


def _open_blosc2(path: Path) -> Any:
    return [blosc2.open(str(path / name), mode="r", dparams={"nthreads": 1}) for name in ("image.b2nd", "label.b2nd")]


def _write_zarr(path: Path, image: np.ndarray, label: np.ndarray, patch: tuple[int, ...]) -> None:
    chunk = tuple(max(1, side // 2) for side in patch)
    group = zarr.open_group(str(path), mode="w")
    group.create_array("image", data=image, chunks=(1, *chunk))
    group.create_array("label", data=label, chunks=chunk)


def _open_zarr(path: Path) -> Any:
    group = zarr.open_group(str(path), mode="r")
    return [group["image"], group["label"]]


def _write_safetensors(path: Path, image: np.ndarray, label: np.ndarray, patch: tuple[int, ...]) -> None:
    store.write_case(path.parent, path.name, image, label, {}, {}, "key")


def _open_safetensors(path: Path) -> Any:
    case = store.open_case(path.parent, path.name)
    return [case.image, case.label]


def _read(arrays: Any, box: Box) -> Arrays:
    image, label = arrays
    all_channels = (slice(None), *box)
    return np.array(image[all_channels]), np.array(label[box])


FORMATS = {
    "npy, memory map": Format(_write_npy, _open_npy, _read),
    "safetensors, memory map": Format(_write_safetensors, _open_safetensors, _read),
    "blosc2": Format(_write_blosc2, _open_blosc2, _read),
    "zarr": Format(_write_zarr, _open_zarr, _read),
}


def hippocampus(data: Path, cases: int = 40) -> list[Arrays]:
    """z-scored images (1, z, y, x) and labels of the first cases."""
    folder = data / "Task04_Hippocampus"
    arrays = []
    for path in sorted((folder / "imagesTr").glob("*.nii.gz"))[:cases]:
        image = np.asarray(nibabel.load(path).dataobj, np.float32).T[None]
        label = np.asarray(nibabel.load(folder / "labelsTr" / path.name).dataobj).astype(np.uint8).T
        arrays.append(((image - image.mean()) / image.std(), label))
    return arrays


def large_ct(data: Path) -> list[Arrays]:
    """One volume of 200 x 512 x 512 with noise of 15 HU, normalised as a CT is."""
    folder = data / "volumes" / "CT_MR_multiorgan"
    image = np.asarray(nibabel.load(folder / "ct_torso_image.nii.gz").dataobj, np.float32).T
    label = np.rint(np.asarray(nibabel.load(folder / "ct_torso_label.nii.gz").dataobj)).T.astype(np.uint8)
    zoom = [new / old for new, old in zip(LARGE_SHAPE, image.shape, strict=True)]
    noise = np.random.default_rng(0).normal(0, 15, LARGE_SHAPE)
    large = np.rint(ndimage.zoom(image, zoom, order=1) + noise)
    large = ((np.clip(large, -900, 500) - 10) / 200).astype(np.float32)
    return [(large[None], ndimage.zoom(label, zoom, order=0))]


def random_boxes(shapes: Sequence[tuple[int, ...]], patch: tuple[int, ...]) -> list[tuple[int, Box]]:
    """Pairs of case index and box inside it; an axis shorter than the patch is read whole."""
    rng = np.random.default_rng(1)
    boxes = []
    for _ in range(PATCHES):
        index = int(rng.integers(len(shapes)))
        starts = [int(rng.integers(max(n - p, 0) + 1)) for n, p in zip(shapes[index], patch, strict=True)]
        boxes.append((index, tuple(slice(s, s + p) for s, p in zip(starts, patch, strict=True))))
    return boxes


def measure(form: Format, cases: list[Arrays], patch: tuple[int, ...], folder: Path) -> list[str]:
    """One row of the table: MB, write seconds, milliseconds to read a patch of an open case and of a closed one."""
    paths = [folder / f"case_{index:03d}" for index in range(len(cases))]
    start = time.perf_counter()
    for path, (image, label) in zip(paths, cases, strict=True):
        form.write(path, image, label, patch)
    written_s = time.perf_counter() - start
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    boxes = random_boxes([label.shape for _, label in cases], patch)
    opened = [form.open(path) for path in paths]
    for index, box in boxes:  # also warms the page cache
        image, label = form.read(opened[index], box)
        all_channels = (slice(None), *box)
        if not (np.array_equal(image, cases[index][0][all_channels]) and np.array_equal(label, cases[index][1][box])):
            raise RuntimeError("a patch came back changed")
    warm = [_milliseconds(lambda i=index, b=box: form.read(opened[i], b)) for index, box in boxes]
    closed = [_milliseconds(lambda i=index, b=box: form.read(form.open(paths[i]), b)) for index, box in boxes]
    figures = [f"{size / 1e6:.1f}", f"{written_s:.2f}", f"{statistics.median(warm):.2f}"]
    return [*figures, f"{statistics.median(closed):.2f}", *safety(form, cases[-1], patch, paths[-1])]


def _milliseconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def safety(form: Format, case: Arrays, patch: tuple[int, ...], path: Path) -> list[str]:
    """Does it read right in threads, in a forked and a spawned process; what is there after a killed write."""
    box = tuple(slice(0, side) for side in patch)
    opened = form.open(path)
    expected = form.read(opened, box)[0]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: form.read(opened, box)[0], range(16)))
    threads = "right" if all(np.array_equal(result, expected) for result in results) else "WRONG"
    forked = _in_process("fork", _read_sum, (form, opened, path, box, True), float(expected.sum()))
    spawned = _in_process("spawn", _read_sum, (form, None, path, box, False), float(expected.sum()))
    return [threads, forked, spawned, _after_kill(form, case, patch, path.with_name("killed"))]


def _read_sum(queue: Any, form: Format, opened: Any, path: Path, box: Box, inherited: bool) -> None:
    queue.put(float(form.read(opened if inherited else form.open(path), box)[0].sum()))


def _in_process(method: str, function: Callable[..., None], arguments: tuple[Any, ...], expected: float) -> str:
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=function, args=(queue, *arguments))
    process.start()
    process.join(SECONDS_TO_ANSWER)
    if process.is_alive():
        process.kill()
        return "HANGS"
    return "right" if process.exitcode == 0 and queue.get() == expected else "FAILS"


def _write_forever(form: Format, case: Arrays, patch: tuple[int, ...], path: Path, writing: Any) -> None:
    writing.set()
    form.write(path, *case, patch)
    signal.pause()


def _after_kill(form: Format, case: Arrays, patch: tuple[int, ...], path: Path) -> str:
    """Kill a writer half-way: is there nothing under the name, or something broken?"""
    start = time.perf_counter()
    form.write(path.with_name("timed"), *case, patch)
    duration = time.perf_counter() - start
    context = multiprocessing.get_context("fork")
    for share in (0.2, 0.4, 0.6, 0.8):
        writing = context.Event()
        process = context.Process(target=_write_forever, args=(form, case, patch, path, writing))
        process.start()
        writing.wait()
        time.sleep(duration * share)
        process.kill()
        process.join()
        try:
            arrays = form.open(path)
        except (OSError, store.DatasetError):
            if path.exists():
                return "half a case"
            continue
        except (RuntimeError, KeyError, ValueError):
            return "half a case"
        if not all(np.array_equal(np.array(read[...]), wrote) for read, wrote in zip(arrays, case, strict=True)):
            return "half a case, opens"
        return "nothing or all"
    return "nothing or all"


HEADINGS = [
    "format",
    "MB",
    "write s",
    "patch ms",
    "open + patch ms",
    "threads",
    "fork",
    "spawn",
    "killed while writing",
]


def main() -> None:
    """Print one table for the small cases and one for the large."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    sets = {
        "40 hippocampus cases, patch 40 x 56 x 40": (hippocampus(data), (40, 56, 40)),
        "CT of 200 x 512 x 512, patch 128 x 128 x 128": (large_ct(data), (128, 128, 128)),
    }
    for title, (cases, patch) in sets.items():
        print(f"\n{title}\n\n| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}", flush=True)
        for name, form in FORMATS.items():
            with tempfile.TemporaryDirectory() as folder:
                print(f"| {' | '.join([name, *measure(form, cases, patch, Path(folder))])} |", flush=True)


if __name__ == "__main__":
    main()
