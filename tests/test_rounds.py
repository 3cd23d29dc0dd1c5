"""The runner of the suite's rounds: failing rounds, and missing Python versions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import rounds, selection
from tests.servers import ROOT


class Suite(rounds.Suite):
    """Rounds that run nothing: each end's interpreter is this one, or missing."""

    statuses: dict[str, int] = {}
    absent: frozenset[str] = frozenset()

    def _environment(self, end: rounds.End) -> str | None:
        return None if end.python in self.absent else sys.executable

    def _run_round(self, python: str, database: str) -> None:
        status = self.statuses.get(database, 0)
        line = f"=== 1 {'failed' if status == 1 else 'passed'} in {len(self.rounds)}s ==="
        self.rounds.append(rounds.Round(self._title(python, database), status, f"dots\n{line}\n"))


@pytest.fixture(autouse=True)
def no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)


def test_the_last_line_is_that_of_pytest(capsys):
    """If all rounds pass, the output ends with the closing line of the last one."""
    assert Suite([]).run() == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("=== 1 passed in ")


def test_the_last_line_is_that_of_a_failed_round(capsys):
    """The closing line is that of a failed round, although others passed after it."""
    suite = Suite([])
    suite.statuses = {"sqlite:servers": 1}
    assert suite.run() == 1
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith("=== 1 failed in ")
    assert "FAILED  Python" in out


def test_a_round_without_tests_passes(capsys):
    """An expression of `-k` may select nothing in one round."""
    suite = Suite(["-k", "something"])
    suite.statuses = {"postgres": rounds.NO_TESTS, "postgres:core": rounds.NO_TESTS}
    assert suite.run() == 0


@pytest.mark.parametrize(("ci", "status"), [("", 0), ("true", 1)])
def test_a_missing_python_is_named_and_fails_in_ci(ci, status, capsys, monkeypatch):
    """The summary names it; only a continuous integration run fails because of it."""
    monkeypatch.setenv("CI", ci)
    suite = Suite([])
    suite.absent = frozenset({"3.13"})
    assert suite.run() == status
    assert "MISSING  Python 3.13" in capsys.readouterr().out


def test_a_nonexistent_python_fails():
    """`.ci/end` fails, gives the reason, and prints no interpreter."""
    done = subprocess.run([str(ROOT / ".ci" / "end"), "3.99"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "found no Python 3.99" in done.stderr


def test_each_module_of_a_choice_exists():
    """A renamed module would otherwise silently leave a round."""
    names = (
        selection.FAULTS | selection.SERVERS | selection.PROCESSES | selection.CORE | selection.VERSIONS
        | selection.PAGES_AND_PACKAGES | selection.BROWSER_ON_EACH_DATABASE | selection.CONSOLE | selection.ONCE
    )  # fmt: skip
    tests = ROOT / "tests"
    assert [name for name in names if not ((tests / name).is_dir() or (tests / f"{name}.py").exists())] == []


class Item:
    """A test as far as the selection looks at it, with or without a database."""

    cls = None

    def __init__(self, path: Path, *, uses_database: bool) -> None:
        self.path = path
        self.fixturenames = ["db"] if uses_database else []

    def get_closest_marker(self, name: str) -> None:
        return None


ROUNDS = [tuple(name.partition(":")[::2]) for end in rounds.ENDS for name in end.databases]


@pytest.mark.parametrize(("database", "choice"), [*ROUNDS, ("sqlite", "quick")])
def test_no_module_with_a_chosen_test_is_left_out(database, choice):
    """A round imports each module, and each folder above it, that has tests for the round."""
    chosen = 0
    for path in (ROOT / "tests").rglob("test_*.py"):
        for uses_database in (True, False):
            item: Any = Item(path, uses_database=uses_database)
            if selection.select(item, database, choice):
                chosen += 1
                above = [each for each in path.parents if each.is_relative_to(selection.ROOT)]
                assert all(selection.may_select(each, database, choice) for each in (path, *above)), path
    assert chosen
