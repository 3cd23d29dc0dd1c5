"""Each private name that declbind uses, under a Django or Channels that has renamed it.

The process starts, the name is reported, and writes store the same rows as without declbind. The cases are generated
from the table of names, and so are the variants that lack a check or a fallback.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from declbind.outbound import seams
from declbind.outbound.seam_checks import Seam
from declbind.outbound.seams import HOOKED, NEEDED, SEAMS, SHORTCUTS
from tests.servers import ROOT

#: Names that are documented, or are names of modules too, so that no release can have others in their place. Two more
#: are names without which no model can be described and declbind does not start. Their checks are tested where they
#: are patched.
NOT_RENAMED = {
    "update", "delete", "bulk_update", "bulk_create", "using", "db", "compiler", "InMemoryChannelLayer",
    "concrete_model", "concrete_fields",
}  # fmt: skip
#: The effects of each name without which declbind works differently.
EFFECTS: dict[str, dict[str, object]] = {
    "_get_session_key": {"keeps sessions": False},
    "from_current_timezone": {"moment": "ValueError"},
}
#: The names whose fallback is a default of ``getattr``.
WITH_DEFAULT = [seam for seam in SHORTCUTS if seam.name not in ("migration_plan", "handle_reply", "sendCloseFrame")]


@dataclass(frozen=True)
class Case:
    """A name that is renamed, and what is left out of declbind: nothing, its check or its fallback."""

    seam: str
    module: str
    name: str
    mutant: str = ""

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.seam}-{self.name}"


def cases_of(seam: Seam, mutant: str = "") -> Iterator[Case]:
    for path in seam.attributes or (seam.path,):
        name = path.rpartition(".")[2]
        if name not in NOT_RENAMED:
            yield Case(str(seam), seam.module, name, mutant)


UNCHANGED = Case("", "django", "")
RENAMED = [case for seam in SEAMS for case in cases_of(seam)]
UNCHECKED = [case for seam in SEAMS for case in list(cases_of(seam, "check"))[:1]]
WITHOUT_FALLBACK = [case for seam in WITH_DEFAULT for case in cases_of(seam, "fallback")]


class Courses:
    """The outcomes of all cases, computed by two concurrent processes in the order of the tests."""

    def __init__(self, folder: Path) -> None:
        env = {key: value for key, value in os.environ.items() if not key.startswith(("DATABASE", "TEST_", "PYTEST"))}
        env |= {"DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": str(ROOT)}
        prepared = str(folder / "prepared.sqlite3")
        python = [sys.executable, "-W", "ignore", "-m"]
        subprocess.run(
            [*python, "django", "migrate", "--run-syncdb", "-v0"],
            cwd=ROOT,
            env={**env, "DATABASE_URL": f"sqlite:///{prepared}"},
            check=True,
            timeout=120,
        )
        cases = [UNCHANGED, *RENAMED, *UNCHECKED, *WITHOUT_FALLBACK]
        self._said: dict[Case, dict[str, Any]] = {}
        self._waiting: list[tuple[deque[Case], subprocess.Popen[str]]] = []
        for number in range(2):
            half = deque(cases[number::2])
            given = folder / f"cases{number}"
            given.write_text("".join(f"{json.dumps({**asdict(case), 'package': case.package})}\n" for case in half))
            command = [*python, "tests.renamed_names", prepared]
            with given.open() as reading:
                process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=reading, stdout=subprocess.PIPE, text=True)
            self._waiting.append((half, process))

    def of(self, case: Case) -> dict[str, Any]:
        """Return the outcome of a case; wait for it."""
        while case not in self._said:
            [(half, process)] = [(half, process) for half, process in self._waiting if case in half]
            assert process.stdout is not None
            self._said[half.popleft()] = json.loads(process.stdout.readline())
        return self._said[case]

    def close(self) -> None:
        """End the processes."""
        for _, process in self._waiting:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def courses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Courses]:
    with contextlib.closing(Courses(tmp_path_factory.mktemp("courses"))) as found:
        yield found


def check(case: Case, courses: Courses) -> None:
    """Compare a case with the outcome under the expected names."""
    said, usual = courses.of(case), courses.of(UNCHANGED)
    assert "error" not in said
    assert said["rows"] == usual["rows"]
    assert case.seam in said["faults"]
    assert "declbind.W015" in said["checks"]
    seam = next(seam for seam in SEAMS if str(seam) == case.seam)
    if seam in NEEDED:
        assert said["events"] == []
    elif seam in SHORTCUTS:
        assert said["events"] == usual["events"]
        assert {key: said[key] for key in ("keeps sessions", "moment", "layer")} == {
            **{key: usual[key] for key in ("keeps sessions", "moment", "layer")},
            **EFFECTS.get(case.name, {}),
        }
    else:
        assert seam in HOOKED.values()


def test_nothing_is_reported_under_the_expected_names(courses: Courses) -> None:
    """Negative control: no name is renamed."""
    said = courses.of(UNCHANGED)
    assert (said["faults"], said["checks"], said["unexamined"]) == ([], [], [])
    assert len(said["events"]) == 11
    assert (said["keeps sessions"], said["layer"]) == (True, "NoneType")
    assert said["moment"].startswith("2001-02-03")


@pytest.mark.parametrize("case", RENAMED, ids=str)
def test_a_renamed_name_is_reported_and_writes_succeed(case: Case, courses: Courses) -> None:
    """The stored rows equal those without declbind."""
    check(case, courses)


@pytest.mark.parametrize("case", UNCHECKED, ids=str)
def test_a_name_that_is_not_checked_would_be_caught(case: Case, courses: Courses) -> None:
    """Negative controls: for each name, a variant that does not check it."""
    with pytest.raises(AssertionError):
        check(case, courses)


@pytest.mark.parametrize("case", WITHOUT_FALLBACK, ids=str)
def test_a_name_without_its_fallback_would_be_caught(case: Case, courses: Courses) -> None:
    """Negative controls: for each name, a variant that requires it."""
    with pytest.raises(AssertionError):
        check(case, courses)


# Names that are missing in the table ---------------------------------------------------------------------------------

#: Private attributes that are documented, by Django or by Python.
DOCUMENTED = {
    "_meta", "_state", "_default_manager", "_base_manager", "_replace", "_asdict", "_fields", "_exit", "_getframe",
    "_get_running_loop", "_set_running_loop",
}  # fmt: skip


def private_names() -> dict[str, str]:
    """Return the private attributes that declbind uses and does not define, each with a place where it is used."""
    used: dict[str, str] = {}
    defined: set[str] = set()
    for package in ("declbind", "admin_ui"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.name in ("seams.py", "seam_checks.py") and path.parent.name == "outbound":
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    defined.add(node.name)
                elif isinstance(node, ast.Name):
                    defined.add(node.id)
                elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                    defined.add(node.attr)
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                    used.setdefault(node.attr, f"{path.relative_to(ROOT)}:{node.lineno}")
    return {name: place for name, place in used.items() if name not in defined | DOCUMENTED}


def names_in(table: tuple[Seam, ...]) -> set[str]:
    return {part for seam in table for path in (seam.path, *seam.attributes) for part in path.split(".")}


def test_each_private_name_is_in_the_table() -> None:
    """The names are collected from the source of declbind."""
    missing = {name: place for name, place in private_names().items() if name not in names_in(SEAMS)}
    assert missing == {}


@pytest.mark.parametrize("name", sorted(private_names()))
def test_a_name_that_is_not_in_the_table_would_be_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative controls: for each name, the table without it."""
    rest = tuple(seam for seam in SEAMS if name not in names_in((seam,)))
    monkeypatch.setitem(globals(), "SEAMS", rest)
    monkeypatch.setattr(seams, "SEAMS", rest)
    with pytest.raises(AssertionError):
        test_each_private_name_is_in_the_table()
