"""The event log: appending, reading and trimming.

The log is the source of truth for delivery. An event is inserted in the transaction of its write, so it exists if and
only if the write is committed. Readers keep a position in the log, and no event may appear before it later:

- On SQLite, writers wait for one lock, so ids become visible in order. The id is the offset.
- On other databases, a transaction with a low id may commit after one with a high id. The sequencer assigns the
  offsets.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError, connections, models, transaction
from django.db.models.expressions import RawSQL
from django.utils import timezone

from declbind.conf import settings
from declbind.configuration_version import has_table
from declbind.core.hub import LogEvent
from declbind.django_types import Connection
from declbind.models import Event, Head
from declbind.registry import database_alias
from declbind.tenancy import EVERYBODY

from . import tenants
from .entries import Draft, insert
from .head_lock import NumberingBlockedError, bounded_transaction
from .history import FIRST_MARK, LAST_ID, ensure_head, needs_sequencer, offset_column

logger = logging.getLogger("declbind")

READ_COLUMNS = (
    "id", "kind", "stream", "model", "object_pk", "changes", "data", "version", "tenant", "created_at",
)  # fmt: skip
TRIM_BATCH = 1_000

#: Called with the database alias after the commit of a transaction that appended events; set by ``relay``. It must not
#: block or raise.
ring: Callable[[str], None] = lambda using: None  # noqa: E731 - a hook with a default, not a function definition

#: The databases in which the log was found: alias, schema of the tenant, and whether the search path includes the
#: schema that tenants share.
_migrated: set[tuple[str, str, bool]] = set()
#: Databases and schemas, in the same form, from which the log is out of reach. They have already been reported.
_out_of_reach: set[tuple[str, str, bool]] = set()


@dataclass(frozen=True, slots=True)
class HeadState:
    """The two ends of the log.

    ``offset`` is that of the last event, ``min_offset`` that of the first event that is kept. ``is_whole`` is False if
    events disappeared without being trimmed, because the table was emptied or rows were deleted.
    """

    epoch: str
    offset: int
    min_offset: int
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class Reading:
    """The result of ``look``: the ends of the log, the events after an offset, and whether some have no number yet."""

    head: HeadState
    events: list[LogEvent]
    has_waiting: bool = False


def append(drafts: Sequence[Draft], using: str, began_in: str | None = None) -> None:
    """Insert events in the caller's transaction, and ring the doorbell after its commit.

    The events are addressed to the tenant that the connection is in now. ``began_in`` is the tenant that it was in when
    the write began; if the two differ, a resync is stored instead.
    """
    if not drafts:
        return
    connection = connections[using]
    if drafts[0].kind != Event.CONTROL:
        if tenants.are_mixed(using):
            _append_without_rows(drafts, connection)
            return
        drafts = tenants.address(drafts, using, began_in)
    insert(drafts, connection)
    ring_after_commit(connection)


def append_for(tenant: str, drafts: Sequence[Draft], using: str) -> None:
    """Insert events for ``tenant`` ("" means all), whatever the connection's tenant; otherwise like ``append``."""
    if drafts:
        insert([draft._replace(tenant=tenant) for draft in drafts], connections[using])
        ring_after_commit(connections[using])


def _append_without_rows(drafts: Sequence[Draft], connection: Connection) -> None:
    """Append resyncs in place of events, if tenants have their own schemas, from which the log may be out of reach."""
    found = tenants.without_rows(drafts, connection.alias)
    try:
        with transaction.atomic(using=connection.alias):
            insert(found, connection)
    except DatabaseError as error:  # This must not break the write.
        logger.error("The event log cannot be reached from a tenant's schema: %s", error)
    else:
        ring_after_commit(connection)


