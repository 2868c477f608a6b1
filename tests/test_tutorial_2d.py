"""The tutorial of 2D images runs: each of its blocks, in its order, in one folder, with less time and fewer images."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import shlex
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "tutorial_2d.md"
# What the page says, and what takes seconds instead.
_SHORTER = {"--budget 10m": "--budget 5s", "training=16, test=4": "training=6, test=2"}
_FAILS = "# exit code 1"
_COMMANDS_WITH_WORKERS = {
    "msseg_plan_and_preprocess",
    "msseg_train",
    "msseg_predict",
    "msseg_evaluate",
    "msseg_convert",
}


def blocks() -> list[tuple[str, str]]:
    """Language and text of the fenced blocks of the page."""
    page = PAGE.read_text(encoding="utf-8")
    for long, short in _SHORTER.items():
        assert long in page
        page = page.replace(long, short)
    return re.findall(r"^```(\w+)\n(.*?)^```", page, re.S | re.M)


def shown_commands() -> list[str]:
    """The indented lines that call a command and are not run, because they need another data set."""
    return re.findall(r"^ {4}(msseg_\w+ .*)$", PAGE.read_text(encoding="utf-8"), re.M)


def run_line(line: str) -> str:
    """Call one command in this process as its line says; what it printed."""
    name, *arguments = shlex.split(line, comments=True)
    main = importlib.import_module(f"msseg.commands.{name.removeprefix('msseg_')}").main
    workers = ["--workers", "1"] if name in _COMMANDS_WITH_WORKERS else []
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = main([*arguments, *workers])
    assert code == (1 if _FAILS in line else 0), f"{line}\n{said.getvalue()}"
    return said.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a reader has followed the page to its end; what the commands said is in `said.txt`."""
    place = tmp_path_factory.mktemp("tutorial")
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.delenv("MSSEG_ROOT", raising=False)
        for language, text in blocks():
            if language == "python":
                exec(compile(text, PAGE.name, "exec"), {})
            else:
                said += [run_line(line) for line in text.splitlines()]
    (place / "said.txt").write_text("\n".join(said), encoding="utf-8")
    return place


def test_every_block_of_the_page_runs(folder: Path):
    assert (folder / "msseg_data" / "models" / "cells").is_dir()


def test_objects_are_numbered_and_masks_are_not(folder: Path):
    from msseg.data.image import read_label

    names = sorted(path.name for path in (folder / "cells" / "test" / "images").iterdir())
    for name in names:
        objects, masks = (read_label(folder / part / name)[0] for part in ("objects", "masks"))
        assert objects.shape == masks.shape == read_label(folder / "cells" / "test" / "instances" / name)[0].shape
        assert masks.max() <= 1


def test_pictures_and_submission_are_there(folder: Path):
    assert (folder / "objects" / "pictures" / "overview.png").is_file()
    assert (folder / "submission.csv").read_text().startswith("ImageId,EncodedPixels")


def test_a_broken_image_is_named_and_harms_no_other(folder: Path):
    assert "cells_003" in (folder / "said.txt").read_text(encoding="utf-8")
    written = {path.name for path in (folder / "damaged_objects").glob("*.png")}
    assert written == {f"cells_{index:03d}.png" for index in (0, 1, 2, 4, 5)}


@pytest.mark.parametrize("line", shown_commands())
def test_a_command_that_is_only_shown_has_the_options_it_uses(line: str):
    name, *arguments = shlex.split(line, comments=True)
    main = importlib.import_module(f"msseg.commands.{name.removeprefix('msseg_')}").main
    with contextlib.redirect_stdout(io.StringIO()) as said, pytest.raises(SystemExit):
        main(["--help"])
    assert all(option in said.getvalue() for option in arguments if option.startswith("--"))
