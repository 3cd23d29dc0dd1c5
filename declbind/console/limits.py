"""Time limits for queries, so that a page always responds."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from django.db import connections, transaction


@contextlib.contextmanager
def limited_queries(using: str, seconds: float) -> Iterator[None]:
    """Start no query after the time limit, and make PostgreSQL cancel a query that exceeds it."""
    connection = connections[using]
    deadline = time.monotonic() + seconds

    def execute(run: Any, sql: str, params: object, many: bool, context: Any) -> Any:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not finished within {seconds:.1f} s")
        return run(sql, params, many, context)

    if connection.vendor != "postgresql":
        with connection.execute_wrapper(execute):
            yield
        return
    # The transaction also keeps a failed statement from affecting later ones.
    with transaction.atomic(using=using), connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('statement_timeout')")
        before = cursor.fetchone()[0]
        _set_timeout(cursor, str(max(1, int(seconds * 1000))))
        with connection.execute_wrapper(execute):
            yield
        _set_timeout(cursor, before)


def _set_timeout(cursor: Any, milliseconds: str) -> None:
    cursor.execute("SELECT set_config('statement_timeout', %s, true)", [milliseconds])
