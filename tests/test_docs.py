"""The examples of the documentation."""

import ast
import configparser
import contextlib
import importlib
import io
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


def console_scripts() -> dict[str, str]:
    """The module of each console script."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = setup["options.entry_points"]["console_scripts"].split("\n")
    named = (line.split("=") for line in lines if line.strip())
    return {name.strip(): target.strip().removesuffix(":main") for name, target in named}


def written_options(script: str) -> set[tuple[str, str]]:
    """Every option that a page gives to a console script, with the page: in examples and in running text.

    A command ends with its line (unless that ends in a backslash), its comment, its closing backtick or a pipe.
    """
    command = re.compile(rf"(?<![\w/])(?:{script}|-m {re.escape(console_scripts()[script])})\b((?:\\\n|[^\n`#|])*)")
    return {
        (page.name, option)
        for page in PAGES
        for arguments in command.findall(page.read_text(encoding="utf-8"))
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", arguments)
    }


@pytest.mark.parametrize("script", console_scripts())
def test_a_command_in_the_documentation_has_the_options_that_it_is_given(script):
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
        importlib.import_module(console_scripts()[script]).main(["--help"])
    known = set(re.findall(r"--[a-z][a-z-]*", said.getvalue()))
    assert [one for one in sorted(written_options(script)) if one[1] not in known] == []


def test_no_page_names_a_command_that_is_not_installed():
    named = {
        (page.name, word) for page in PAGES for word in re.findall(r"`(msseg_\w+)", page.read_text(encoding="utf-8"))
    }
    known = {*console_scripts(), "msseg_data"}
    assert [one for one in sorted(named) if one[1] not in known] == []


def test_no_page_names_a_program_that_is_not_there():
    path = re.compile(r"\b(?:msseg|planning|benchmarks|tests)/[\w/]+\.py\b")
    named = {(page.name, found) for page in PAGES for found in path.findall(page.read_text(encoding="utf-8"))}
    assert [one for one in sorted(named) if not (ROOT / one[1]).is_file()] == []
