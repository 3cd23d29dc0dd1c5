"""Open transactions that have already written.

A process picks up an edit of a binding at its next write. If nothing was bound before that, earlier writes of the
same transaction have no events, and nobody sees them until the commit. How long an edit affects clients therefore
depends on the transactions that are open across it. On SQLite there are none: an edit waits until all other writers
have committed.
"""

from __future__ import annotations

import decimal
import logging
from collections.abc import Mapping

from django.db import DatabaseError, connections

logger = logging.getLogger("declbind")

#: The single value that a statement returns.
Answer = str | int | float | decimal.Decimal | None

_PRESENT = {
    "postgresql": "SELECT pg_snapshot_xmax(pg_current_snapshot())::text",
    "mysql": "SELECT CAST(NOW() AS CHAR)",
}
#: PostgreSQL numbers the transactions of all its databases together. MySQL and MariaDB record only the second in which
#: a transaction began. The answer may therefore be True without need.
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
    """Return the present moment in the database's terms, for ``are_open``, or ``None`` if it is not needed."""
    found = _ask(_PRESENT, (), using)
    return None if found is None else str(found)


def are_open(moment: str, using: str) -> bool:
    """Return whether a transaction that wrote before a moment is still open; blocks on the database.

    On MySQL and MariaDB the database's user needs the privilege ``PROCESS``; without it the answer is False.
    """
    return bool(_ask(_ARE_OPEN, (moment,), using))


def oldest_seconds(using: str) -> float:
    """Return for how many seconds the oldest of these transactions has been open, 0 if there is none.

    PostgreSQL shows transactions of the same role, and to a role with ``pg_read_all_stats`` those of others.
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
        logger.debug("The open transactions could not be read: %s", error)
        return None
