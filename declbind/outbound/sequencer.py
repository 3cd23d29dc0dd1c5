"""Numbering of committed events, and reads of a database state that a number identifies.

Ids become visible out of commit order, so readers use numbers instead, which are assigned under the lock of the head
row. The lock must be taken *before* the events are read. In the other order, two relays would number the same events.
On SQLite the ids are the numbers.

A trigger's mark gets no number. The events that are made from it take its place in the order (see ``triggers``).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from django.db import connections, models, transaction
from django.db.models.expressions import RawSQL

from declbind.batches import in_batches
from declbind.conf import settings
from declbind.django_types import Connection
from declbind.models import Event, Head

from . import entries
from .head_lock import bounded_transaction, bounded_waits, lock_head, read_committed, refuse_to_wait
from .history import FIRST_MARK, ensure_head, needs_sequencer
from .log import HeadState, load_head, look
from .triggers.marks import Mark, convert

SEQUENCE_BATCH = 5_000
#: On SQLite: how often a read is repeated because marks were committed during it, before it blocks writers.
READ_ATTEMPTS = 3


class StaleViewError(Exception):
    """Raised if events that seemed to have no number have one, because they were read from an old snapshot."""


def sequence(using: str, limit: int = SEQUENCE_BATCH) -> int:
    """Number the committed events that have no number yet, in the order of their ids.

    The wait for the lock is bounded.

    Marks of triggers become events in their places. Any number of processes may call this at any time. Without new
    events it takes no lock.

    Args:
        using: The alias of the log's database.
        limit: The most events to number in one call.

    Returns:
        The number of events that were numbered.

    Raises:
        head_lock.NumberingBlockedError: Another session holds the lock of the head.
    """
    if not needs_sequencer(using):
        return settle_marks(using)
    has_waiting, has_marks = _look_for_waiting(using)
    if not has_waiting:
        return 0
    ensure_head(using)
    waiting = Event.objects.using(using).filter(seq__isnull=True)
    # Done before taking the lock, which every writer waits for.
    made = _convert(waiting.filter(kind=Event.MARK).order_by("id")[:limit]) if has_marks else {}
    is_outermost = not connections[using].in_atomic_block
    try:
        with bounded_transaction(using, is_fresh=True):
            head = lock_head(using)
            count = number_events(waiting, head.seq, limit, using)
            last = head.seq + count
            if has_marks:
                more, last = number_with_marks(waiting, last, limit, connections[using], made)
                count += more
            Head.objects.using(using).filter(pk=1).update(seq=last)
    except StaleViewError:
        # A caller's transaction sees the log as it was before the lock was taken. Others number its events.
        if is_outermost:
            raise
        return 0
    return count


def _look_for_waiting(using: str) -> tuple[bool, bool]:
    """Return whether any event has no number, and whether the log has marks."""
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT 1 FROM declbind_event WHERE seq IS NULL),"
            " EXISTS (SELECT 1 FROM declbind_event WHERE kind = 'mark')"
        )
        has_waiting, has_marks = cursor.fetchone()
    return bool(has_waiting), bool(has_marks)


def number_events(waiting: models.QuerySet[Event], last: int, limit: int, using: str) -> int:
    """Number up to ``limit`` events, starting after the number ``last`` and stopping at the first mark.

    The caller must have taken the head's lock before this reads. A single statement reads and numbers. Between two
    statements a mark could become visible, get a number and never be converted.
    """
    connection = connections[using]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE declbind_event AS event SET seq = %s + numbered.n FROM ("
                " SELECT id, row_number() OVER (ORDER BY id) AS n FROM ("
                f"  SELECT id FROM declbind_event WHERE seq IS NULL AND id < {FIRST_MARK} ORDER BY id LIMIT %s"
                " ) AS waiting"
                ") AS numbered WHERE event.id = numbered.id",
                [last, limit],
            )
            return int(cursor.rowcount)
    ids = list(waiting.filter(id__lt=RawSQL(FIRST_MARK, ())).order_by("id").values_list("id", flat=True)[:limit])
    _store_numbers([(last + position, id_) for position, id_ in enumerate(ids, 1)], connection)
    return len(ids)


def _store_numbers(numbers: Sequence[tuple[int, int]], connection: Connection) -> None:
    """Store the numbers of events, given as pairs of number and id.

    The rows are found by their primary keys. With any other index, MySQL and MariaDB would wait for uncommitted rows of
    other writers, and lock the gaps into which these insert. Ids mostly have the same order as numbers, so a few
    statements are enough.

    Raises:
        StaleViewError: Another process has numbered one of them already.
    """
    by_distance: dict[int, list[int]] = {}
    for number, id_ in numbers:
        by_distance.setdefault(number - id_, []).append(id_)
    count = 0
    table = "declbind_event FORCE INDEX (PRIMARY)" if connection.vendor == "mysql" else "declbind_event"
    with connection.cursor() as cursor:
        for distance, ids in by_distance.items():
            for some in in_batches(ids, connection.alias):
                marks = ", ".join(["%s"] * len(some))
                cursor.execute(
                    f"UPDATE {table} SET seq = id + %s WHERE id IN ({marks}) AND seq IS NULL", [distance, *some]
                )
                count += cursor.rowcount
    if count != len(numbers):
        raise StaleViewError(f"Expected {len(numbers)} events without a number, found {count}.")


def number_with_marks(
    waiting: models.QuerySet[Event],
    last: int,
    limit: int,
    connection: Connection,
    made: Mapping[int, list[entries.Draft]],
) -> tuple[int, int]:
    """Number events like ``number_events``, and replace marks by their events.

    Reads the rows in ``waiting``, and writes through ``connection``, which holds the head's lock. ``made`` holds events
    that have already been made, by the mark's id; those of other marks are made here.

    Returns:
        The number of rows that waited, and the last number.
    """
    rows = list(waiting.order_by("id").values_list("id", "kind")[:limit])
    noted = [id_ for id_, kind in rows if kind == Event.MARK]
    marks = {mark.id: mark for mark in Event.objects.using(waiting.db).filter(pk__in=noted)}
    made = {**_convert(Event.objects.using(waiting.db).filter(pk__in=set(noted) - set(made)).order_by("id")), **made}
    numbers: list[tuple[int, int]] = []
    events: list[entries.Placed] = []
    for id_, kind in rows:
        if kind != Event.MARK:
            last += 1
            numbers.append((last, id_))
            continue
        for draft in made[id_]:
            last += 1
            events.append(entries.Placed(last, draft, marks[id_]))
    _store_numbers(numbers, connection)
    with connection.cursor() as cursor:
        cursor.executemany("DELETE FROM declbind_event WHERE id = %s", [(id_,) for id_ in marks])
    entries.insert_placed(events, "seq", connection)
    return len(rows), last


def _convert(marks: models.QuerySet[Event]) -> dict[int, list[entries.Draft]]:
    noted = [Mark(mark.pk, mark.data) for mark in marks]
    return dict(zip([mark.id for mark in noted], convert(noted, marks.db), strict=True)) if noted else {}


def settle(using: str) -> None:
    """Convert all stored marks to events."""
    while Event.objects.using(using).filter(kind=Event.MARK).exists():
        if not sequence(using):
            break


def settle_marks(using: str) -> int:
    """Convert marks to events on SQLite; return the number of marks.

    Readers stop at the first mark, so the ids of later events can still be changed.
    """
    marks = Event.objects.using(using).filter(kind=Event.MARK)
    if not marks.exists():
        return 0
    with transaction.atomic(using=using):
        _take_lock(using)
        first = marks.order_by("id").values_list("id", flat=True).first()
        if first is None:
            return 0
        _join_crowds(marks, using)
        count = 0
        events: list[entries.Placed] = []
        tail = list(Event.objects.using(using).filter(id__gte=first).order_by("id"))
        found = iter(convert([Mark(row.pk, row.data) for row in tail if row.kind == Event.MARK], using))
        number = first
        for row in tail:
            count += row.kind == Event.MARK
            for draft in next(found) if row.kind == Event.MARK else [entries.Draft.of(row)]:
                events.append(entries.Placed(number, draft, row))
                number += 1
        Event.objects.using(using).filter(id__gte=first)._raw_delete(using)
        entries.insert_placed(events, "id", connections[using])
        with connections[using].cursor() as cursor:
            cursor.execute("UPDATE sqlite_sequence SET seq = %s WHERE name = 'declbind_event'", [number - 1])
    return count


def _take_lock(using: str) -> None:
    """Take SQLite's write lock, whatever the mode of transactions. After a read, taking it could fail."""
    Head.objects.using(using).filter(pk=1).update(seq=models.F("seq"))


