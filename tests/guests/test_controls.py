"""Deliberately broken capture, which the course of a guest must detect each time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from .roster import BY_NAME, CAPTURES, HOOKS, POSTGRES, SQLITE
from .runs import AT_ONCE
from .sabotage import SABOTAGES
from .sites import Sites

#: Only PostgreSQL has row versions that show what was written.
BY_VERSIONS = ("event_dropped", "event_of_a_bystander")
BROKEN = [*((SQLITE, name) for name in SABOTAGES), *((POSTGRES, name) for name in BY_VERSIONS)]


@pytest.fixture(scope="module")
def broken_runs(postgres_process):
    """Run one guest with each sabotage, and without one."""
    postgres_process.resume()
    with Sites(postgres_process.start()) as sites, ThreadPoolExecutor(AT_ONCE) as pool:
        guest = BY_NAME["guardian"]
        yield {run: pool.submit(sites.run, guest, *run) for run in ((SQLITE, ""), (POSTGRES, ""), *BROKEN)}


@pytest.mark.parametrize(("database", "sabotage"), BROKEN)
def test_broken_capture_is_detected(database, sabotage, broken_runs):
    """A guest that passes without the sabotage fails with it."""
    assert broken_runs[database, ""].result().problems == {capture: [] for capture in CAPTURES}
    assert broken_runs[database, sabotage].result().problems[HOOKS] != []
