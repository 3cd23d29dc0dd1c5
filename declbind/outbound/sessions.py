"""Sessions of the database that hold something open: transactions that have written, and the lock of the log's head.

The database is only asked, and what it does not show, because of missing privileges or of its kind, counts as absent.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import DatabaseError, connections, models, transaction
from django.utils import timezone
from django.utils.translation import gettext

from declbind.core.sentences import Sentence
from declbind.core.sentences import Sentence as _
from declbind.models import Head

logger = logging.getLogger("declbind")

#: How long a session may hold the lock of the head before it counts as blocking. A process that numbers events holds
#: it for milliseconds.
HELD_SECONDS = 2.0

_COLUMNS = "pid, application_name, usename, state, xact_start, query_start, query"
_HOLDERS = f"""
SELECT {_COLUMNS} FROM pg_stat_activity WHERE pid IN (
  SELECT unnest(pg_blocking_pids(waiting.pid)) FROM pg_stat_activity AS waiting
  WHERE waiting.wait_event_type = 'Lock' AND waiting.query LIKE '%%declbind_head%%'
    AND waiting.datname = current_database()
  UNION
  SELECT held.pid FROM pg_locks AS held
  WHERE held.relation = 'declbind_head'::regclass AND held.granted AND held.mode = 'RowShareLock'
) AND pid <> pg_backend_pid() AND xact_start < clock_timestamp() - make_interval(secs => %s)
ORDER BY xact_start
"""
_WRITERS = f"""
SELECT {_COLUMNS}, EXISTS (
  SELECT 1 FROM pg_locks AS held WHERE held.pid = activity.pid AND held.granted
    AND held.mode = 'RowExclusiveLock' AND held.relation = to_regclass(%s)
) FROM pg_stat_activity AS activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_xid IS NOT NULL
ORDER BY xact_start
"""
_MYSQL_WRITERS = """
SELECT trx.trx_mysql_thread_id, trx.trx_started FROM information_schema.innodb_trx AS trx
WHERE trx.trx_rows_modified > 0 AND trx.trx_mysql_thread_id <> CONNECTION_ID() ORDER BY trx.trx_started
"""


@dataclass(frozen=True)
class Session:
    """One session of the database, as far as the database shows it.

    ``writes_table`` says whether it holds the lock of a writer of the table in question.
    """

    pid: int
    program: str = ""
    user: str = ""
    state: str = ""
    began_at: datetime | None = None
    query_at: datetime | None = None
    query: str = ""
    writes_table: bool = False

    @property
    def evidence(self) -> tuple[tuple[str, Any], ...]:
        """Return what is known about it. Without its query, which may quote values."""
        found = (
            (gettext("session"), f"pid {self.pid}"),
            (gettext("program"), self.program),
            (gettext("database user"), self.user),
            (gettext("state"), self.state),
            (gettext("transaction began"), self.began_at),
            (gettext("last statement began"), self.query_at),
        )
        return tuple((what, value) for what, value in found if value)


def find_head_holders(using: str) -> list[Session]:
    """Return the sessions that keep the log from being numbered, the longest first.

    On databases other than PostgreSQL the holder is not known: a session without a pid then stands for it.
    """
    connection = connections[using]
    if connection.vendor == "postgresql":
        return [_session(row) for row in _ask(using, _HOLDERS, [HELD_SECONDS])]
    if connection.vendor == "mysql" and _is_locked(Head.objects.using(using).filter(pk=1), using):
        return [Session(int(pid), began_at=_aware(at)) for pid, at in _ask(using, _MYSQL_WRITERS, [])] or [Session(0)]
    return []


def describe_holders(using: str) -> Sentence | str:
    """Return which session keeps the log from being numbered, as a sentence; "" if there is none."""
    holders = find_head_holders(using)
    if not holders:
        return ""
    first = holders[0]
    who = _("session %(pid)s of the database", pid=first.pid) if first.pid else _("a session of the database")
    if first.program:
        who = _("%(session)s (%(program)s)", session=who, program=first.program)
    if first.began_at is None:
        return _("The log cannot be numbered: %(session)s has held its lock.", session=who)
    since = f"{first.began_at:%Y-%m-%d %H:%M:%S %Z}"
    if first.query_at is None:
        return _("The log cannot be numbered: %(session)s has held its lock since %(since)s.", session=who, since=since)
    return _(
        "The log cannot be numbered: %(session)s has held its lock since %(since)s, its last statement began %(time)s.",
        session=who,
        since=since,
        time=f"{first.query_at:%H:%M:%S}",
    )


def find_writers(table: str, using: str) -> list[Session]:
    """Return the sessions whose transaction has written something and is still open, those of the table first."""
    connection = connections[using]
    if connection.vendor == "postgresql":
        found = [_session(row[:7], bool(row[7])) for row in _ask(using, _WRITERS, [connection.ops.quote_name(table)])]
        return sorted(found, key=lambda session: not session.writes_table)
    if connection.vendor == "mysql":
        return [Session(int(pid), began_at=_aware(at)) for pid, at in _ask(using, _MYSQL_WRITERS, [])]
    return [Session(0)] if connection.vendor == "sqlite" and _is_sqlite_busy(using) else []


def is_row_locked(rows: models.QuerySet[Any], using: str) -> bool:
    """Return whether another transaction holds a lock on the one row of a query."""
    return _is_locked(rows, using)


def _is_locked(rows: models.QuerySet[Any], using: str) -> bool:
    connection = connections[using]
    if not connection.features.has_select_for_update_skip_locked:
        return False
    try:
        with transaction.atomic(using=using):
            # Without conflict with the locks that foreign keys to the row take.
            is_weak = connection.features.has_select_for_no_key_update
            found = list(rows.select_for_update(skip_locked=True, no_key=is_weak).values_list("pk", flat=True)[:1])
            transaction.set_rollback(True, using=using)
        return not found and rows.exists()
    except DatabaseError as error:
        logger.debug("Whether a row is locked could not be found out: %s", error)
        return False


def _is_sqlite_busy(using: str) -> bool:
    """Return whether another connection has begun to write and has not ended."""
    connection = connections[using]
    if connection.in_atomic_block:
        return False
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        before = cursor.fetchone()[0]
        cursor.execute("PRAGMA busy_timeout = 0")
        try:
            cursor.execute("BEGIN IMMEDIATE")
            cursor.execute("ROLLBACK")
        except DatabaseError as error:
            return "locked" in str(error)
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {int(before)}")
    return False


def _ask(using: str, statement: str, values: Sequence[str | float]) -> list[tuple[Any, ...]]:
    try:
        # In a savepoint if a transaction is open, which a failure would end.
        with transaction.atomic(using=using), connections[using].cursor() as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall())
    except DatabaseError as error:
        logger.debug("The sessions of the database could not be read: %s", error)
        return []


def _session(row: Sequence[Any], writes_table: bool = False) -> Session:
    pid, program, user, state, began_at, query_at, query = row
    return Session(
        int(pid), program or "", user or "", state or "", _aware(began_at), _aware(query_at), query or "", writes_table
    )


def _aware(moment: datetime | None) -> datetime | None:
    if moment is None or timezone.is_aware(moment):
        return moment
    return timezone.make_aware(moment)


def age_of(session: Session) -> timedelta | None:
    """Return for how long its transaction has been open."""
    began_at = session.began_at
    if began_at is None:
        return None
    now = timezone.now()
    return now - began_at if timezone.is_aware(now) else None