def ring_after_commit(connection: Connection) -> None:
    """Ring the doorbell after the commit of the open transaction, or at once in autocommit mode."""
    # One ring is enough for all events of a transaction. If the last callback already rings, no other is added. A
    # rollback that drops that callback also rolls back this event, because its savepoints are either still open here or
    # have ended.
    waiting = connection.run_on_commit
    if not (connection.in_atomic_block and waiting and getattr(waiting[-1][1], "__func__", None) is _Bell.ring):
        # The callback is a bound method, because Django logs the ``__qualname__`` of a callback that fails.
        connection.on_commit(_Bell(connection.alias).ring, robust=True)


@dataclass(frozen=True, slots=True)
class _Bell:
    """A commit callback that rings the doorbell for one database."""

    using: str

    def ring(self) -> None:
        """Notify the readers of the log."""
        ring(self.using)


def append_control(
    content: Mapping[str, object], using: str, *, stream: str = "", version: int = 0, tenant: str = ""
) -> None:
    """Append a control event, which reports a change of permissions or configuration.

    ``content`` is JSON and has a ``type``. ``tenant`` is the tenant whose sockets it concerns; "" means all tenants.
    """
    draft = Draft(stream=stream, kind=Event.CONTROL, data=json.dumps(content), version=version, tenant=tenant)
    append([draft], using)


def is_here(using: str | None) -> bool:
    """Return whether writes on a database can be logged in their own transaction, because it has the log's tables."""
    if using is None or using != database_alias():
        return False
    # Each tenant's schema has its own tables.
    connection: Any = connections[using]
    schema = getattr(connection, "schema_name", None) or ""
    place = using, schema, bool(getattr(connection, "include_public_schema", True))
    if place not in _migrated:
        if not has_table(connection, Event._meta.db_table):
            if settings.TENANT is not None and _migrated and place not in _out_of_reach:
                _out_of_reach.add(place)
                logger.error(
                    "Writes in schema %r are not captured, because the event log cannot be reached from it.", schema
                )
            return False
        _migrated.add(place)
    return True


def load_head(using: str) -> HeadState:
    """Return the ends of the log. Makes one query."""
    return look(0, 0, using).head


def look(after: int, limit: int, using: str) -> Reading:
    """Return the ends of the log, and up to ``limit`` events with offsets above ``after`` in order.

    One statement reads everything, so the result shows one state of the database. Every process calls this several
    times a second. The events have no time.
    """
    with connections[using].cursor() as cursor:
        cursor.execute(_look_statement(needs_sequencer(using)), [after, limit])
        rows = cursor.fetchall()
    if not rows:
        ensure_head(using)
        return look(after, limit, using)
    epoch, last, min_offset, first, newest, has_waiting = rows[0][:HEAD_COLUMNS]
    # If the head keeps no event, stored events with lower offsets are waiting to be deleted.
    is_whole = last < min_offset or (first is not None and first <= min_offset and newest == last)
    events = [_log_event(row[HEAD_COLUMNS:]) for row in rows if row[HEAD_COLUMNS] is not None]
    return Reading(HeadState(epoch, last, min_offset, is_whole), events, bool(has_waiting))


HEAD_COLUMNS = 6


@functools.cache
def _look_statement(is_sequenced: bool) -> str:
    column = "seq" if is_sequenced else "id"
    # If ids are the offsets, readers stop at the first mark, because making its events will renumber later ones.
    settled = "" if is_sequenced else f" AND id < {FIRST_MARK}"
    names = [column, *(name for name in READ_COLUMNS if name != "created_at")]
    places = [f"c{number}" for number in range(len(names))]
    last_id = f"COALESCE({LAST_ID}, head.min_seq - 1)"
    settled_last = f"CASE WHEN {last_id} < {FIRST_MARK} THEN {last_id} ELSE {FIRST_MARK} - 1 END"
    last = "head.seq" if is_sequenced else settled_last
    waits = "seq IS NULL" if is_sequenced else "kind = 'mark'"
    found = ", ".join(f"found.{place}" for place in places)
    named = ", ".join(f"{name} AS {place}" for name, place in zip(names, places, strict=True))
    return (
        f"SELECT head.epoch, {last}, head.min_seq, (SELECT MIN({column}) FROM declbind_event WHERE 1 = 1{settled}),"
        f" (SELECT MAX({column}) FROM declbind_event WHERE 1 = 1{settled}),"
        f" EXISTS (SELECT 1 FROM declbind_event WHERE {waits}), {found} FROM declbind_head head LEFT JOIN"
        f" (SELECT {named} FROM declbind_event WHERE {column} > %s{settled} ORDER BY {column} LIMIT %s) found"
        f" ON 1 = 1 WHERE head.id = 1 ORDER BY found.{places[0]}"
    )


