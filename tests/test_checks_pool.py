"""The check of a connection pool's size, on any database: only the settings are read."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import Warning as CheckWarning
from django.db import connections
from pytest_django import Settings

from declbind.checks.databases import check_pool


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> object:
    """Return a function that gives the log's database a pool, as PostgreSQL has it."""

    def use(pool: object) -> None:
        connection = connections["default"]
        monkeypatch.setattr(type(connection), "vendor", "postgresql")
        options = {**connection.settings_dict["OPTIONS"], "pool": pool}
        monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)

    return use


@pytest.mark.parametrize(("given", "size"), [(True, 4), ({"max_size": 6}, 6), ({"min_size": 2}, 2)])
def test_w014_a_pool_that_is_too_small(pool: Any, given: Any, size: int) -> None:
    """The default of psycopg's pool is too small as well."""
    pool(given)
    assert check_pool() == [
        CheckWarning(
            f"DATABASES['default']: the pool has {size} connections, and a process that serves sockets uses up to 11. "
            "Snapshots may wait for each other until the pool gives up, and are answered with `internal`.",
            hint='Set "pool": {"max_size": 12} or more in OPTIONS, or lower DECLBIND["DATABASE_THREADS"].',
            id="declbind.W014",
        )
    ]


@pytest.mark.parametrize("given", [False, None, {"max_size": 11}, {"min_size": 2, "max_size": 20}])
def test_w014_is_not_reported_for_a_large_pool(pool: Any, given: Any) -> None:
    pool(given)
    assert check_pool() == []


def test_w014_follows_the_number_of_threads(pool: Any, settings: Settings) -> None:
    settings.DECLBIND = {"DATABASE_THREADS": 1}
    pool(True)
    assert check_pool() == []
