"""Broken variants of capture, which the comparison must detect."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from unittest.mock import patch

from declbind import testing
from declbind.outbound import capture
from declbind.testing import CapturedEvent

from . import course


@contextlib.contextmanager
def no_hook_of_update() -> Iterator[None]:
    """Remove the hook of ``QuerySet.update``."""
    [owner] = [hook.owner for hook in capture.HOOKS if hook.name == "update"]
    with patch.object(owner, "update", vars(owner)["update"].__wrapped__):
        yield


@contextlib.contextmanager
def _altered(alter: Callable[[list[CapturedEvent]], list[CapturedEvent]]) -> Iterator[None]:
    """Change the events of each step before they are checked."""

    @contextlib.contextmanager
    def capture_events() -> Iterator[list[CapturedEvent]]:
        with testing.capture_events() as events:
            yield events
        events[:] = alter(events)

    with patch.object(course, "capture_events", capture_events):
        yield


def event_dropped() -> AbstractContextManager[None]:
    """Drop the last event of each step."""
    return _altered(lambda events: events[:-1])


def event_invented() -> AbstractContextManager[None]:
    """Report the last row of each step once more, as an update."""
    return _altered(lambda events: [*events, *(updated(event) for event in events[-1:])])


def event_of_a_bystander() -> AbstractContextManager[None]:
    """Report with each step a row that was not written by it."""
    last: dict[object, CapturedEvent] = {}

    def alter(events: list[CapturedEvent]) -> list[CapturedEvent]:
        own = {event.pk: event for event in events if event.stream == "items"}
        bystanders = [updated(event) for pk, event in last.items() if pk not in own and event.kind == "row"]
        last.update(own)
        return [*events, *bystanders[:1]]

    return _altered(alter)


def event_of_no_row() -> AbstractContextManager[None]:
    """Report a deletion that never happened."""
    return _altered(lambda events: [*events, *(replace(event, pk=987_654, kind="gone") for event in events[-1:])])


def updated(event: CapturedEvent) -> CapturedEvent:
    """Return an event of the same row that is an update for every group."""
    return replace(event, changes=[(group, "update") for group, _ in event.changes])


def resync_instead() -> AbstractContextManager[None]:
    """Replace the event of every row by a resync."""
    return _altered(lambda events: [replace(event, changes=[("*", "resync")]) for event in events])


def stale_data() -> AbstractContextManager[None]:
    """Send the title that a row had before."""

    def alter(events: list[CapturedEvent]) -> list[CapturedEvent]:
        return [replace(event, data={**event.data, "title": "stale"} if event.data else {}) for event in events]

    return _altered(alter)


SABOTAGES: dict[str, Callable[[], AbstractContextManager[None]]] = {
    sabotage.__name__: sabotage
    for sabotage in (
        no_hook_of_update,
        event_dropped,
        event_invented,
        event_of_a_bystander,
        event_of_no_row,
        resync_instead,
        stale_data,
    )
}
