"""The types of the npm package, from its JSDoc comments to a strict project that uses them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.npm.declarations import PACKAGE, TypeErrors, make_declarations
from tests.npm.tools import Tools

PROJECT = Path(__file__).parent / "project"


def test_the_declarations_are_made_from_the_comments(tools: Tools, tmp_path: Path) -> None:
    """TypeScript finds no error in the modules in its strict mode, and the declarations are what it makes of them.

    `python -m tests.npm types` writes them.
    """
    assert make_declarations(tools, tmp_path) == {path.name: path.read_text() for path in PACKAGE.glob("*.d.ts")}


@pytest.mark.parametrize(
    ("old", "new", "report"),
    [
        ("this.#attempt = 0;", "this.#attempt = '0';", "Type 'string' is not assignable to type 'number'"),
        ("  /** @param {DeclbindError} error */\n", "", "Parameter 'error' implicitly has an 'any' type"),
        ("write?.reject(error)", "write.reject(error)", "'write' is possibly 'undefined'"),
    ],
)
def test_an_error_of_types_in_a_module_is_found(tools: Tools, tmp_path: Path, old: str, new: str, report: str) -> None:
    """Control of the test above: a wrong type, a missing one, and a value that may be missing."""
    package = tmp_path / "broken"
    shutil.copytree(PACKAGE, package)
    module = package / "declbind.js"
    text = module.read_text()
    assert old in text
    module.write_text(text.replace(old, new, 1))
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(TypeErrors, match=re.escape(report)):
        make_declarations(tools, work, package)


def test_internal_members_have_no_declaration(tools: Tools, tmp_path: Path) -> None:
    """Control: without the mark they would be part of the public types."""
    package = tmp_path / "open"
    shutil.copytree(PACKAGE, package)
    module = package / "declbind.js"
    module.write_text(module.read_text().replace("* @internal\n", "*\n"))
    work = tmp_path / "work"
    work.mkdir()
    members = ("join(", "leave(", "write(", "ask(")
    made = make_declarations(tools, work, package)["declbind.d.ts"]
    assert all(f"\n    {member}" in made for member in members)
    assert not any(f"\n    {member}" in (PACKAGE / "declbind.d.ts").read_text() for member in members)


@pytest.fixture
def project(tools: Tools, packed: Path, tmp_path: Path) -> Path:
    """Return a copy of the project, with the packed package installed."""
    root = tmp_path / "project"
    shutil.copytree(PROJECT, root)
    tools.link_modules(root)
    shutil.copytree(packed, root / "node_modules/declbind")
    return root


def find_errors(tools: Tools, project: Path) -> dict[tuple[str, int], str]:
    """Return what TypeScript reports in the project, by file and line."""
    report = tools.run_tsc("-p", ".", cwd=project)
    found = re.findall(r"^(\S+?)\((\d+),\d+\): error (.*)$", report, re.MULTILINE)
    assert bool(found) == bool(report), report
    return {(file, int(line)): text for file, line, text in found}


def test_a_project_in_typescript_compiles_and_its_mistakes_are_reported(tools: Tools, project: Path) -> None:
    """Right uses have no errors in the strict mode; each wrong one is an error at its line, and nothing else is."""
    wrong = {
        (path.name, number)
        for path in project.glob("mistakes*.ts*")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "// wrong: " in line
    }
    found = find_errors(tools, project)
    assert len(wrong) > 20
    assert {place: found.get(place, "not reported") for place in found.keys() ^ wrong} == {}


def test_without_declarations_the_project_has_no_types(tools: Tools, project: Path) -> None:
    """Control of the test above: TypeScript has read the declarations of the package."""
    for path in (project / "node_modules/declbind").glob("*.d.ts"):
        path.unlink()
    assert "Could not find a declaration file for module 'declbind'" in "".join(find_errors(tools, project).values())
