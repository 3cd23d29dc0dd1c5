"""Splitting of long value lists into lists that fit one statement."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import TypeVar

from django.db import connections

#: Used where the database has no limit of its own.
SIZE = 10_000


T = TypeVar("T")


def in_batches(values: Iterable[T], using: str) -> Iterator[list[T]]:
    """Split values into lists that one statement can take as parameters."""
    given = list(values)
    if not given:
        return
    step = batch_size(using)
    for start in range(0, len(given), step):
        yield given[start : start + step]


def batch_size(using: str) -> int:
    """Return how many parameters one statement can take."""
    connection = connections[using]
    if connection.vendor == "sqlite":
        # The limit that this SQLite was built with. Django 5.2 still assumes 999, the limit before SQLite 3.32.
        connection.ensure_connection()
        limit: int = connection.connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
        return min(limit, SIZE)
    return min(connection.features.max_query_params or SIZE, SIZE)
