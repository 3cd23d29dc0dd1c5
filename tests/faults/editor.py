"""Clients that write through their sockets as logged-in users, and retry under the same key until they are answered.

An `Editor` is a client that also edits: its own rows, rows that writers change too, each under the condition that
the row is unchanged, and a counter that all editors increase. The answers go into a ledger, like the work of any
writer, and into a list for `mutations.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
from collections import Counter as Multiset
from collections.abc import Coroutine, Sequence
from typing import Any

from .client import RETRY_SECONDS, STREAM, Client
from .ledger import Ledger
from .mutations import Mutation
from .observations import Write
from .writer import ROOMS, SENTINELS, SHARED

COUNTERS = "counters"
#: The only row of that stream.
COUNTER = 1
#: The number of users with a session.
EDITORS = 4
#: The time between two writes of one editor, in seconds; the server's limit is 20 messages a second.
PACE = 0.08
#: Refusals that mean that nothing was written. After any other the outcome is open, and the key settles it.
REFUSALS = frozenset({"conflict", "not_found"})


def session_key(number: int) -> str:
    """Return the key of an editor's session."""
    return f"session-of-editor-{number}"


class Tally:
    """A subscriber of the counter, which must increase by one from the snapshot's value: only editors write it."""

    stream = COUNTERS

    def __init__(self, editor: Editor) -> None:
        self.editor = editor
        self.group: str | None = None
        self.value: int | None = None
        #: The last value received, also when the connection is over.
        self.last: int | None = None
        self.problems: list[str] = []

    def ask(self) -> None:
        """Start with a snapshot each time; resuming by offset is tested by the feeds."""
        self.editor.send(self, {"action": "subscribe", "snapshot": True})

    def replied(self, reply: dict[str, Any]) -> None:
        """Handle the reply to a request."""
        if reply["ok"]:
            self.group = reply["group"]
        else:
            self.editor.later(RETRY_SECONDS, self.ask)

    def disconnected(self) -> None:
        """Forget the value until the next snapshot."""
        self.group = self.value = None

    def receive(self, offset: int, payload: dict[str, object]) -> None:
        """Handle a new value."""
        match payload:
            case {"action": "snapshot", "objects": [{"data": {"value": value}}]}:
                self.value = self.last = value
            case {"action": "update", "data": {"value": value}}:
                if value != (self.value or 0) + 1:
                    self.problems.append(f"{self.editor.name}: the counter went from {self.value} to {value}")
                self.value = self.last = value
            case _:
                self.problems.append(f"{self.editor.name}: {payload} came for the counter")


