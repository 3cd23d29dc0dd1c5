"""The choice between triggers and hooks for each table, and the context that an ORM write adds to marks.

If all triggers of a table are installed, the hooks do not report it. Each write checks this in its own transaction. The
context of a mark is the writer, the program, and the ORM call. PostgreSQL's triggers read it from a session setting. On
SQLite it is added to the marks after the call.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from django.db import connections, models

from declbind.conf import settings
from declbind.django_types import Connection, Cursor, Query, SqlValue, concrete_model
from declbind.outbound import entries
from declbind.outbound.statements import fetch

from . import postgresql, sqlite

#: How many of a table's triggers are installed.
Triggers = Literal["all", "some", "none"]
#: Means "all tables" in the set of tables whose marks are not reported.
EVERY_TABLE = "*"


def find_triggers(table: str, using: str, *, may_be_known: bool = False) -> Triggers:
    """Return which of a table's triggers are installed; on PostgreSQL, also set the session's writer.

    With ``may_be_known``, the cached result of the connection is returned if it was found for the present writer.
    """
    connection = connections[using]
    if connection.needs_rollback:
        return "none"  # the write itself is about to be refused
    if connection.vendor == "sqlite":
        return _describe(_ask(connection, sqlite.REPORTED_SQL, [table])[0], sqlite.EVENTS)
    if connection.vendor != "postgresql":
        return "none"
    actor, program = entries.writer()
    known: _Known | None = vars(connection).get("declbind_reported")
    if known is None or not known.holds(connection, actor, program):
        known = vars(connection)["declbind_reported"] = _Known.of(connection, actor, program)
    if may_be_known and table in known.tables:
        return "all"
    # Outside a transaction a local setting would end with the statement that sets it.
    params: list[SqlValue] = [f"{actor}\x1f{program}", connection.in_atomic_block, connection.ops.quote_name(table)]
    found = _describe(_ask(connection, postgresql.REPORTED_SQL, params)[-1], postgresql.EVENTS)
    (known.tables.add if found == "all" else known.tables.discard)(table)
    return found


def _describe(count: int, events: Sequence[str]) -> Triggers:
    return "all" if count == len(events) else "some" if count else "none"


def split_call(text: str) -> tuple[str, frozenset[str]]:
    """Split the ``call`` value of a mark into the call's identifier and the tables whose marks are not reported."""
    call, _, tables = text.partition("-")
    return call, frozenset(tables.split("\x1f")) - {""}


def forget_reported(connection: Connection) -> None:
    """Drop the cached state of triggers on a connection."""
    vars(connection).pop("declbind_reported", None)


@dataclass(frozen=True)
class _Known:
    """The tables whose triggers were all installed at the connection's last check, and the writer set at that time."""

    writer: tuple[str, str]
    session: object
    #: The list of commit callbacks, which identifies the transaction. Django replaces the list when the transaction
    #: ends.
    transaction: object
    tables: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, connection: Connection, actor: str, program: str) -> _Known:
        connection.ensure_connection()
        callbacks = connection.run_on_commit if connection.in_atomic_block else None
        return cls((actor, program), connection.connection, callbacks)

    def holds(self, connection: Connection, actor: str, program: str) -> bool:
        if self.session is not connection.connection or self.writer != (actor, program):
            return False
        is_in_it = connection.in_atomic_block and self.transaction is connection.run_on_commit
        return self.transaction is None or is_in_it


class Verification:
    """An extension of the update of one row that also checks whether the triggers of the table are installed.

    After the update, ``is_reported`` is the result of the check. It is ``None`` if no row was updated.
    """

    def __init__(self, model: type[models.Model], using: str) -> None:
        self.is_reported: bool | None = None
        self._model, self._connection = concrete_model(model), connections[using]

    def takes(self, query: Query) -> bool:
        """Return whether the statement of ``query`` is the update to extend."""
        return bool(self.is_reported is None and query.get_meta().concrete_model is self._model)

    def extend(self, sql: str, params: Sequence[SqlValue]) -> tuple[str, Sequence[SqlValue]]:
        """Return the update with the check added."""
        table = self._connection.ops.quote_name(self._model._meta.db_table)
        return f"{sql} RETURNING {postgresql.VERIFIED_SQL} AS declbind_is_reported", (*params, table)

    def finish(self, cursor: Cursor) -> int:
        """Set ``is_reported`` from the result of the statement; return the number of updated rows."""
        rows = fetch(cursor, ["declbind_is_reported"])
        if rows:
            self.is_reported = all(row[0] for row in rows)
        count: int = cursor.rowcount
        return count


class MarkedCall:
    """One ORM call whose rows are marked by triggers.

    Call ``begin`` and ``end`` in one transaction. ``unreported`` are the tables whose marks are not reported, because
    the hooks report these tables or because the write is not to be captured.
    """

    def __init__(self, using: str, *, has_many_tables: bool = False, unreported: Iterable[str] = ()) -> None:
        self._connection = connections[using]
        tables = "\x1f".join(sorted(unreported))
        self._id = (secrets.token_hex(8) if has_many_tables else "") + (f"-{tables}" if tables else "")
        self._last = 0

    def begin(self) -> None:
        """Tell PostgreSQL's triggers which call follows; on SQLite, store the position of the last mark."""
        if self._connection.vendor == "sqlite":
            self._last = _ask(self._connection, sqlite.LAST_SQL, [])[0]
        elif self._id:
            _ask(self._connection, postgresql.CALL_SQL, [self._id])

    def end(self) -> None:
        """Add the context to the marks that the call made on SQLite; clear the call on PostgreSQL."""
        if self._connection.vendor == "sqlite":
            actor, program = entries.writer()
            limit, last = settings.BULK_LIMIT, self._last
            values = [actor, program, json.dumps(self._id), last, limit, last, last]
            _run(self._connection, sqlite.COMPLETE_SQL, values)
        elif self._id and not self._connection.needs_rollback:
            _ask(self._connection, postgresql.CALL_SQL, [""])


def _ask(connection: Connection, sql: str, params: Sequence[SqlValue]) -> tuple[Any, ...]:
    with _cursor(connection) as cursor:
        cursor.execute(sql, params)
        row: tuple[Any, ...] = cursor.fetchone()
        return row


def _run(connection: Connection, sql: str, params: Sequence[SqlValue]) -> None:
    with _cursor(connection) as cursor:
        cursor.execute(sql, params)


@contextlib.contextmanager
def _cursor(connection: Connection) -> Iterator[Cursor]:
    """Open a driver cursor directly, so that query counts and wrappers of the application do not see these queries."""
    connection.ensure_connection()
    with connection.wrap_database_errors, contextlib.closing(connection.create_cursor()) as cursor:
        yield cursor
