"""Strict type checks of a project that uses the public API, with declbind installed from its wheel."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.release.project import build_distributions, clean_environment, run
from tests.servers import ROOT
from tests.test_packaging import Environment

HERE = Path(__file__).parent
MISTAKES = HERE / "mistakes.py"


@dataclass(frozen=True)
class Project:
    """A copy of the project, and the environment that has the wheel."""

    root: Path
    python: str


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return an environment with the wheel of this checkout."""
    folder = tmp_path_factory.mktemp("typed")
    wheel, _ = build_distributions(ROOT, folder / "dist")
    made = Environment(folder / "venv")
    made.install(str(wheel))
    return made


@pytest.fixture
def project(environment: Environment, tmp_path: Path) -> Project:
    """Return a fresh copy of the project."""
    root = tmp_path / "project"
    shutil.copytree(HERE / "project", root, ignore=shutil.ignore_patterns("__pycache__"))
    return Project(root, environment.python)


def ask(project: Project, *command: str) -> str:
    """Return what a type checker prints, which exits with 1 if it finds something."""
    done = subprocess.run(
        [project.python, "-m", *command], cwd=project.root, env=clean_environment(), capture_output=True, text=True,
        timeout=230, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert (done.returncode == 1) == ("error" in done.stdout.replace('"errorCount": 0', "")), done.stdout + done.stderr
    return done.stdout


def ask_mypy(project: Project) -> Set[tuple[str, int, str]]:
    """Return what mypy reports: file, line and text."""
    printed = ask(project, "mypy", "--no-error-summary", ".")
    found = re.findall(r"^(.*?):(\d+): error: (.*)$", printed, re.MULTILINE)
    return {(file, int(line), text) for file, line, text in found}


def ask_pyright(project: Project) -> Set[tuple[str, int, str]]:
    """Return what pyright reports: file, line and text."""
    answer = json.loads(ask(project, "pyright", "--outputjson", "--pythonpath", project.python))
    assert answer["summary"]["filesAnalyzed"] > 10
    return {
        (
            str(Path(one["file"]).relative_to(project.root.resolve())),
            one["range"]["start"]["line"] + 1,
            one["message"].split("\n")[0],
        )
        for one in answer["generalDiagnostics"]
        if one["severity"] == "error"
    }


checkers = pytest.mark.parametrize("find_errors", [ask_mypy, ask_pyright])
Checker = Callable[[Project], Set[tuple[str, int, str]]]


def test_the_wheel_is_what_is_checked(project: Project) -> None:
    """The project imports declbind from its own environment, with the marker of types."""
    printed = run([project.python, "-c", "import declbind; print(declbind.__file__)"], project.root).strip()
    assert Path(printed).is_relative_to(Path(project.python).parent.parent)
    assert (Path(printed).parent / "py.typed").exists()


@checkers
def test_a_correct_project_has_no_errors(project: Project, find_errors: Checker) -> None:
    """A project with strict types can use the public API without a single exception."""
    assert find_errors(project) == set()


@checkers
def test_each_mistake_is_reported(project: Project, find_errors: Checker) -> None:
    """Each wrong use of the API is an error at its line, and the right lines beside it are not."""
    shutil.copy(MISTAKES, project.root / "notes/mistakes.py")
    wrong = {number for number, line in enumerate(MISTAKES.read_text().splitlines(), 1) if "# wrong: " in line}
    found = {line: text for file, line, text in find_errors(project) if file == "notes/mistakes.py"}
    assert {line: found.get(line) for line in found.keys() ^ wrong} == {}


def test_without_its_marker_the_package_has_no_types(project: Project, environment: Environment) -> None:
    """Control of the tests above: mypy does not read the types of a package without py.typed."""
    marker = environment.site_packages / "declbind/py.typed"
    marker.rename(marker.with_name("no-types"))
    try:
        assert "missing library stubs or py.typed marker" in str(ask_mypy(project))
    finally:
        marker.with_name("no-types").rename(marker)


def test_the_project_works(project: Project) -> None:
    """The checks and the tests of the project pass, so that it is a use of the API that works."""
    manage = [project.python, "manage.py"]
    run([*manage, "makemigrations", "notes"], project.root)
    run([*manage, "check", "--fail-level", "WARNING"], project.root)
    run([*manage, "test"], project.root)
