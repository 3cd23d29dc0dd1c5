"""Open transactions that have already written.

A process applies an edit of a binding at its next write. If the model was not bound before, earlier writes of the same
transaction have no events, and clients cannot see the rows until the commit. Until all transactions that were open at
the edit have ended, clients may therefore miss rows. On SQLite there are none, because an edit waits until all other
writers have committed.
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
#: The result may be True without need: PostgreSQL numbers the transactions of all its databases together, and MySQL and
#: MariaDB record only the second in which a transaction began.
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


#: InnoDB refreshes its list of transactions only if nobody has read it for this many seconds.
_OUTDATED_SECONDS = {"mysql": 0.1}


def outdated_seconds(using: str) -> float:
    """Return for how many seconds after its last call, by any process, ``are_open`` may repeat an older answer."""
    return _OUTDATED_SECONDS.get(connections[using].vendor, 0.0)


def present_moment(using: str) -> str | None:
    """Return the present moment in the form that ``are_open`` takes, or ``None`` if the database needs no check."""
    found = _ask(_PRESENT, (), using)
    return None if found is None else str(found)


def are_open(moment: str, using: str) -> bool:
    """Return whether a transaction that wrote before a moment is still open. Blocks on the database.

    On MySQL and MariaDB, False is returned if the database's user lacks the privilege ``PROCESS``.
    """
    return bool(_ask(_ARE_OPEN, (moment,), using))


def oldest_seconds(using: str) -> float:
    """Return for how many seconds the oldest open transaction that has written has been open; 0 if there is none.

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
