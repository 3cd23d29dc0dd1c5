"""Transactions that have written something and are still open.

A process follows an edit of a binding at its next write. What a transaction wrote before that has no event if nothing
was bound then, and is seen by nobody until the commit. So how long an edit concerns clients depends on the transactions
that are open across it. On SQLite there are none: an edit waits until everybody else has committed.
"""

from __future__ import annotations

import decimal
import logging
from collections.abc import Mapping

from django.db import DatabaseError, connections

logger = logging.getLogger("declbind")

#: The one value that a statement asks for.
Answer = str | int | float | decimal.Decimal | None

_PRESENT = {
    "postgresql": "SELECT pg_snapshot_xmax(pg_current_snapshot())::text",
    "mysql": "SELECT CAST(NOW() AS CHAR)",
}
#: PostgreSQL numbers the transactions of all its databases together, and MySQL and MariaDB know the second in which one
#: began. So the answer can be a needless yes.
_ARE_OPEN = {
    "postgresql": "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::numeric < %s::numeric",
    "mysql": "SELECT EXISTS (SELECT 1 FROM information_schema.innodb_trx"
    " WHERE trx_started <= %s AND trx_rows_modified > 0)",
}
_OLDEST = {
    "postgresql": "SELECT EXTRACT(EPOCH FROM clock_timestamp() - MIN(xact_start)) FROM pg_stat_activity"
    " WHERE backend_xid IS NOT NULL",
    "mysql": "SELECT TIMESTAMPDIFF(SECOND, MIN(trx_started), NOW()) + 1 FROM information_schema.innodb_trx"
    " WHERE trx_rows_modified > 0",
}


def present_moment(using: str) -> str | None:
    """Return the present moment in the database's terms, for ``are_open``; ``None`` where that is not needed."""
    found = _ask(_PRESENT, (), using)
    return None if found is None else str(found)


def are_open(moment: str, using: str) -> bool:
    """Return whether a transaction that wrote before a moment is still open; blocks on the database.

    On MySQL and MariaDB the database's user needs the privilege ``PROCESS``; without it the answer is False.
    """
    return bool(_ask(_ARE_OPEN, (moment,), using))


def oldest_seconds(using: str) -> float:
    """Return for how long the oldest of these transactions has been open, 0 if there is none.

    PostgreSQL shows those of the same role, and to a role with ``pg_read_all_stats`` those of others.
    """
    return float(_ask(_OLDEST, (), using) or 0)


def _ask(statements: Mapping[str, str], values: tuple[str, ...], using: str) -> Answer:
    connection = connections[using]
    statement = statements.get(connection.vendor)
    if statement is None:
        return None
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            answer: Answer = cursor.fetchone()[0]
            return answer
    except DatabaseError as error:
        if connection.vendor != "mysql":
            raise
        logger.debug("Open transactions are not known: %s", error)
        return None