class Editor(Client):
    """A client that makes one write after the other. All methods belong to the crowd's event loop."""

    def __init__(
        self, number: int, addresses: Sequence[str], ledger: Ledger, seed: int, patience: float, *, joined: bool
    ) -> None:
        self.number = number
        name = f"editor {number}"
        cookie = {"Cookie": f"sessionid={session_key(number)}"}
        super().__init__(name, addresses, [None], joined=joined, headers=cookie)
        self.tally = Tally(self)
        self.listeners.append(self.tally)
        self.ledger, self.patience = ledger, patience
        self.chance = random.Random(f"{seed} {name}")
        self.mutations: list[Mutation] = []
        #: How often a write was retried, and how often each answer came.
        self.retries = 0
        self.answers: Multiset[str] = Multiset()
        self.is_idle = False
        self._numbers = itertools.count(1)
        self._stop = asyncio.Event()
        self._online = asyncio.Event()
        self._made: list[int] = []
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    def jobs(self) -> list[Coroutine[object, object, None]]:
        """Follow, and edit."""
        return [*super().jobs(), self.edit()]

    def stop(self) -> None:
        """Start no further write; ``is_idle`` is set when the last one is answered."""
        self._stop.set()

    async def edit(self) -> None:
        """Write until stopped."""
        while not self._stop.is_set():
            if self.feeds[0].is_live and self.tally.value is not None:
                await self._edit_one()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), PACE)
        self.is_idle = True

    async def _edit_one(self) -> None:
        roll = self.chance.random()
        if roll < 0.25:
            await self._count()
        elif roll < 0.5:
            await self._create()
        elif roll < 0.6 and self._made:
            await self._delete(self.chance.choice(self._made))
        else:
            shared = range(SENTINELS + 1, SENTINELS + SHARED + 1)
            pks = self._made if self._made and self.chance.random() < 0.5 else shared
            await self._update(self.chance.choice(pks), hopeless=roll > 0.95)

    async def _count(self) -> None:
        value = self.tally.value
        assert value is not None
        data = {"value": value + 1}
        mutation = Mutation(self._name_one(), "count", COUNTER)
        payload = {"action": "update", "pk": COUNTER, "data": data, "if": {"value": value}}
        await self._carry_out(mutation, COUNTERS, payload)

    async def _create(self) -> None:
        stamp, room = self._name_one(), self.chance.randrange(ROOMS)
        mutation = Mutation(stamp, "create", 0, stamp)
        reply = await self._carry_out(mutation, STREAM, {"action": "create", "data": {"room": room, "stamp": stamp}})
        if reply["ok"]:
            self._note(Write(reply["pk"], "create", stamp, None, None, room), reply)
            self._made.append(reply["pk"])

    async def _update(self, pk: int, *, hopeless: bool) -> None:
        row = self.feeds[0].rows.get(pk)
        if row is None:
            return
        stamp, room = self._name_one(), self.chance.choice([row["room"], self.chance.randrange(ROOMS)])
        mutation = Mutation(stamp, "update", pk, stamp, hopeless=hopeless)
        condition = {"stamp": f"not {row['stamp']}" if hopeless else row["stamp"]}
        data = {"stamp": stamp} if room == row["room"] else {"stamp": stamp, "room": room}
        payload = {"action": "update", "pk": pk, "data": data, "if": condition}
        reply = await self._carry_out(mutation, STREAM, payload)
        self._note(Write(pk, "update", stamp, row["stamp"], row["room"], room), reply)

    async def _delete(self, pk: int) -> None:
        row = self.feeds[0].rows.get(pk)
        if row is None:
            return
        mutation = Mutation(self._name_one(), "delete", pk)
        reply = await self._carry_out(mutation, STREAM, {"action": "delete", "pk": pk, "if": {"stamp": row["stamp"]}})
        self._note(Write(pk, "delete", mutation.key, row["stamp"], row["room"], None), reply)
        if reply["ok"]:
            self._made.remove(pk)

    def _name_one(self) -> str:
        return f"e{self.number}.{next(self._numbers)}"

    def _note(self, write: Write, reply: dict[str, Any]) -> None:
        if reply["ok"]:
            self.ledger.intend(write.stamp, [write])
            self.ledger.done(write.stamp)
        else:
            self.ledger.undone(write.stamp, [write])

    # --- one write, until it is answered --------------------------------------------------------------------------

    async def _carry_out(self, mutation: Mutation, stream: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Retry until there is a definite answer, record and return it."""
        place = len(self.mutations)
        self.mutations.append(mutation)  # unanswered, if it stays so
        for attempt in itertools.count():
            self.retries += attempt > 0
            reply = await self._ask(stream, {**payload, "key": mutation.key})
            error = None if reply is None else "" if reply["ok"] else reply["error"]["code"]
            self.answers["lost" if error is None else error or "ok"] += 1
            if reply is not None and (reply["ok"] or error in REFUSALS):
                pk = reply.get("pk", mutation.pk)
                self.mutations[place] = Mutation(
                    mutation.key, mutation.action, pk, mutation.stamp, error, mutation.hopeless
                )
                return reply
            if reply is not None:
                await asyncio.sleep(RETRY_SECONDS)  # the client's delay before it repeats a refused request
        raise AssertionError("itertools.count() ends never")

    async def _ask(self, stream: str, payload: dict[str, object]) -> dict[str, Any] | None:
        """Send a request on the next available connection; return the reply, or ``None`` if it ends first."""
        await self._online.wait()
        assert self._connection is not None
        connection, ref = self._connection, next(self._refs)
        waiting = self._waiting[ref] = asyncio.get_running_loop().create_future()
        await self._send(json.dumps({"stream": stream, "payload": {**payload, "ref": ref}}))
        try:
            return await asyncio.wait_for(waiting, self.patience)
        except (TimeoutError, ConnectionError):
            connection.transport.abort()
            return None
        finally:
            self._waiting.pop(ref, None)

    def _connected(self) -> None:
        self._online.set()
        super()._connected()

    def _drop(self) -> None:
        self._online.clear()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionError())
        super()._drop()

    def _receive(self, frame: dict[str, Any]) -> None:
        payload = frame["payload"]
        waiting = self._waiting.get(payload["ref"]) if payload["action"] == "reply" else None
        if waiting is None:
            super()._receive(frame)
        elif not waiting.done():
            waiting.set_result(payload)
