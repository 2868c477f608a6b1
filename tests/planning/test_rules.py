"""The table of constants in `docs/planning.md` is the one in `planning/rules.py`."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import planning.rules
from planning.fingerprint import fingerprint_to_json

PAGE = Path(__file__).parents[2] / "docs" / "planning.md"


def test_the_page_prints_every_constant_with_its_value_and_reason():
    rows = [line.split(" | ", 2) for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    rows = [row for row in rows if row[0].strip("| `").isupper()]
    printed = {name.strip("| `"): value.strip("`") for name, value, _ in rows}
    constants = {name: repr(value) for name, value in vars(planning.rules).items() if name.isupper()}
    assert printed == constants
    assert all(len(reason.strip(" |")) > 20 for _, _, reason in rows)


def test_the_example_of_the_page_runs(kits_like, tmp_path, capsys):
    example = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    script = tmp_path / "example.py"
    script.write_text(f"text = {json.dumps(json.dumps(fingerprint_to_json(kits_like)))}\n{example}", encoding="utf-8")
    runpy.run_path(str(script))
    assert "patch 64 × 256 × 224" in capsys.readouterr().out
