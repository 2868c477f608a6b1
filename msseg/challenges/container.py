"""A folder from which Docker builds a container for Grand Challenge: a model, this package, and an entry point.

Source: https://grand-challenge.org/documentation/, which mounts the images of one case below /input/images/SLUG/, takes
the label map from /output/images/SLUG/, allows no network and runs as a user without rights.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from msseg.checkpoint import FINAL, LATEST
from msseg.errors import CheckpointError, DatasetError
from msseg.files import atomic_folder
from msseg.pipeline.inference_file import INFERENCE_FILE, Inference, read_inference, write_inference
from msseg.pipeline.model_header import read_header
from msseg.previous_model import INSIDE, previous_from_json

ENTRY = "process.py"
_MEMBER = "member_{}"
_PACKAGES = ("msseg", "planning")
_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_DOCKERFILE = """\
FROM --platform=linux/amd64 python:3.12-slim

RUN groupadd -r user && useradd -m --no-log-init -r -g user user
WORKDIR /opt/app
COPY requirements.txt /opt/app/
RUN python -m pip install --no-cache-dir -r requirements.txt
COPY --chown=user:user . /opt/app/
USER user

ENV PYTHONPATH=/opt/app PYTHONUNBUFFERED=1
ENV MSSEG_CHANNELS="{channels}" MSSEG_SLUG="{slug}"
ENTRYPOINT ["python", "/opt/app/process.py"]
"""


def write_container(folder: Path, model: Path, channels: Sequence[str] = (), slug: str = "segmentation") -> Path:
    """Write Dockerfile, entry point, requirements, the packages and the model to a new folder; that folder.

    `model` is a model folder, or the inference.json of several. `channels` are the input slugs in the order of the
    model's channels, `slug` is the output's. What the same command wrote before is replaced. Raises DatasetError for a
    folder that holds anything else and for slugs that are none, CheckpointError where a model has no trained fold.
    """
    folder, model = Path(folder), Path(model)
    _check(folder, [*channels, slug])
    files = model_files(model)
    with atomic_folder(folder) as new:
        for place, path in files.items():
            target = new / "model" / place
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        if model.is_file():
            _write_inference(new / "model", read_inference(model))
        root = Path(__file__).parents[2]
        for package in _PACKAGES:
            shutil.copytree(root / package, new / package, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        shutil.copyfile(Path(__file__).with_name("container_entry.py"), new / ENTRY)
        (new / "requirements.txt").write_text("".join(f"{line}\n" for line in _requirements()), encoding="utf-8")
        dockerfile = _DOCKERFILE.format(channels=" ".join(channels), slug=slug)
        (new / "Dockerfile").write_text(dockerfile, encoding="utf-8")
    return folder


def _check(folder: Path, slugs: Sequence[str]) -> None:
    wrong = [slug for slug in slugs if not _SLUG.fullmatch(slug)]
    if wrong:
        raise DatasetError(f"{wrong[0]!r}: no slug; expected small letters, digits and hyphens, such as t2-mri.")
    is_other = folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / ENTRY).is_file())
    if is_other:
        raise DatasetError(f"{folder}: holds something else; expected a new folder. Name another with --container.")


def model_files(model: Path) -> dict[str, Path]:
    """What prediction reads, by its place in the container.

    Of a model folder the JSON, and of every fold its final checkpoint, else the latest; of an inference.json the same
    of its members' folds; of a cascade also those of the model before it. Raises CheckpointError where a model has no
    trained fold.
    """
    if not model.is_file():
        return _folder_files(model, None)
    return {
        f"{_MEMBER.format(number)}/{place}": path
        for number, member in enumerate(read_inference(model).members)
        for place, path in _folder_files(member.model, member.folds).items()
    }


def _folder_files(model: Path, folds: Sequence[str] | None) -> dict[str, Path]:
    folders = model.glob("fold_*") if folds is None else [model / f"fold_{fold}" for fold in folds]
    found = [[fold / name for name in (FINAL, LATEST) if (fold / name).is_file()] for fold in folders]
    checkpoints = [paths[0] for paths in found if paths]
    if not checkpoints:
        raise CheckpointError(f"{model}: no trained fold (fold_*/{FINAL}). Train one first (msseg_train).")
    files = {path.relative_to(model).as_posix(): path for path in sorted([*model.glob("*.json"), *checkpoints])}
    previous = previous_from_json(read_header(checkpoints[0]).get("previous_stage"))
    before = {} if previous is None else _folder_files(previous.folder(model), previous.folds)
    return {**files, **{f"{INSIDE}/{place}": path for place, path in before.items()}}


def _write_inference(folder: Path, found: Inference) -> None:
    members = [replace(one, model=folder / _MEMBER.format(number)) for number, one in enumerate(found.members)]
    write_inference(folder / INFERENCE_FILE, replace(found, members=tuple(members)))


def _requirements() -> list[str]:
    """What the package needs, extras left out."""
    try:
        lines = requires("msseg") or []
    except PackageNotFoundError:
        raise DatasetError("msseg is not installed; expected its list of requirements. Install it with pip.") from None
    return [line for line in lines if "extra ==" not in line]
