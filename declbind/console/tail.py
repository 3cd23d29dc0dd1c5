"""Follow the log: events in their order, each once, as they get their numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from declbind.core.hub import LogEvent
from declbind.models import Event
from declbind.outbound import log

BATCH = 500


def follow(
    using: str,
    *,
    since: int | None = None,
    stream: str | None = None,
    limit: int | None = None,
    wait: Callable[[], bool],
) -> Iterator[LogEvent]:
    """Yield events after offset ``since`` (``None``: after the last there is), at most ``limit``.

    With ``stream`` only its events, and those of rights and configuration, which concern it too. When no event is left
    ``wait`` is called; the iterator ends when that returns False. A log that began anew is read from its beginning.
    """
    head = log.load_head(using)
    epoch, cursor = head.epoch, head.offset if since is None else since
    left = limit
    while left is None or left > 0:
        events = log.read(cursor, BATCH if left is None else min(BATCH, left), using, stream)
        for event in events:
            cursor = event.offset
            yield event
        if left is not None:
            left -= len(events)
        if events:
            continue
        head = log.load_head(using)
        if head.epoch != epoch:
            epoch, cursor = head.epoch, 0
        elif not wait():
            return


def event_as_json(event: LogEvent, values: bool) -> dict[str, Any]:
    """Return an event as a machine reads it; without ``values`` the data is the list of its keys."""
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
    changes = ", ".join(f"{action}/{group}" for group, action in event.changes)
    data = event.data if values else "{" + ", ".join(sorted(json.loads(event.data))) + "}"
    return f"{event.offset}  {at}  {event.stream}  {changes}  {event.model} {event.object_pk}  {data}"
