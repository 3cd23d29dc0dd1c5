"""The course of a guest: bind its models by records, make each write, and compare the events with what is stored.

After each step subscribers who apply the events hold the rows that plain SQL finds. No row has an event that the
database has not noted as written, and none of the noted writes lacks one. A client that is connected all the time holds
the stored rows at the end.
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

from asgiref.sync import sync_to_async
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
from .watching import Notes, Row, Stream

#: What the item of each shop is bound by, beside the records of the shop.
ITEM_RECORDS: tuple[dict[str, Any], ...] = (
    {"stream": "items"},
    {"stream": "rooms", "groups": ["room-{room}", "all-rooms"]},
    {"stream": "first", "where": {"room": 1}},
)
#: The rooms that the client of the end subscribes to.
ROOMS = (1, 2, 3)


class Course:
    """The writes of one shop, noticed by the hooks or by triggers."""

    def __init__(self, shop: ModuleType, capture: str, sabotage: Callable[[], AbstractContextManager[None]]) -> None:
        self.shop, self.capture, self.sabotage = shop, capture, sabotage
        self.item: Any = shop.Item
        self.records = self._records()
        readers = getattr(shop, "READERS", {})
        self.streams = [Stream(record, readers.get(record["model"], {})) for record in self.records]
        self.problems: list[str] = []
        self.notes = Notes()

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
        """Run the course and return what was wrong, a sentence each."""
        self.bind()
        asyncio.run(self._run_beside_a_client())
        return [f"{self.capture}: {text}" for text in self.problems]

    def bind(self) -> None:
        """Put the records in force, as the README does."""
        BindingRecord.objects.all().delete()
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write(json.dumps(self.records))
            file.flush()
            call_command("declbind", "apply", file.name, verbosity=0, stdout=_silence())
        if self.capture == TRIGGERS:
            call_command("declbind", "triggers", "--install", stdout=_silence())
        check_version(force=True)
        self.notes.install(self.streams)
        found = [message for message in checks.run_checks() if str(message.id).startswith("declbind.")]
        self.problems += [f"check {message.id}: {message.msg}" for message in found if message.id not in self.expected]

    @property
    def expected(self) -> frozenset[str]:
        """The ids of the checks that speak about a project such as this."""
        return frozenset({"declbind.W001", *getattr(self.shop, "CHECKS", ())})

    async def _run_beside_a_client(self) -> None:
        async with Client() as client:
            follower = Follower(client, self.streams)
            await follower.subscribe()
            await sync_to_async(self._run_steps, thread_sensitive=False)()
            await follower.catch_up()
        held, views = follower.held, await sync_to_async(self._look)()
        for (name, group), rows in held.items():
            stored = {pk: data for pk, (groups, data) in views[name].items() if group in groups}
            if rows != stored:
                self.problems.append(f"a client of {name}, group {group}, holds {rows} at the end, stored is {stored}")

    def _run_steps(self) -> None:
        usual = Usual(self.item, self.shop.make, getattr(self.shop, "WITHOUT", frozenset()))
        try:
            with self.sabotage():
                for step in (*usual.steps(), *getattr(self.shop, "step", ())):
                    self.problems += [f"{step.name}: {text}" for text in self._run_step(step)]
        finally:
            connection.close()

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
        if type(error) is not step.raises and error is not None:
            yield "".join(traceback.format_exception(error))[-1500:]
        elif error is None and step.raises is not None:
            yield f"expected {step.raises.__name__}, got no exception"
        after = self._look()
        for stream in self.streams:
            own = [event for event in events if event.stream == stream.name]
            writes = self.notes.since(noted, stream)
            yield from invented(stream, own, writes)
            if step.is_raw and self.capture == HOOKS:
                continue
            yield from replay_problems(stream.name, before, own, after, lambda event: after)
            yield from untold(stream, own, writes, before[stream.name], after[stream.name])
            if not step.may_resync:
                yield from (f"{stream.name}: {event.changes} where rows were expected" for event in resyncs(own))


# The judgement of one step ------------------------------------------------------------------------------------------


def resyncs(events: Sequence[CapturedEvent]) -> list[CapturedEvent]:
    """Return the events that say no row."""
    return [event for event in events if any(action == "resync" for _, action in event.changes)]


def invented(stream: Stream, events: Sequence[CapturedEvent], writes: Counter[Any]) -> Iterator[str]:
    """Yield the events of rows that the database has not noted, or noted less often."""
    told = Counter(event.pk for event in events if not resyncs([event]))
    for pk, count in told.items():
        if count > writes[pk]:
            yield f"{stream.name}: row {pk} has {count} events, and was written {writes[pk]} times"


def untold(
    stream: Stream,
    events: Sequence[CapturedEvent],
    writes: Counter[Any],
    before: dict[Any, Row],
    after: dict[Any, Row],
) -> Iterator[str]:
    """Yield the rows in somebody's sight that were written and have no event."""
    if resyncs(events):
        return
    told = {event.pk for event in events}
    for pk in writes:
        if pk not in told and any(view.get(pk, ((), {}))[0] for view in (before, after)):
            yield f"{stream.name}: row {pk} was written, and has no event"


# The client of the end ----------------------------------------------------------------------------------------------


class Follower:
    """A client of every stream that applies the frames it gets, and takes a snapshot where it is told to."""

    def __init__(self, client: Client, streams: Sequence[Stream]) -> None:
        self.client, self.streams = client, streams
        self.held: dict[tuple[str, str], dict[Any, Any]] = {}
        #: The groups of which a snapshot must be taken.
        self.stale: dict[tuple[str, str], bool] = {}

    async def subscribe(self) -> None:
        """Subscribe to each group, after the records have come into force."""
        await self.client.is_silent()
        for stream in self.streams:
            for template in stream.record.get("groups", [stream.name]):
                for room in ROOMS if "{" in template else ROOMS[:1]:
                    await self._take_snapshot(stream.name, template.format(room=room))

    async def _take_snapshot(self, stream: str, group: str) -> None:
        _, _, room = group.rpartition("room-")
        params = {"room": int(room)} if room.isdigit() else {}
        reply = await self.client.request(stream, "subscribe", params=params, snapshot=True)
        if not reply["ok"]:
            raise AssertionError(f"subscribe to {stream} {params}: {reply}")
        self.held[stream, group] = {}
        while True:
            frame = await self.client.receive()
            payload = frame["payload"]
            if payload["action"] != "snapshot":
                self._apply(frame)
                continue
            self.held[stream, group] |= {row["pk"]: row["data"] for row in payload["objects"]}
            if payload["final"]:
                return

    async def catch_up(self) -> None:
        """Apply all that has been committed, and take the snapshots that the server asked for."""
        while not await self.client.is_silent() or self.stale:
            if self.stale:
                await self._take_snapshot(*self.stale.popitem()[0])
            else:
                self._apply(await self.client.receive())

    def _apply(self, frame: dict[str, Any]) -> None:
        payload, at = frame["payload"], (frame["stream"], frame["group"])
        match payload["action"]:
            case "create" | "update":
                self.held[at][payload["pk"]] = payload["data"]
            case "delete":
                self.held[at].pop(payload["pk"], None)
            case "resync":
                self.stale[at] = True
            case action:
                raise AssertionError(f"expected a frame of a row, got {action}: {payload}")


def _silence() -> Any:
    return Path("/dev/null").open("w")


@contextlib.contextmanager
def unharmed() -> Iterator[None]:
    """Sabotage nothing."""
    yield
