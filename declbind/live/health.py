"""The state of this process and of the log in numbers, for load balancers and monitoring."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.utils import timezone

from declbind.conf import settings
from declbind.english import as_english
from declbind.models import Event, Node
from declbind.outbound import history, log, sessions
from declbind.registry import current_registry, database_alias, get_registry

from .hub import LiveHub, running_hubs

#: The seconds that an event may wait for its number, or for delivery by this process, before ``ok`` is false.
PATIENCE_SECONDS = 10.0


def measure() -> dict[str, Any]:
    """Return the state as JSON values; ``ok`` is the overall result. Blocks on the database; never raises.

    ``problems`` holds a sentence for each problem. If events wait only because no process has served a socket yet,
    ``ok`` is true: no client waits for them, and the first socket makes this process number them.

    ``log`` is ``null`` if the database is unavailable. ``process`` is ``null`` if this process has had no socket yet.
    Ages are in seconds, lags in events and in seconds, queues in frames and in characters.
    """
    using = database_alias()
    hub = next(iter(running_hubs()), None)
    try:
        state, process = _log_state(using), None if hub is None else _hub_state(hub, using)
    except Exception as error:
        return {"ok": False, "error": type(error).__name__, "log": None, "process": None}
    is_moving = process is not None and process["moving"]
    problems = list(_find_problems(state, process, using))
    return {
        "ok": not any(concerns for concerns, _ in problems) and not is_moving,
        "problems": [text for _, text in problems],
        "log": state,
        "process": process,
        "configuration": _configuration(),
    }


def _find_problems(state: dict[str, Any], process: dict[str, Any] | None, using: str) -> Iterator[tuple[bool, str]]:
    """Yield what is the matter, and whether the state is not ``ok`` because of it."""
    waited = state["oldest_unsequenced_seconds"]
    if waited >= PATIENCE_SECONDS:
        holder = as_english(sessions.describe_holders(using))
        since = timezone.now() - timedelta(seconds=3 * settings.HEARTBEAT_SECONDS)
        is_expected = process is not None or Node.objects.using(using).filter(seen_at__gte=since).exists()
        why = holder or (
            "The processes that serve sockets do not number them."
            if is_expected
            else "No process has served a socket yet, and no relay runs."
        )
        yield is_expected or bool(holder), f"Events have waited {waited:.0f} s for their numbers. {why}"
    if process is not None and process["lag_seconds"] >= PATIENCE_SECONDS:
        yield True, f"This process has not handed out events for {process['lag_seconds']:.0f} s."


def _log_state(using: str) -> dict[str, Any]:
    head = log.load_head(using)
    waiting = (
        Event.objects.using(using).filter(seq__isnull=True) if history.needs_sequencer(using) else Event.objects.none()
    )
    oldest = waiting.order_by("id").values_list("created_at", flat=True).first()
    return {
        "epoch": head.epoch,
        "offset": head.offset,
        "min_offset": head.min_offset,
        "unsequenced": waiting.count(),
        "oldest_unsequenced_seconds": _age(oldest),
    }


def _hub_state(hub: LiveHub, using: str) -> dict[str, Any]:
    cursor, column = hub.core.cursor, history.offset_column(using)
    missed = Event.objects.using(using).filter(**{f"{column}__gt": cursor}).order_by(column)
    oldest = missed.values_list("created_at", flat=True).first()
    # The sockets belong to the event loop. Copying them into a list is atomic, and the numbers may be slightly
    # outdated.
    queues = [connection.outbox for connection in list(hub.core.connections)]
    return {
        "node": hub.heartbeat.id,
        "cursor": cursor,
        "lag_events": missed.count(),
        "lag_seconds": _age(oldest),
        "connections": len(queues),
        "subscriptions": sum(len(connection.subscriptions) for connection in list(hub.core.connections)),
        "queued_frames": sum(len(queue) for queue in queues),
        "queued_characters": sum(queue.size for queue in queues),
        "longest_queue_frames": max((len(queue) for queue in queues), default=0),
        "version": hub.registry.version,
        # The process is ending and accepts no more sockets.
        "moving": hub.drain.is_moving,
        # Only the class, because the text of a database error may name hosts, users and values.
        "last_error": hub.heartbeat.last_error.partition(":")[0],
    }


def _configuration() -> dict[str, Any]:
    registry = get_registry()
    return {
        "version": registry.version,
        "digest": current_registry().digest,
        "streams": len(registry.by_stream),
        "invalid": len({entry.where for entry, _ in registry.problems}),
    }


def _age(moment: Any) -> float:
    return 0.0 if moment is None else round(max((timezone.now() - moment).total_seconds(), 0.0), 3)