def _join_crowds(marks: models.QuerySet[Event], using: str) -> None:
    """Replace the marks of a table by a single mark if there are more than the limit for one event each.

    The marks of one ORM call are counted separately. If the call wrote few rows, each row is reported, however many
    such calls a transaction makes. All other marks of the table are counted together.
    """
    many = "kind = 'mark' AND COALESCE(json_extract(data, '$.is_few'), 0) = 0"
    call = "COALESCE(json_extract(data, '$.after'), '')"
    with connections[using].cursor() as cursor:
        cursor.execute(
            f"SELECT json_extract(data, '$.table'), {call}, MIN(id) FROM declbind_event WHERE {many}"
            " AND json_extract(data, '$.op') <> 'CANDIDATE' GROUP BY 1, 2 HAVING COUNT(*) > %s",
            [settings.BULK_LIMIT],
        )
        for table, of_call, first in cursor.fetchall():
            crowd = f"{many} AND json_extract(data, '$.table') = %s AND {call} = %s"
            cursor.execute(f"DELETE FROM declbind_event WHERE {crowd} AND id <> %s", [table, of_call, first])
            data = json.dumps({"table": table, "op": "MANY"})
            cursor.execute("UPDATE declbind_event SET data = %s WHERE id = %s", [data, first])


def unsequenced_ids(using: str) -> frozenset[int]:
    """Return the ids of committed events that have no number yet. On SQLite there are none."""
    if not needs_sequencer(using):
        return frozenset()
    return frozenset(Event.objects.using(using).filter(seq__isnull=True).values_list("id", flat=True))