def read(after: int, limit: int, using: str, stream: str | None = None, tenant: str | None = None) -> list[LogEvent]:
    """Return events with offsets above ``after`` in order, at most ``limit``.

    Args:
        after: The offset to start after.
        limit: The maximum number of events.
        using: The alias of the log's database.
        stream: If given, events of other streams are left out, except control events.
        tenant: If given, events of other tenants are left out.
    """
    column = offset_column(using)
    rows = Event.objects.using(using).filter(**{f"{column}__gt": after})
    if column == "id":
        rows = rows.filter(id__lt=RawSQL(FIRST_MARK, ()))
    if stream is not None:
        rows = rows.filter(models.Q(stream=stream) | models.Q(kind=Event.CONTROL))
    if tenant is not None:
        rows = rows.filter(tenant__in=(EVERYBODY, tenant))
    return [_log_event(row) for row in rows.order_by(column).values_list(column, *READ_COLUMNS)[:limit]]


def trim(using: str) -> int:
    """Delete one batch of events that are older than the retention; return the number of deleted events.

    Only numbered events are deleted, oldest first, and ``min_seq`` moves in the same transaction. Nothing is deleted
    while another session holds the lock of the head.
    """
    head = load_head(using)
    column = offset_column(using)
    events = Event.objects.using(using)
    batch_end = min(head.min_offset + TRIM_BATCH - 1, head.offset)
    too_old = timezone.now() - dt.timedelta(seconds=settings.RETENTION_SECONDS)
    oldest = events.filter(**{f"{column}__lte": batch_end}, created_at__lt=too_old)
    by_age = oldest.aggregate(last=models.Max(column))["last"] or 0
    last = min(max(by_age, head.offset - settings.RETENTION_EVENTS), batch_end)
    if last < head.min_offset:
        return 0
    try:
        return _delete(last, using)
    except NumberingBlockedError as error:
        logger.info("Old events are deleted later: %s", error)
        return 0


def _delete(last: int, using: str) -> int:
    """Delete the events up to an offset; return their number."""
    column = offset_column(using)
    events = Event.objects.using(using)
    with bounded_transaction(using):
        # Never lower the number, because readers trust it and another relay may have trimmed further in the meantime.
        trimmed = events.filter(**{f"{column}__lte": last}).order_by(f"-{column}")
        until = trimmed.values_list("created_at", flat=True).first()
        head_row = Head.objects.using(using).filter(pk=1, min_seq__lte=last)
        head_row.update(min_seq=last + 1, **({} if until is None else {"trimmed_until": until}))
        count, _ = events.filter(**{f"{column}__lte": last}).delete()
    return count


def _log_event(row: Sequence[Any]) -> LogEvent:
    offset, id_, kind, stream, model, object_pk, changes, data, version, tenant = row[:10]
    return LogEvent(
        offset=offset,
        id=id_,
        kind=kind,
        stream=stream,
        model=model,
        object_pk=object_pk,
        changes=_decode_changes(changes),
        data=data,
        version=version,
        created_at=row[10] if len(row) > 10 else None,
        tenant=tenant,
    )


@functools.lru_cache(maxsize=1024)
def _decode_changes(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((group, action) for group, action in json.loads(text))
