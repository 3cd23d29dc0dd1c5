"""Hold events against what was there before and after, and replay them as a client does.

Pure: knows no database. Each problem found is a sentence; no sentence means that the writes were seen as they should.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from declbind.testing import CapturedEvent

if TYPE_CHECKING:  # the guests of other projects are judged without the models of the matrix
    from .bindings import Ear, Row, View

#: The group that stands for all of a stream's.
EVERY = "*"
ORDER = {"delete": 0, "update": 1, "create": 2}


class PureClient:
    """Hold the rows of every group of one stream, as the protocol says: create and update set, delete removes.

    It is told of nothing twice and of nothing that it cannot make sense of; ``complaints`` says where it was.
    """

    def __init__(self, rows: Mapping[Any, Row]) -> None:
        self.held: dict[str, dict[Any, Any]] = {}
        self.complaints: list[str] = []
        for pk, (groups, data) in rows.items():
            for group in groups:
                self.held.setdefault(group, {})[pk] = data

    def hear(self, event: CapturedEvent, snapshot: Mapping[Any, Row]) -> None:
        """Apply one event; ``snapshot`` is what a resync finds."""
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

    def differences(self, rows: Mapping[Any, Row]) -> list[str]:
        """Return how what is held differs from what is there."""
        there = PureClient(rows).held
        return [
            f"a client of {group} holds {self.held.get(group, {})}, there is {there.get(group, {})}"
            for group in sorted({*self.held, *there})
            if self.held.get(group, {}) != there.get(group, {})
        ]


def replay_problems(
    stream: str, before: View, events: Sequence[CapturedEvent], after: View, snapshot: Callable[[CapturedEvent], View]
) -> list[str]:
    """Replay the events of a stream on what a client held; return what it has wrong."""
    client = PureClient(before[stream])
    for event in events:
        client.hear(event, snapshot(event)[stream])
    return [f"{stream}: {text}" for text in (*client.complaints, *client.differences(after[stream]))]


def problems(
    ears: Sequence[Ear],
    before: View,
    events: Sequence[CapturedEvent],
    after: View,
    *,
    limit: int,
    is_one_call: bool = True,
    written: Collection[Any] = (),
    may_lose_track: bool = False,
) -> list[str]:
    """Return all that is wrong with the events of what led from one view to another.

    ``is_one_call``: each row has one event at most, and exactly one if it changed. ``written`` are rows that were
    written, whether or not that changed them; no other row that stayed the same may have an event. More than ``limit``
    rows are told of by group.
    """
    found = []
    for ear in ears:
        own = [event for event in events if event.stream == ear.stream]
        found += replay_problems(ear.stream, before, own, after, lambda event: after)
        found += [f"{ear.stream}: the model is {event.model}" for event in own if event.model != ear.label]
        if is_one_call:
            if len(own) > limit:
                found.append(f"{ear.stream}: {len(own)} rows are told of one by one, the limit is {limit}")
            told = _call_problems(ear, before[ear.stream], own, after[ear.stream], written, may_lose_track)
            found += [f"{ear.stream}: {text}" for text in told]
    strays = {event.stream for event in events} - {ear.stream for ear in ears}
    return [*found, *(f"{stream}: nobody listens to it" for stream in sorted(strays))]


def _call_problems(
    ear: Ear,
    before: Mapping[Any, Row],
    events: Sequence[CapturedEvent],
    after: Mapping[Any, Row],
    written: Collection[Any],
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
        found += _event_problems(ear, event, before.get(event.pk), after.get(event.pk))
    return found


def _has_changed(old: Row | None, new: Row | None) -> bool:
    """Return whether anybody saw a row change: what is in no group nobody sees."""
    return old != new and bool((old and old[0]) or (new and new[0]))


def _event_problems(ear: Ear, event: CapturedEvent, old: Row | None, new: Row | None) -> list[str]:
    was, now = (row[0] if row else () for row in (old, new))
    expected = {group: "update" if group in was and group in now else "create" for group in now}
    expected |= {group: "delete" for group in was if group not in now}
    found = []
    if dict(event.changes) != expected or len(event.changes) != len(expected):
        found.append(f"row {event.pk} has {event.changes}, expected {expected}")
    if [ORDER.get(action, 9) for _, action in event.changes] != sorted(ORDER.get(at, 9) for _, at in event.changes):
        found.append(f"row {event.pk} has {event.changes} out of order")
    is_gone = new is None and not (ear.hides and event.kind == "row")
    if event.kind != ("gone" if is_gone else "row"):
        found.append(f"row {event.pk} has an event of kind {event.kind}")
    # A row that moved out of sight must not give its new values away.
    data = new[1] if new and now else old[1] if old and is_gone else {}
    if event.data != data:
        found.append(f"row {event.pk} has the data {event.data}, expected {data}")
    return found