@contextlib.contextmanager
def consistent_read(using: str) -> Iterator[None]:
    """Make all queries of the block see one state of the database, without blocking writers if possible."""
    connection = connections[using]
    if connection.in_atomic_block:
        yield
    elif connection.vendor == "sqlite":
        # atomic() would begin in the mode of the settings, and IMMEDIATE would block writers.
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
    """Read a state of the database that an offset of the log identifies.

    Yields the head. The state contains the changes of all events up to the head's offset, and of no later event. Events
    that are committed without a number are therefore numbered first. Otherwise their rows would be in the state while
    their later numbers were above the offset, and a client that resumes from it would receive the events again.
    Otherwise this is like ``consistent_read``.

    Raises:
        head_lock.NumberingBlockedError: Events wait for numbers, and another session holds the lock of the head.
    """
    ensure_head(using)
    if connections[using].in_atomic_block:
        while sequence(using):
            pass
        yield load_head(using)
        return
    if not needs_sequencer(using):
        with _settled_read(using) as head:
            yield head
        return
    with consistent_read(using):
        head = load_head(using)
        if not unsequenced_ids(using):
            yield head
            return
    made = _convert(Event.objects.using(using).filter(seq__isnull=True, kind=Event.MARK).order_by("id"))
    with consistent_read(using):
        yield _number_what_is_seen(using, made)


@contextlib.contextmanager
def _settled_read(using: str) -> Iterator[HeadState]:
    """Implement ``numbered_read`` for databases whose ids are the offsets.

    If a mark is committed before the read begins, its event and all later ones cannot be read yet, but their rows are
    in the state. Such a state has no offset, so the marks are converted and another state is read.
    """
    for _ in range(READ_ATTEMPTS):
        settle(using)
        with consistent_read(using):
            seen = look(0, 0, using)
            if not seen.has_waiting:
                yield seen.head
                return
    with transaction.atomic(using=using):
        _take_lock(using)
        settle(using)
        yield load_head(using)


def _number_what_is_seen(using: str, made: Mapping[int, list[entries.Draft]]) -> HeadState:
    """Number the waiting events that the caller's transaction sees, and return its head.

    The transaction must not have made a query yet, because its view of the database begins with its first query. That
    query is made here while a second connection holds the sequencer's lock, so no other process can assign numbers in
    between. The lock is released before this returns.
    """
    with contextlib.closing(connections[using].copy()) as other, refuse_to_wait(), other.cursor() as cursor:
        other.set_autocommit(False)
        read_committed(other)
        with bounded_waits(other):
            cursor.execute("SELECT seq FROM declbind_head WHERE id = 1 FOR UPDATE")
            head = load_head(using)
            waiting = Event.objects.using(using).filter(seq__isnull=True)
            _, last = number_with_marks(waiting, head.offset, waiting.count(), other, made)
            cursor.execute("UPDATE declbind_head SET seq = %s WHERE id = 1", [last])
            other.commit()
    return replace(head, offset=last)
