"""The log as it grows: each event once, in the order of offsets, with refused requests between them."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

from django.db.models import Max, Q
from django.utils import timezone

from declbind.core.frames import EVERY_GROUP
from declbind.core.hub import LogEvent
from declbind.models import Event, Traffic, Watch
from declbind.outbound import history, log

from .bulk import describe_bulk, list_groups
from .shown import shown

BATCH = 500
#: The kinds of traffic that are always recorded. Others are recorded only while an operator watches.
REFUSED = (Traffic.REFUSED, Traffic.ERROR)
ALL = (*REFUSED, Traffic.REQUEST, Traffic.CONNECTION)
#: How far back to read, in rows and in seconds, because ids may become visible out of order.
LATE_ROWS, LATE_SECONDS = 300, 10
#: The seconds after its last renewal at which a watch ends.
LEASE_SECONDS = 30


def follow(
    using: str,
    *,
    since: int | None = None,
    stream: str | None = None,
    limit: int | None = None,
    kinds: Sequence[str] = (),
    wait: Callable[[], bool],
) -> Iterator[LogEvent | Traffic]:
    """Yield events, and traffic of ``kinds`` among them.

    A log that begins a new epoch is read from its beginning.

    Args:
        using: The database of the log.
        since: The offset after which to begin. With ``None``, begin after the last event, or with a ``limit`` at the
            last ``limit`` items.
        stream: Only events of this stream, and those of permissions and of the configuration, which concern all.
        limit: End after this many items.
        kinds: Kinds of traffic to yield too, ordered by time among the events.
        wait: Called when nothing is left. The iterator ends when it returns false.
    """
    head = log.load_head(using)
    epoch, cursor = head.epoch, head.offset if since is None else since
    traffic = _TrafficReader(using, kinds, stream, since)
    left = limit
    if left is not None and left > 0 and since is None:
        last = _load_last(using, left, stream, cursor, traffic)
        yield from last
        left -= len(last)
    while left is None or left > 0:
        batch = BATCH if left is None else min(BATCH, left)
        events = log.read(cursor, batch, using, stream)
        found = _merge(events, traffic.read(batch))
        # Items beyond the limit are dropped, because they will not be requested.
        yield from found[:batch] if left is not None else found
        if events:
            cursor = events[-1].offset
        if left is not None:
            left -= len(found)
        if found:
            continue
        head = log.load_head(using)
        if head.epoch != epoch:
            epoch, cursor = head.epoch, 0
        elif not wait():
            return


def _load_last(
    using: str, limit: int, stream: str | None, until: int, traffic: _TrafficReader
) -> list[LogEvent | Traffic]:
    """Return the last items up to offset ``until``, and up to where ``traffic`` continues."""
    column = history.offset_column(using)
    rows = shown(Event, using).filter(**{f"{column}__lte": until})
    if stream is not None:
        rows = rows.filter(Q(stream=stream) | Q(kind=Event.CONTROL))
    offsets = list(rows.order_by(f"-{column}").values_list(column, flat=True)[:limit])
    events = log.read(offsets[-1] - 1, len(offsets), using, stream) if offsets else []
    return _merge(events, traffic.read_last(limit))[-limit:]


class _TrafficReader:
    """A reader of traffic that yields each row once.

    It begins where the reader of events begins: after the last row, at the first one, or at the time of an event.
    """

    def __init__(self, using: str, kinds: Sequence[str], stream: str | None, since: int | None) -> None:
        self._using, self._kinds = using, kinds
        rows = shown(Traffic, using).filter(kind__in=kinds)
        self._rows = rows if stream is None else rows.filter(stream=stream)
        self._seen: dict[int, None] = {}
        self._last = 0
        if kinds and since is None:
            self._last = rows.aggregate(last=Max("pk"))["last"] or 0
            late = rows.filter(pk__gt=self._last - LATE_ROWS).values_list("pk", flat=True)
            self._seen = dict.fromkeys(late)
        elif kinds and since:
            column = history.offset_column(using)
            at = shown(Event, using).filter(**{column: since}).values_list("created_at", flat=True).first()
            if at is not None:
                self._rows = self._rows.filter(at__gte=at)

    def read_last(self, limit: int) -> list[Traffic]:
        """Return the last ``limit`` rows before those that :meth:`read` returns."""
        if not self._kinds:
            return []
        return list(self._rows.filter(pk__lte=self._last).order_by("-pk")[:limit])[::-1]

    def read(self, limit: int) -> list[Traffic]:
        """Return the next rows in order."""
        if not self._kinds:
            return []
        fresh = Q(pk__gt=self._last)
        if history.needs_sequencer(self._using):
            oldest = timezone.now() - timedelta(seconds=LATE_SECONDS)
            fresh |= Q(pk__gt=self._last - LATE_ROWS, at__gte=oldest) & ~Q(pk__in=list(self._seen))
        rows = list(self._rows.filter(fresh).order_by("pk")[:limit])
        for row in rows:
            self._last = max(self._last, row.pk)
            self._seen[row.pk] = None
        for pk in list(self._seen)[: -2 * LATE_ROWS]:
            del self._seen[pk]
        return rows


def renew_watch(using: str) -> None:
    """Make all processes record traffic that is only recorded while watched. Call it repeatedly while watching."""
    now = timezone.now()
    viewer = f"tail:{socket.gethostname()}:{os.getpid()}"[:64]
    watches = Watch.objects.using(using)
    if not watches.filter(viewer=viewer, until__gt=now + timedelta(seconds=LEASE_SECONDS / 2)).exists():
        watches.update_or_create(viewer=viewer, defaults={"until": now + timedelta(seconds=LEASE_SECONDS)})


def _merge(events: list[LogEvent], rows: list[Traffic]) -> list[LogEvent | Traffic]:
    """Insert rows among events by time; the events keep their order, whatever the clocks of their writers."""
    merged: list[LogEvent | Traffic] = []
    waiting = list(reversed(rows))
    for event in events:
        while waiting and waiting[-1].at <= event.created_at:
            merged.append(waiting.pop())
        merged.append(event)
    return merged + waiting[::-1]


def as_json(item: LogEvent | Traffic, values: bool) -> dict[str, object]:
    """Return an event or a row of traffic as JSON values; ``kind`` says which it is."""
    return traffic_as_json(item) if isinstance(item, Traffic) else event_as_json(item, values)


def format_item(item: LogEvent | Traffic, values: bool) -> str:
    """Return an event or a row of traffic as one line."""
    return format_traffic(item) if isinstance(item, Traffic) else format_event(item, values)


def traffic_as_json(row: Traffic) -> dict[str, object]:
    """Return a row of traffic as JSON values. Sent data is included as a shape, without values."""
    return {
        "at": row.at,
        "kind": row.kind,
        "stream": row.stream,
        "action": row.action,
        "pk": row.object_pk or None,
        "groups": row.groups,
        "user": row.username or row.user_pk or None,
        "connection": row.connection or None,
        "node": row.node or None,
        "outcome": row.outcome,
        "message": row.message,
        "milliseconds": row.milliseconds,
        "detail": json.loads(row.detail) if row.detail else None,
    }


def format_traffic(row: Traffic) -> str:
    """Return one line: kind, time, stream, action, user, and outcome."""
    who = row.username or row.user_pk or ("anonymous" if row.connection else "")
    asked = " ".join(part for part in (row.action, row.object_pk, f"by {who}" if who else "") if part)
    end = ": ".join(part for part in (row.outcome, row.message) if part)
    return "  ".join((row.kind, row.at.strftime("%H:%M:%S.%f")[:-3], row.stream or "-", asked, end))


def event_as_json(event: LogEvent, values: bool) -> dict[str, object]:
    """Return an event as JSON values; without ``values`` the data is the list of its keys."""
    data = json.loads(event.data)
    return {
        "offset": event.offset,
        "at": event.created_at,
        "kind": event.kind,
        "stream": event.stream,
        "model": event.model,
        "pk": json.loads(event.object_pk) if event.object_pk else None,
        "changes": [{"group": group, "action": action} for group, action in event.changes],
        "data": data if values or event.kind == Event.CONTROL else sorted(data),
        "version": event.version,
    }


def format_event(event: LogEvent, values: bool) -> str:
    """Return one line: offset, time, stream, actions with groups, model and key, and the data or its keys."""
    at = event.created_at.strftime("%H:%M:%S.%f")[:-3] if event.created_at else ""
    if event.kind == Event.CONTROL:
        return "  ".join(part for part in (str(event.offset), at, event.stream or "-", "control", event.data) if part)
    if event.kind == Event.EXPIRED:
        return f"{event.offset}  {at}  {event.stream}  expired  {event.model}  {describe_bulk((), is_expired=True)}"
    if event.kind == Event.BULK:
        groups = [group for group, _ in event.changes]
        description = (
            f"{describe_bulk(groups)} ({list_groups(groups)})" if EVERY_GROUP not in groups else describe_bulk(groups)
        )
        return f"{event.offset}  {at}  {event.stream}  resync  {event.model}  {description}"
    changes = ", ".join(f"{action}/{group}" for group, action in event.changes)
    data = event.data if values else "{" + ", ".join(sorted(json.loads(event.data))) + "}"
    return f"{event.offset}  {at}  {event.stream}  {changes}  {event.model} {event.object_pk}  {data}"
