"""Times as operators read and write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from declbind.console.times import format_distance, format_time, parse_time

MOMENT = datetime(2026, 7, 1, 12, 0, 3, tzinfo=UTC)


@pytest.mark.parametrize(("zone", "text"), [("UTC", "12:00:03 UTC"), ("Europe/Paris", "14:00:03 CEST")])
def test_a_time_is_in_the_zone_of_the_site_which_is_named(settings: Any, zone: str, text: str) -> None:
    """What is shown can be asked with; in winter the name of the zone is another one."""
    settings.TIME_ZONE = zone
    assert format_time(MOMENT) == f"2026-07-01 {text}"
    assert parse_time(f"2026-07-01 {text.rpartition(' ')[0]}") == MOMENT
    assert parse_time("2026-07-01 12:00:03 UTC") == MOMENT
    assert parse_time("2026-07-01T14:00:03+02:00") == MOMENT
    assert parse_time("2026-07-01 12:00:03 PST") is None


def test_a_time_alone_means_today() -> None:
    """Operators know when it was."""
    found = parse_time("14:01")
    assert found is not None
    assert (found.hour, found.minute) == (14, 1)
    assert parse_time("99:99") is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.25, "0.2 s"), (-42, "42 s"), (150, "2 min"), (3900, "1 h 5 min"), (900_000, "10 days")]
)
def test_a_distance_is_as_exact_as_it_is_short(seconds: float, text: str) -> None:
    """Its sign is said in words."""
    assert format_distance(timedelta(seconds=seconds)) == text
