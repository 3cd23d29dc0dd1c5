"""The comparison of events with the rows before and after, and their replay as a client does it.

This is pure code without a database. Each problem is a sentence; no sentence means that all writes were captured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from declbind.testing import CapturedEvent

if TYPE_CHECKING:  # third-party packages are tested without the models of the matrix
    from .bindings import Observer, Row, View

#: The name that stands for all groups of a stream.
EVERY = "*"
ORDER = {"delete": 0, "update": 1, "create": 2}


class PureClient:
    """The rows of every group of one stream, as the protocol defines: create and update set, delete removes.

    ``complaints`` holds the events that repeat another or contradict the rows.
    """

    def __init__(self, rows: Mapping[object, Row]) -> None:
        self.held: dict[str, dict[object, object]] = {}
        self.complaints: list[str] = []
        for pk, (groups, data) in rows.items():
            for group in groups:
                self.held.setdefault(group, {})[pk] = data

    def hear(self, event: CapturedEvent, snapshot: Mapping[object, Row]) -> None:
        """Apply one event; ``snapshot`` is the result of a resync."""
        for group, action in event.changes:
            if action == "resync":
                fresh = PureClient(snapshot).held
                if group == EVERY:
                    self.held = fresh
                else:
                    self.held[group] = fresh.get(group, {})
                continue
            rows = self.held.setdefault(group, {})
            if (event.pk in rows) is (action == "create"):
                self.complaints.append(f"{group} is told to {action} {event.pk}, and holds {sorted(map(str, rows))}")
            if action == "delete":
                rows.pop(event.pk, None)
            else:
                rows[event.pk] = event.data

    def differences(self, rows: Mapping[object, Row]) -> list[str]:
        """Return the differences between the held and the stored rows."""
        there = PureClient(rows).held
        return [
            f"a client of {group} holds {self.held.get(group, {})}, there is {there.get(group, {})}"
            for group in sorted({*self.held, *there})
            if self.held.get(group, {}) != there.get(group, {})
        ]


def replay_problems(
    stream: str, before: View, events: Sequence[CapturedEvent], after: View, snapshot: Callable[[CapturedEvent], View]
) -> list[str]:
    """Replay the events of a stream on a client's rows; return the differences."""
    client = PureClient(before[stream])
    for event in events:
        client.hear(event, snapshot(event)[stream])
    return [f"{stream}: {text}" for text in (*client.complaints, *client.differences(after[stream]))]


def problems(
    observers: Sequence[Observer],
    before: View,
    events: Sequence[CapturedEvent],
    after: View,
    *,
    limit: int,
    is_one_call: bool = True,
    written: Collection[Any] = (),
    may_lose_track: bool = False,
) -> list[str]:
    """Return all problems of the events between two views.

    ``is_one_call``: each row has at most one event, and exactly one if it changed. ``written`` are rows that were
    written, whether or not they changed; no other unchanged row may have an event. More than ``limit`` rows are
    reported by group.
    """
    found = []
    for observer in observers:
        own = [event for event in events if event.stream == observer.stream]
        found += replay_problems(observer.stream, before, own, after, lambda event: after)
        found += [f"{observer.stream}: the model is {event.model}" for event in own if event.model != observer.label]
        if is_one_call:
            if len(own) > limit:
                found.append(f"{observer.stream}: {len(own)} rows are told of one by one, the limit is {limit}")
            told = _call_problems(
                observer, before[observer.stream], own, after[observer.stream], written, may_lose_track
            )
            found += [f"{observer.stream}: {text}" for text in told]
    strays = {event.stream for event in events} - {observer.stream for observer in observers}
    return [*found, *(f"{stream}: nobody listens to it" for stream in sorted(strays))]


def _call_problems(
    observer: Observer,
    before: Mapping[object, Row],
    events: Sequence[CapturedEvent],
    after: Mapping[object, Row],
    written: Collection[object],
    may_lose_track: bool,
) -> list[str]:
    changed = [pk for pk in {**before, **after} if _has_changed(before.get(pk), after.get(pk))]
    whole = [event for event in events if event.kind == "bulk"]
    if whole:
        if len(events) > 1:
            return [f"{len(events)} events of one call, and one is for whole groups"]
        rows = [view[pk] for pk in {*changed, *written} for view in (before, after) if pk in view]
        touched = {group for groups, _ in rows for group in groups}
        told = {group for group, _ in whole[0].changes}
        if may_lose_track and told == {EVERY}:
            return []
        return [f"{group} is told to resync, and no row of it was written" for group in sorted(told - touched)]
    found = []
    counts = Counter(event.pk for event in events)
    found += [f"{count} events of row {pk} by one call" for pk, count in counts.items() if count > 1]
    found += [f"no event of row {pk}: {before.get(pk)} -> {after.get(pk)}" for pk in changed if not counts[pk]]
    for event in events:
        if event.pk not in changed and event.pk not in written:
            found.append(f"row {event.pk} was not written, and has {event.changes}")
        found += _event_problems(observer, event, before.get(event.pk), after.get(event.pk))
    return found


def _has_changed(old: Row | None, new: Row | None) -> bool:
    """Return whether a change of a row was visible; a row in no group is not."""
    return old != new and bool((old and old[0]) or (new and new[0]))


def _event_problems(observer: Observer, event: CapturedEvent, old: Row | None, new: Row | None) -> list[str]:
    was, now = (row[0] if row else () for row in (old, new))
    expected = {group: "update" if group in was and group in now else "create" for group in now}
    expected |= {group: "delete" for group in was if group not in now}
    found = []
    if dict(event.changes) != expected or len(event.changes) != len(expected):
        found.append(f"row {event.pk} has {event.changes}, expected {expected}")
    if [ORDER.get(action, 9) for _, action in event.changes] != sorted(ORDER.get(at, 9) for _, at in event.changes):
        found.append(f"row {event.pk} has {event.changes} out of order")
    is_gone = new is None and not (observer.hides and event.kind == "row")
    if event.kind != ("gone" if is_gone else "row"):
        found.append(f"row {event.pk} has an event of kind {event.kind}")
    # A row that left a group must not disclose its new values to the group.
    data = new[1] if new and now else old[1] if old and is_gone else {}
    if event.data != data:
        found.append(f"row {event.pk} has the data {event.data}, expected {data}")
    return found
