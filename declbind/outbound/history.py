"""The head row of the log, and the detection of a replaced log.

Offsets are only comparable within one epoch. A database that was restored, emptied or failed over to a replica may lack
events that clients have received, and will give their offsets to other events. If this is detected, a new epoch begins.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TypedDict

from django.db import DatabaseError, ProgrammingError, connections, models, transaction

from declbind.models import Event, Head

from .head_lock import NumberingBlockedError, bounded_transaction, lock_head


class NewHead(TypedDict):
    """The columns of a new head row."""

    epoch: str
    seq: int
    min_seq: int


#: The first id that holds a trigger's mark instead of an event, or a number above all ids if there is no mark.
FIRST_MARK = "COALESCE((SELECT MIN(id) FROM declbind_event WHERE kind = 'mark'), 9223372036854775807)"
#: The last id that SQLite assigned, even if its event has been trimmed.
LAST_ID = "(SELECT MAX(seq) FROM sqlite_sequence WHERE name = 'declbind_event')"


def needs_sequencer(using: str) -> bool:
    """Return whether the sequencer assigns the offsets; on SQLite the id is the offset."""
    return connections[using].vendor != "sqlite"


def offset_column(using: str) -> str:
    """Return the column that orders the log."""
    return "seq" if needs_sequencer(using) else "id"


def ensure_head(using: str) -> Head:
    """Return the head row. If it is missing, insert it with a new epoch and the bounds of the stored events.

    A migration inserts the row, so it is missing only after a flush that sends no ``post_migrate``. Any number of
    processes may call this at once, because the insert ignores an existing row. No transaction begins with a read here:
    SQLite would then refuse the write with "database is locked" while another process writes.
    """
    heads = Head.objects.using(using)
    if head := heads.filter(pk=1).first():
        return head
    heads.bulk_create([Head(pk=1, **_new_head(using))], ignore_conflicts=True)
    if head := heads.filter(pk=1).first():
        return head
    # Another process inserted the row after the open transaction took its snapshot. A locking read sees the row.
    with bounded_transaction(using):
        return lock_head(using)


def _new_head(using: str, last_given: int = 0) -> NewHead:
    """Return the columns of the head row for the stored log, so that no offset is assigned twice."""
    column = offset_column(using)
    ends = Event.objects.using(using).aggregate(first=models.Min(column), last=models.Max(column))
    last = max(ends["last"] or 0, last_given)
    if not needs_sequencer(using):
        with connections[using].cursor() as cursor:
            cursor.execute(f"SELECT {LAST_ID}")
            last = cursor.fetchone()[0] or 0
    return {
        "epoch": secrets.token_hex(8),
        "seq": last if needs_sequencer(using) else 0,
        # If the events with the last offsets are gone, the log is treated as empty, and clients with older offsets get
        # a resync.
        "min_seq": ends["first"] if ends["first"] is not None and ends["last"] == last else last + 1,
    }


def renew_epoch(using: str, epoch: str) -> None:
    """Begin a new epoch, unless the current one is no longer ``epoch``. It is safe to call this twice.

    Call it when the log lacks events that it should have, because offsets of the old epoch are then meaningless.
    Numbers continue after the highest number that was assigned.

    Raises:
        NumberingBlockedError: Another session holds the lock of the head.
    """
    with bounded_transaction(using):
        head = Head.objects.using(using).select_for_update().filter(pk=1, epoch=epoch).first()
        if head is not None:
            _begin_anew(head, using)


def _begin_anew(head: Head, using: str) -> None:
    for name, value in _new_head(using, head.seq).items():
        setattr(head, name, value)
    head.save()


def check_incarnation(using: str) -> None:
    """Begin a new epoch if the tables were replaced: loaded from a dump, or those of a promoted replica.

    Call it after a process opens a new connection, because the tables may have been replaced while it was closed.
    SQLite records nothing that shows a replacement; there, ``manage.py declbind doctor --after-restore`` begins the new
    epoch. While another session holds the lock of the head, tables that were never seen before are not recorded.

    Raises:
        NumberingBlockedError: The tables were replaced, and another session holds the lock of the head.
    """
    incarnation = _read_incarnation(using)
    head = ensure_head(using)
    if head.incarnation == incarnation or not incarnation:
        return
    try:
        with bounded_transaction(using):
            head = lock_head(using)
            if head.incarnation not in ("", incarnation):
                _begin_anew(head, using)
            head.incarnation = incarnation
            head.save()
    except NumberingBlockedError:
        # There is nothing to compare with, so the process may start. Its next connection records the tables.
        if head.incarnation:
            raise


def _read_incarnation(using: str) -> str:
    """Return an identifier of the tables and of the server's history; "" if the database has none.

    It changes when a dump is loaded (new tables), when the database is copied, and when a replica is promoted, which
    may lack the last commits.
    """
    read = _READERS.get(connections[using].vendor)
    return "" if read is None else read(using)


def _read_postgresql(using: str) -> str:
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT oid, 'declbind_event'::regclass::oid, 'declbind_head'::regclass::oid"
            " FROM pg_database WHERE datname = current_database()"
        )
        tables = "-".join(map(str, cursor.fetchone()))
    try:
        # In a savepoint if a transaction is open, because some hosting providers deny access to these functions.
        with transaction.atomic(using=using), connections[using].cursor() as cursor:
            cursor.execute("SELECT system_identifier, timeline_id FROM pg_control_system(), pg_control_checkpoint()")
            server = "-".join(map(str, cursor.fetchone()))
    except ProgrammingError:
        server = "?"
    return f"{server}-{tables}"


def _read_mysql(using: str) -> str:
    with connections[using].cursor() as cursor:
        # A change of the tables' columns counts as well, which costs clients one snapshot.
        cursor.execute(
            "SELECT create_time FROM information_schema.tables WHERE table_schema = DATABASE()"
            " AND table_name IN ('declbind_event', 'declbind_head') ORDER BY table_name"
        )
        tables = "-".join(f"{made:%Y%m%d%H%M%S}" if made else "?" for (made,) in cursor.fetchall())
    is_mariadb = getattr(connections[using], "mysql_is_mariadb", False)
    try:
        with connections[using].cursor() as cursor:
            cursor.execute("SELECT @@server_uid" if is_mariadb else "SELECT @@server_uuid")
            server = str(cursor.fetchone()[0])
    except DatabaseError:  # MariaDB before 10.11 has no such variable
        server = "?"
    return f"{server}-{tables}"


_READERS: dict[str, Callable[[str], str]] = {"postgresql": _read_postgresql, "mysql": _read_mysql}
