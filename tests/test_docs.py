"""The examples of the documentation."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
EXAMPLES = [
    pytest.param(code, id=f"{page.name}-{number}")
    for page in PAGES
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M))
]


def imported_names(code: str) -> list[tuple[str, str]]:
    """Module and name of everything that an example imports from a module."""
    imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
    return [(node.module or "", alias.name) for node in imports for alias in node.names]


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_imports_what_exists(code):
    missing = [f"{module}.{name}" for module, name in imported_names(code) if not _exists(module, name)]
    assert missing == []


def _exists(module: str, name: str) -> bool:
    return hasattr(importlib.import_module(module), name)


def test_the_example_of_networks_and_losses_runs():
    page = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.S | re.M)
    names: dict[str, object] = {}
    exec(compile(code, "docs/networks.md", "exec"), names)
    assert all(parameter.grad is not None for parameter in names["network"].parameters())


def test_no_page_links_to_a_file_that_is_not_there():
    links = [(page, target) for page in PAGES for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())]
    missing = [f"{page.name}: {target}" for page, target in links if not (page.parent / target).exists()]
    assert missing == []
