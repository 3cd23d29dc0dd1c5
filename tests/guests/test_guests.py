"""Capture beside each guest: no lost or invented events, and no failing write of the project."""

from __future__ import annotations

import pytest

from .roster import CAPTURES
from .runs import Runs, runs_of, this_end

RUNS = runs_of(this_end())


@pytest.fixture(scope="module")
def runs(request, postgres_process):
    """Start the guests whose tests were selected."""
    wanted = [item.callspec.params["run"] for item in request.session.items if item.module is request.module]
    postgres_process.resume()
    with Runs(postgres_process.start(), wanted) as started:
        yield started


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run[0]}-{run[1]}")
def test_what_is_reported_is_what_is_stored(run, runs):
    """By hooks and by triggers, after each step and at the end."""
    assert runs.result(*run).problems == {capture: [] for capture in CAPTURES}
