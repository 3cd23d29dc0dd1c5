"""The lock of the log's head, which is never awaited without bound.

A process holds it for milliseconds, while it numbers events, trims the log or begins a new epoch. A database session
that hangs may hold it for hours. Waiting for it would stop the heartbeat, the start of a process and the replies to
clients, because these share threads with the work on the log.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

from django.db import OperationalError, connections, transaction

from declbind.django_types import Connection, Cursor
from declbind.models import Head

#: How long the lock of the head is awaited. Other sequencers hold it for milliseconds.
LOCK_SECONDS = 2.0
#: PostgreSQL's code for a lock that was not available in time, and that of MySQL and MariaDB.
LOCK_NOT_AVAILABLE, LOCK_WAIT_TIMEOUT = "55P03", 1205


class NumberingBlockedError(OperationalError):
    """Another session has held the lock of the head for longer than ``LOCK_SECONDS``."""


@contextlib.contextmanager
def bounded_transaction(using: str, *, is_fresh: bool = False) -> Iterator[None]:
    """Open a transaction, or a savepoint if one is open, in which no lock is awaited for longer than ``LOCK_SECONDS``.

    SQLite bounds all its waits itself (``timeout`` in ``OPTIONS``).

    Args:
        using: The alias of the log's database.
        is_fresh: See the latest committed rows, if the transaction begins here (``read_committed``).

    Raises:
        NumberingBlockedError: Another session holds a lock. Nothing was changed, and an open transaction can go on.
    """
    connection = connections[using]
    is_outermost = not connection.in_atomic_block
    with refuse_to_wait(), transaction.atomic(using=using):
        if is_fresh and is_outermost:
            read_committed(connection)
        with bounded_waits(connection, restores=not is_outermost):
            yield


def lock_head(using: str) -> Head:
    """Take the lock of the head inside a ``bounded_transaction``, and return the row."""
    return Head.objects.using(using).select_for_update().get(pk=1)


@contextlib.contextmanager
def refuse_to_wait() -> Iterator[None]:
    """Raise ``NumberingBlockedError`` for the error of a lock that was not available in time."""
    try:
        yield
    except OperationalError as error:
        if isinstance(error, NumberingBlockedError) or not _is_timeout(error):
            raise
        text = f"Another session of the database has held the lock of the log for over {LOCK_SECONDS:g} s."
        raise NumberingBlockedError(text) from error


def read_committed(connection: Connection) -> None:
    """Make the transaction that begins here see committed data until it holds the head's lock.

    The project may have set a stricter isolation level. Under it, two processes that compete for the lock would fail
    with a serialization error, and the reads here would conflict with the project's writes. MySQL and MariaDB need
    nothing, because their locking reads see the newest rows in every level.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")


@contextlib.contextmanager
def bounded_waits(connection: Connection, *, restores: bool = False) -> Iterator[None]:
    """Bound the waits for locks inside the block, which is inside a transaction, by ``LOCK_SECONDS``.

    On PostgreSQL, the bound lasts until the end of the transaction unless ``restores`` is set.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            before = _setting(cursor, "current_setting('lock_timeout')") if restores else None
            cursor.execute(f"SET LOCAL lock_timeout = {int(LOCK_SECONDS * 1000)}")
        yield
        # After an error, the rollback restores it, and no statement would be accepted.
        if before is not None:
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, true)", [before])
    elif connection.vendor == "mysql":
        # There is no setting for one transaction, so the setting of the session is changed and restored.
        with connection.cursor() as cursor:
            before = _setting(cursor, "@@innodb_lock_wait_timeout")
            cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {max(1, math.ceil(LOCK_SECONDS))}")
        try:
            yield
        finally:
            _restore(connection, before)
    else:
        yield


def _setting(cursor: Cursor, expression: str) -> str:
    cursor.execute(f"SELECT {expression}")
    return str(cursor.fetchone()[0])


def _restore(connection: Any, seconds: str) -> None:
    # Django's cursors raise an error in a failed transaction. A lost connection has nothing to restore.
    with contextlib.suppress(connection.Database.Error), connection.connection.cursor() as cursor:
        cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {int(seconds)}")


def _is_timeout(error: OperationalError) -> bool:
    return (
        getattr(error.__cause__, "sqlstate", None) == LOCK_NOT_AVAILABLE
        or getattr(error.__cause__, "pgcode", None) == LOCK_NOT_AVAILABLE
        or error.args[:1] == (LOCK_WAIT_TIMEOUT,)
    )
