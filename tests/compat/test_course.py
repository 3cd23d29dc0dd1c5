"""The course in its short form: each server, MariaDB and PgBouncer once, and the faults that it must detect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import django
import pytest

from .backends import Backends
from .cells import CELLS, Cell
from .course import Course, StepFailed
from .site_processes import Site

PLAIN = Cell("control", "uvicorn on SQLite", database="sqlite")


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backends]:
    folder: Path = tmp_path_factory.mktemp("compat")
    folder.chmod(0o777)
    with Backends(folder) as running:
        yield running


@pytest.mark.parametrize(
    "cell", [cell for cell in CELLS if cell.is_short and cell.min_django <= django.VERSION], ids=lambda cell: cell.name
)
def test_the_course_is_completed(cell: Cell, backends: Backends) -> None:
    """Three clients hold the stored rows through every kind of write, a kill, a revocation, an edit and a logout."""
    with Site(cell, backends) as site:
        Course(site).run()


@pytest.mark.parametrize(
    ("sabotage", "step"),
    [
        ("updates unseen", "update in bulk"),
        ("rights kept", "take a right away"),
        ("no going on", "connect"),
        ("connections unlisted", "look at the console"),
        ("no drain", "shut down"),
    ],
)
def test_a_fault_stops_the_course(
    sabotage: str, step: str, backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: a site with a fault fails at the step that the fault concerns."""
    monkeypatch.setattr("tests.compat.client.PATIENCE", 3.0)
    monkeypatch.setattr("tests.compat.course.PATIENCE", 3.0)
    with Site(PLAIN, backends, sabotage=sabotage) as site, pytest.raises(StepFailed, match=f": {step}: "):
        Course(site, lines=2_000, pause=0.5).run()
