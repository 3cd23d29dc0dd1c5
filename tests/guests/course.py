"""The course of a guest: bind its models by records, make each write, and compare the events with stored rows.

After each step, subscribers that apply the events hold the rows that plain SQL finds. Every event belongs to a row
that the database has recorded as written, and every recorded write has an event. A client that reconnects at the end
holds the stored rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

from django.core import checks
from django.core.management import call_command
from django.db import connection, transaction

from declbind.models import BindingRecord
from declbind.registry import check_version
from declbind.testing import CapturedEvent, Client, capture_events
from tests.matrix.judge import replay_problems

from .roster import HOOKS, TRIGGERS
from .steps import Step
from .usual import Usual
from .watching import Row, Stream, names_in
from .writes import Notes, RowVersions, Writes

#: The bindings of each shop's item, beside the records of the shop.
ITEM_RECORDS: tuple[dict[str, object], ...] = (
    {"stream": "items"},
    {"stream": "rooms", "groups": ["room-{room}", "all-rooms"]},
    {"stream": "first", "where": {"room": 1}},
)
#: The rooms that the final client subscribes to.
ROOMS = (1, 2, 3)


class Course:
    """The writes of one shop, captured by the hooks or by triggers."""

    def __init__(self, shop: ModuleType, capture: str, sabotage: Callable[[], AbstractContextManager[None]]) -> None:
        self.shop, self.capture, self.sabotage = shop, capture, sabotage
        self.item: Any = shop.Item
        self.records = self._records()
        readers, other = getattr(shop, "READERS", {}), getattr(shop, "OTHER_COLUMNS", {})
        self.streams = [
            Stream(record, readers.get(record["model"], {}), other.get(record["model"], {})) for record in self.records
        ]
        self.problems: list[str] = []
        # A table with triggers is not captured in all the ways in which a plain one is, so PostgreSQL's tables stay
        # plain.
        is_plain = capture == HOOKS and connection.vendor == "postgresql"
        self.notes: Any = RowVersions() if is_plain else Notes()

    def _records(self) -> list[dict[str, Any]]:
        names = getattr(self.shop, "FIELDS", None) or [
            field.name for field in self.item._meta.concrete_fields if not field.primary_key
        ]
        label = self.item._meta.label
        items = [{"model": label, "fields": names, **record} for record in ITEM_RECORDS]
        usual = {"permissions": {"view": True}, "capture": self.capture}
        return [{**record, **usual} for record in (*items, *getattr(self.shop, "RECORDS", []))]

    # --- the run -----------------------------------------------------------------------------------------------------

    def run(self) -> list[str]:
        """Run the course and return the problems, a sentence each."""
        self.bind()
        follower = Follower(self.streams)
        asyncio.run(follower.subscribe())
        self._run_steps()
        asyncio.run(follower.come_back())
        self._judge_the_client(follower)
        return [f"{self.capture}: {text}" for text in self.problems]

    def bind(self) -> None:
        """Put the records in force, as the tutorial does."""
        BindingRecord.objects.all().delete()
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write(json.dumps(self.records))
            file.flush()
            call_command("declbind", "apply", "--yes", file.name, verbosity=0, stdout=_silence())
        if self.capture == TRIGGERS:
            call_command("declbind", "triggers", "--install", stdout=_silence())
        check_version(force=True)
        self.notes.install(self.streams)
        found = [message for message in checks.run_checks() if str(message.id).startswith("declbind.")]
        self.problems += [f"check {message.id}: {message.msg}" for message in found]

    def _judge_the_client(self, follower: Follower) -> None:
        views = self._look()
        for (name, group), rows in follower.held.items():
            stored = {pk: data for pk, (groups, data) in views[name].items() if group in groups}
            if rows != stored:
                self.problems.append(f"a client of {name}, group {group}, holds {rows} at the end, stored is {stored}")

    @property
    def _has_triggers(self) -> bool:
        """Return whether the tables have triggers of the package."""
        return getattr(self.shop, "HAS_TRIGGERS", False)

    def _run_steps(self) -> None:
        usual = Usual(self.item, self.shop.make, getattr(self.shop, "WITHOUT", frozenset()))
        with self.sabotage():
            for step in (*usual.steps(), *getattr(self.shop, "step", ())):
                self.problems += [f"{step.name}: {text}" for text in self._run_step(step)]

    def _look(self) -> dict[str, dict[Any, Row]]:
        return {stream.name: stream.look() for stream in self.streams}

    def _run_step(self, step: Step) -> Iterator[str]:
        before, noted = self._look(), self.notes.last()
        error: Exception | None = None
        with capture_events() as events:
            try:
                step.run()
            except Exception as raised:
                error = raised
                if transaction.get_connection().in_atomic_block:
                    raise
        if error is not None and not (step.raises and isinstance(error, step.raises)):
            yield "".join(traceback.format_exception(error, limit=-4))[-1500:]
        elif error is None and step.raises is not None:
            yield f"expected {step.raises.__name__}, got no exception"
        after = self._look()
        for stream in self.streams:
            own = [event for event in events if event.stream == stream.name]
            writes = self.notes.since(noted, stream)
            if not step.may_repeat:
                yield from invented(stream, own, writes)
            if self.capture == HOOKS and (step.is_raw or stream.name in getattr(self.shop, "IN_DATABASE", ())):
                continue
            yield from replay_problems(stream.name, before, own, after, lambda event: after)
            yield from untold(stream, own, writes, before[stream.name], after[stream.name])
            if not (step.may_resync and self._has_triggers):
                yield from (f"{stream.name}: {event.changes} where rows were expected" for event in resyncs(own))


# The check of one step ---------------------------------------------------------------------------------------------


def resyncs(events: Sequence[CapturedEvent]) -> list[CapturedEvent]:
    """Return the events without a row."""
    return [event for event in events if any(action == "resync" for _, action in event.changes)]


def invented(stream: Stream, events: Sequence[CapturedEvent], writes: Writes) -> Iterator[str]:
    """Yield the problems of events for rows that were not written, or not as often."""
    told = Counter(event.pk for event in events if not resyncs([event]))
    for pk, count in told.items():
        if count > writes.most(pk):
            yield f"{stream.name}: row {pk} has {count} events, and was written {writes.most(pk)} times"


def untold(
    stream: Stream,
    events: Sequence[CapturedEvent],
    writes: Writes,
    before: dict[object, Row],
    after: dict[object, Row],
) -> Iterator[str]:
    """Yield the problems of visible rows that were written and have no event."""
    if resyncs(events):
        return
    told = {event.pk for event in events}
    for pk in writes.certain:
        if pk not in told and any(view.get(pk, ((), {}))[0] for view in (before, after)):
            yield f"{stream.name}: row {pk} was written, and has no event"


# The final client --------------------------------------------------------------------------------------------------


class Follower:
    """A client that takes a snapshot of each group, disconnects, and resumes to get the frames that it has missed."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        self.streams = streams
        self.held: dict[tuple[str, str], dict[Any, Any]] = {}
        #: The offset from which to resume each group.
        self.since: dict[tuple[str, str], dict[str, Any]] = {}

    async def subscribe(self) -> None:
        """Take a snapshot of each constant group and of rooms, after the records have come into force."""
        async with Client() as client:
            await client.is_silent()
            for stream in self.streams:
                for template in stream.record.get("groups", [stream.name]):
                    if set(names_in(template)) - {"room"}:
                        continue
                    for room in ROOMS if "{" in template else ROOMS[:1]:
                        await self._take_snapshot(client, stream.name, template.format(room=room))

    async def _take_snapshot(self, client: Client, stream: str, group: str) -> None:
        reply = await client.request(stream, "subscribe", params=params_of(group), snapshot=True)
        assert reply["ok"], reply
        self.since[stream, group] = {key: reply[key] for key in ("epoch", "offset", "resume")}
        rows = self.held[stream, group] = {}
        while True:
            payload = (await client.receive())["payload"]
            assert payload["action"] == "snapshot", payload
            rows |= {row["pk"]: row["data"] for row in payload["objects"]}
            if payload["final"]:
                return

    async def come_back(self) -> None:
        """Apply the missed frames, and take the snapshots that the server asks for."""
        async with Client() as client:
            for (stream, group), since in self.since.items():
                reply = await client.request(stream, "subscribe", params=params_of(group), since=since)
                assert reply["ok"], reply
            stale = []
            while not await client.is_silent():
                stale += self._apply(await client.receive())
        async with Client() as client:
            for stream, group in dict.fromkeys(stale):
                await self._take_snapshot(client, stream, group)

    def _apply(self, frame: dict[str, Any]) -> list[tuple[str, str]]:
        """Apply one frame; return the group if a snapshot of it must be taken."""
        payload, at = frame["payload"], (frame["stream"], frame["group"])
        match payload["action"]:
            case "create" | "update":
                self.held[at][payload["pk"]] = payload["data"]
            case "delete":
                self.held[at].pop(payload["pk"], None)
            case "resync":
                return [at]
            case action:
                raise AssertionError(f"expected a frame of a row, got {action}: {payload}")
        return []


def params_of(group: str) -> dict[str, object]:
    """Return the parameters of a subscription to a group."""
    _, _, room = group.rpartition("room-")
    return {"room": int(room)} if room.isdigit() else {}


def _silence() -> object:
    return Path("/dev/null").open("w")


@contextlib.contextmanager
def unharmed() -> Iterator[None]:
    """Yield without any sabotage."""
    yield
