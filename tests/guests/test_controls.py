"""Break capture on purpose: the course of a guest must notice, each time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from .roster import BY_NAME, CAPTURES, HOOKS, SQLITE
from .runs import AT_ONCE
from .sabotage import SABOTAGES
from .sites import Sites


@pytest.fixture(scope="module")
def broken_runs(postgres_process):
    """Run one guest with each sabotage."""
    postgres_process.resume()
    with Sites(postgres_process.start()) as sites, ThreadPoolExecutor(AT_ONCE) as pool:
        guest = BY_NAME["guardian"]
        yield {name: pool.submit(sites.run, guest, SQLITE, name) for name in ("", *SABOTAGES)}


@pytest.mark.parametrize("sabotage", SABOTAGES)
def test_broken_capture_is_noticed(sabotage, broken_runs):
    """A guest that is in order without the sabotage is not with it."""
    assert broken_runs[""].result().problems == {capture: [] for capture in CAPTURES}
    assert broken_runs[sabotage].result().problems[HOOKS] != []
