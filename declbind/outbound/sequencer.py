"""Give committed events their numbers, and read states of the database that a number names.

Ids become visible out of commit order, so readers go by numbers, which are given under the lock of the head row. Lock
first, *then* look: the other way round two relays number the same events. On SQLite there is nothing to do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from django.db import connections, models, transaction

from declbind.models import Event, Head

from .history import ensure_head, needs_sequencer
from .log import HeadState, load_head

SEQUENCE_BATCH = 5_000


def sequence(using: str, limit: int = SEQUENCE_BATCH) -> int:
    """Give the committed events that have no number the next ones, in the order of their ids; return how many.

    Any number of processes may call this at any time. Without new events it takes no lock.
    """
    if not needs_sequencer(using):
        return 0
    waiting = Event.objects.using(using).filter(seq__isnull=True)
    if not waiting.exists():
        return 0
    ensure_head(using)
    with transaction.atomic(using=using):
        head = Head.objects.using(using).select_for_update().get(pk=1)
        count = number_events(waiting, head.seq, limit, using)
        Head.objects.using(using).filter(pk=1).update(seq=head.seq + count)
    return count


def number_events(waiting: models.QuerySet[Event], last: int, limit: int, using: str) -> int:
    """Number up to ``limit`` events after ``last``. The caller holds the head's lock and took it before this looks."""
    connection = connections[using]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE declbind_event AS event SET seq = %s + numbered.n FROM ("
                " SELECT id, row_number() OVER (ORDER BY id) AS n FROM ("
                "  SELECT id FROM declbind_event WHERE seq IS NULL ORDER BY id LIMIT %s) AS waiting"
                ") AS numbered WHERE event.id = numbered.id",
                [last, limit],
            )
            return int(cursor.rowcount)
    ids = list(waiting.order_by("id").values_list("id", flat=True)[:limit])
    with connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE declbind_event SET seq = %s WHERE id = %s",
            [(last + position, id_) for position, id_ in enumerate(ids, 1)],
        )
    return len(ids)


def unsequenced_ids(using: str) -> frozenset[int]:
    """Return the ids of committed events that have no number yet; always empty on SQLite."""
    if not needs_sequencer(using):
        return frozenset()
    return frozenset(Event.objects.using(using).filter(seq__isnull=True).values_list("id", flat=True))


@contextlib.contextmanager
def consistent_read(using: str) -> Iterator[None]:
    """Let all queries of the block see one state of the database, without stopping writers where that is possible."""
    connection = connections[using]
    if connection.in_atomic_block:
        yield
    elif connection.vendor == "sqlite":
        # atomic() would BEGIN in the mode of the settings, and IMMEDIATE takes the lock that writers wait for.
        with connection.cursor() as cursor:
            cursor.execute("BEGIN DEFERRED")
            try:
                yield
            finally:
                cursor.execute("ROLLBACK")
    else:
        with transaction.atomic(using=using):
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield


@contextlib.contextmanager
def numbered_read(using: str) -> Iterator[HeadState]:
    """Like ``consistent_read``, of a state that the log names: it holds what events up to the given head's offset tell,
    and nothing of later ones.

    Committed events that have no number yet would lie beyond the head, and their rows in the state: who came back with
    that offset would hear them once more. They get their numbers here.
    """
    ensure_head(using)
    if connections[using].in_atomic_block:
        while sequence(using):
            pass
        yield load_head(using)
        return
    with consistent_read(using):
        head = load_head(using)
        if not unsequenced_ids(using):
            yield head
            return
    with consistent_read(using):
        yield _number_what_is_seen(using)


def _number_what_is_seen(using: str) -> HeadState:
    """Number the waiting events that the caller's transaction sees, which has made no query yet; return its head.

    Its view of the database begins with its first query, and that is made while a second connection holds the lock of
    the sequencer: nobody else can give numbers in between. The lock is free again when this returns.
    """
    with contextlib.closing(connections[using].copy()) as other, other.cursor() as cursor:
        other.set_autocommit(False)
        cursor.execute("SELECT seq FROM declbind_head WHERE id = 1 FOR UPDATE")
        head = load_head(using)
        numbers = [(offset, id_) for offset, id_ in enumerate(sorted(unsequenced_ids(using)), head.offset + 1)]
        cursor.executemany("UPDATE declbind_event SET seq = %s WHERE id = %s", numbers)
        cursor.execute("UPDATE declbind_head SET seq = %s WHERE id = 1", [head.offset + len(numbers)])
        other.commit()
    return replace(head, offset=head.offset + len(numbers))
