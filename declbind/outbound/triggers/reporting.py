"""Which tables their triggers report, and what a write of the ORM adds to the marks of its rows.

The hooks stand down for a table whose triggers are all in place. Whether they are is asked at each write, in its
transaction. A mark carries who wrote, the program, and the call of the ORM that it belongs to. PostgreSQL's triggers
read these from a setting of the session. On SQLite they are stored after the call.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from typing import Any

from django.db import connections

from declbind.outbound import entries

from . import postgresql, sqlite

#: Stands for the call of a write that is not to be reported, such as a fixture with ``CAPTURE_RAW`` off.
UNREPORTED = "-"


def is_reported(table: str, using: str) -> bool:
    """Return whether all triggers of a table are in place; on PostgreSQL the session gets its writer as well."""
    connection: Any = connections[using]
    if connection.vendor == "postgresql":
        sql, params = postgresql.REPORTED_SQL, [*_writer(connection), connection.ops.quote_name(table)]
    elif connection.vendor == "sqlite":
        sql, params = sqlite.REPORTED_SQL, [table]
    else:
        return False
    if connection.needs_rollback:
        return False  # the write itself is about to be refused
    return bool(_ask(connection, sql, params)[-1])


def _writer(connection: Any) -> list[Any]:
    # Outside of a transaction a local setting would end with the statement that sets it.
    return ["\x1f".join(entries.writer()), connection.in_atomic_block]


class MarkedCall:
    """One call of the ORM whose rows are marked by triggers. To be entered and left in its transaction."""

    def __init__(self, using: str, *, has_many_tables: bool = False, is_reported: bool = True) -> None:
        self._connection: Any = connections[using]
        self._id = secrets.token_hex(8) if has_many_tables else ""
        if not is_reported:
            self._id = UNREPORTED
        self._last = 0

    def begin(self) -> None:
        """Note what is marked already, or tell the triggers of the call."""
        if self._connection.vendor == "sqlite":
            self._last = _ask(self._connection, sqlite.LAST_SQL, [])[0]
        elif self._id:
            _ask(self._connection, postgresql.CALL_SQL, [self._id])

    def end(self) -> None:
        """Complete the marks of the call."""
        if self._connection.vendor == "sqlite":
            actor, program = entries.writer()
            _run(self._connection, sqlite.COMPLETE_SQL, [actor, program, json.dumps(self._id), self._last])
        elif self._id and not self._connection.needs_rollback:
            _ask(self._connection, postgresql.CALL_SQL, [""])


def _ask(connection: Any, sql: str, params: list[Any]) -> Any:
    with _cursor(connection) as cursor:
        cursor.execute(sql, params)
        return cursor.fetchone()


def _run(connection: Any, sql: str, params: list[Any]) -> None:
    with _cursor(connection) as cursor:
        cursor.execute(sql, params)


@contextlib.contextmanager
def _cursor(connection: Any) -> Any:
    """Open a cursor past Django's, so that the application does not count these queries among its own."""
    connection.ensure_connection()
    with connection.wrap_database_errors, contextlib.closing(connection.create_cursor()) as cursor:
        yield cursor
