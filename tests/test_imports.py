"""The rules of the house that the import statements can break."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STANDARD = set(sys.stdlib_module_names)
COMMANDS = ["plan_and_preprocess", "plan", "networks", "train", "predict", "evaluate", "prune", "export", "demo"]
COMMANDS += ["import_nnunet", "speeds", "convert", "submit", "find_best", "ensemble"]


def imported_modules(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, at any depth."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def files_below(folder: str) -> list[Path]:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files, f"{folder} holds no Python file"
    return files


def packages_imported_below(folder: str) -> set[str]:
    return {name.split(".")[0] for path in files_below(folder) for name in imported_modules(path)}


def modules_imported_below(folder: str) -> set[str]:
    return {name for path in files_below(folder) for name in imported_modules(path)}


def test_planning_imports_the_standard_library_numpy_and_itself_only():
    assert packages_imported_below("planning") <= STANDARD | {"numpy", "planning"}


def test_networks_see_torch_planning_and_the_reader_of_weights_only():
    foreign = {name for name in modules_imported_below("msseg/networks") if not name.startswith("msseg.networks")}
    assert {name.split(".")[0] for name in foreign} <= STANDARD | {"torch", "planning", "safetensors"}


def test_trainer_and_predictor_do_not_import_each_other():
    assert not [name for name in modules_imported_below("msseg/training") if name.startswith("msseg.inference")]
    assert not [name for name in modules_imported_below("msseg/inference") if name.startswith("msseg.training")]


@pytest.mark.parametrize("package", ["planning", "msseg"])
def test_nothing_is_pickled_or_evaluated(package):
    assert not packages_imported_below(package) & {"pickle", "dill", "joblib", "shelve", "marshal"}


def test_only_the_command_line_reads_arguments():
    readers = [path for path in files_below("msseg") if {"argparse"} & imported_modules(path)]
    assert {path.parent.name for path in readers} == {"commands"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_loads_nothing_heavy_before_it_has_read_its_arguments(command):
    heavy = ["torch", "SimpleITK", "nibabel", "scipy", "skimage", "cc3d", "matplotlib", "numpy", "tqdm"]
    code = (
        f"import sys; from msseg.commands.{command} import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        f"print(*[name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr.split() == []


def test_every_exported_name_exists():
    import msseg

    assert [name for name in msseg.__all__ if getattr(msseg, name) is None] == []
    with pytest.raises(AttributeError, match="plan_and_preprocess"):
        _ = msseg.no_such_name
