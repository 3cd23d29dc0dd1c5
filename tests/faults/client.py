"""Clients that follow groups over real sockets as the JavaScript client does, and keep every frame.

One `Client` is one connection that reconnects for ever, each time to the next of its addresses. Each of its `Feed`s
holds the rows of one group. Some clients negotiate batches of frames. A `Crowd` runs clients in an event loop in a
thread of its own, so that a fault test reads from top to bottom in the main one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Protocol, Self, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from .observations import Asked, Back, Frame, Observation, Record, Snapshot, Stale

STREAM = "items"
#: The subprotocol for batches: several waiting frames arrive as a JSON array.
JOINED = Subprotocol("declbind.batch.v1")
#: A client's delays, in seconds: before it reconnects, and before it repeats a refused request.
RECONNECT_SECONDS = 0.1
RETRY_SECONDS = 0.2
REPLY_SECONDS = 15.0

T = TypeVar("T")


class Listener(Protocol):
    """The handler of one group of one stream in a client."""

    stream: str
    #: Known when the subscription was granted.
    group: str | None

    def ask(self) -> None:
        """Subscribe, because the connection is new."""

    def replied(self, reply: dict[str, Any]) -> None:
        """Handle the reply to a request."""

    def disconnected(self) -> None:
        """Forget pending requests, because their replies will not come."""

    def receive(self, offset: int, payload: dict[str, Any]) -> None:
        """Handle a frame of this group."""


class Feed:
    """The rows of one group: of one room, or of all."""

    stream = STREAM

    def __init__(self, client: Client, room: int | None) -> None:
        self.client, self.room = client, room
        self.log: list[Observation] = []
        self.rows: dict[int, dict[str, Any]] = {}
        self.group: str | None = None
        self.is_asking = False
        self._needs_snapshot = True
        self._ask_again = False
        self._epoch, self._proof = "", ""
        self._offset = 0
        #: The pages of an incomplete snapshot, and the changes since it was requested.
        self._pages: list[dict[str, Any]] | None = None
        self._between: list[tuple[int, dict[str, Any]]] = []

    @property
    def is_live(self) -> bool:
        """Return whether the rows are those of the server, as far as the client knows."""
        return self.client.is_open and not self.is_asking and not self._needs_snapshot

    def ask(self) -> None:
        """Request a snapshot if one is needed, otherwise the missed events."""
        if self.is_asking:
            self._ask_again = True
            return
        payload: dict[str, Any] = {"action": "subscribe", "params": {} if self.room is None else {"room": self.room}}
        if self._needs_snapshot:
            payload["snapshot"], self._pages = True, []
            self.log.append(Asked())
        else:
            payload["since"] = {"epoch": self._epoch, "offset": self._offset, "resume": self._proof}
            self._pages = None
            self.log.append(Back(self._offset))
        self._between = []
        self.is_asking = True
        self.client.send(self, payload)

    def replied(self, reply: dict[str, Any]) -> None:
        """Handle the reply to a request."""
        if not reply["ok"]:
            self.is_asking = self._ask_again = False
            self._pages = None
            self.client.later(RETRY_SECONDS, self.ask)
            return
        resumed = self._pages is None
        self.group, self._proof = reply["group"], reply["resume"]
        if reply["epoch"] != self._epoch:
            self._needs_snapshot = True
            self._epoch, self._offset, self._between = reply["epoch"], reply["offset"], []
        elif not resumed:
            self._offset = max(self._offset, reply["offset"])
        if resumed:
            self._asked()

    def _asked(self) -> None:
        self.is_asking = False
        if self._ask_again:
            self._ask_again, self._needs_snapshot = False, True
            self.ask()

    def disconnected(self) -> None:
        """Forget pending requests, because their replies will not come."""
        self.is_asking = self._ask_again = False
        self._pages = None
        self._between = []

    def receive(self, offset: int, payload: dict[str, Any]) -> None:
        """Handle a frame of this group."""
        match payload["action"]:
            case "snapshot":
                self._page(offset, payload)
            case "resync":
                self.log.append(Stale(f"resync {payload['reason']}"))
                self._needs_snapshot = True
                self.ask()
            case "closed":
                self.log.append(Stale(f"closed {payload['reason']}"))
                self._needs_snapshot, self.group = True, None
                self.client.forget(self)
                self.disconnected()
                self.client.later(RETRY_SECONDS, self.ask)
            case action:
                data = payload["data"]
                self.log.append(Frame(self._epoch, offset, action, payload["pk"], data.get("stamp"), data.get("room")))
                if offset <= self._offset:
                    return  # seen
                self._offset = offset
                if self._pages is not None:
                    self._between.append((offset, payload))
                self._apply(payload)

    def _apply(self, payload: dict[str, Any]) -> None:
        if payload["action"] == "delete":
            self.rows.pop(payload["pk"], None)
        else:
            self.rows[payload["pk"]] = payload["data"]

    def _page(self, offset: int, payload: dict[str, Any]) -> None:
        if self._pages is None:
            return
        self._pages += payload["objects"]
        if not payload["final"]:
            return
        self.rows = {row["pk"]: row["data"] for row in self._pages}
        self.log.append(Snapshot(self._epoch, offset, {pk: data["stamp"] for pk, data in self.rows.items()}))
        for at, change in self._between:
            if at > offset:
                self._apply(change)
        self._pages, self._between = None, []
        self._offset = max(self._offset, offset)
        self._needs_snapshot = False
        self._asked()


class Client:
    """One connection that reconnects. All methods belong to the crowd's event loop."""

    def __init__(
        self,
        name: str,
        addresses: Sequence[str],
        rooms: Sequence[int | None],
        *,
        joined: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.feeds = [Feed(self, room) for room in rooms]
        self.listeners: list[Listener] = [*self.feeds]
        self.address = ""
        self.is_joined = joined
        #: How many arrays of frames arrived.
        self.arrays = 0
        #: How often this client disconnected for a while.
        self.absences = 0
        #: How often a connection ended, by the code of the close frame; 1006 means a broken connection.
        self.closes: Counter[int | None] = Counter()
        self.is_open = False
        self._addresses = itertools.cycle(addresses)
        self._headers = headers
        self._may_come = asyncio.Event()
        self._may_come.set()
        self._refs = itertools.count(1)
        self._asking: dict[int, tuple[Listener, asyncio.TimerHandle]] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._connection: ClientConnection | None = None

    def jobs(self) -> list[Coroutine[object, object, None]]:
        """Return this client's tasks, each of which runs until it is cancelled."""
        return [self.run()]

    def leave(self) -> None:
        """Break the connection, and stay disconnected until `come_back()`."""
        self.absences += 1
        self._may_come.clear()
        if self._connection is not None:
            self._connection.transport.abort()

    def come_back(self) -> None:
        """Connect again."""
        self._may_come.set()

    async def run(self) -> None:
        """Connect, follow and reconnect, until cancelled."""
        while True:
            await self._may_come.wait()
            with contextlib.suppress(OSError, WebSocketException, TimeoutError):
                await self._follow(next(self._addresses))
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _follow(self, address: str) -> None:
        async with connect(
            address, compression=None, max_size=None, ping_interval=None, open_timeout=5, close_timeout=1,
            subprotocols=[JOINED] if self.is_joined else None, additional_headers=self._headers,
        ) as connection:  # fmt: skip
            assert (connection.subprotocol == JOINED) is self.is_joined
            self.address, self._connection, self.is_open = address, connection, True
            try:
                self._connected()
                async for text in connection:
                    self._take(json.loads(text))
            finally:
                self.closes[connection.close_code] += 1
                self._drop()

    def _connected(self) -> None:
        for listener in self.listeners:
            listener.ask()

    def _drop(self) -> None:
        self.is_open = False
        for timer in [*self._timers, *(timer for _, timer in self._asking.values())]:
            timer.cancel()
        self._timers.clear()
        self._asking.clear()
        for listener in self.listeners:
            listener.disconnected()

    def send(self, listener: Listener, payload: dict[str, Any]) -> None:
        """Send a request; its reply goes to the listener, and a missing reply ends the connection."""
        assert self._connection is not None
        ref = next(self._refs)
        timer = asyncio.get_running_loop().call_later(REPLY_SECONDS, self._connection.transport.abort)
        self._asking[ref] = listener, timer
        self._spawn(self._send(json.dumps({"stream": listener.stream, "payload": {**payload, "ref": ref}})))

    async def _send(self, text: str) -> None:
        with contextlib.suppress(WebSocketException):
            assert self._connection is not None
            await self._connection.send(text)

    def forget(self, listener: Listener) -> None:
        """Stop expecting replies for a listener."""
        for ref in [ref for ref, (asking, _) in self._asking.items() if asking is listener]:
            self._asking.pop(ref)[1].cancel()

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call a function after a delay, if the connection still exists."""
        self._timers.add(asyncio.get_running_loop().call_later(seconds, function))

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take(self, content: Any) -> None:
        if not isinstance(content, list):
            self._receive(content)
            return
        assert self.is_joined, "an array came to a client that does not know arrays"
        self.arrays += 1
        for frame in content:
            self._receive(frame)

    def _receive(self, frame: dict[str, Any]) -> None:
        payload = frame["payload"]
        if payload["action"] == "reply":
            asking, timer = self._asking.pop(payload["ref"], (None, None))
            if asking is not None and timer is not None:
                timer.cancel()
                asking.replied(payload)
            return
        for listener in self.listeners:
            if (listener.stream, listener.group) == (frame["stream"], frame["group"]):
                listener.receive(frame["offset"], payload)


class Crowd:
    """Clients in an event loop of their own; calls that need the loop go through it."""

    def __init__(self) -> None:
        self.clients: list[Client] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="crowd", daemon=True)
        self._running: list[asyncio.Task[None]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, work: Coroutine[object, object, T]) -> T:
        """Run a coroutine in the loop and return what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def add(self, client: Client) -> None:
        """Connect one more client."""

        async def start() -> None:
            self.clients.append(client)
            self._running += map(asyncio.create_task, client.jobs())

        self.call(start())

    def stop(self) -> None:
        """Disconnect all clients; their records are kept."""
        self.call(self._stop())

    async def _stop(self) -> None:
        for task in self._running:
            task.cancel()
        for outcome in await asyncio.gather(*self._running, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
        self._running.clear()

    def feeds(self) -> Iterator[Feed]:
        """Return the feeds of all clients."""
        for client in self.clients:
            yield from client.feeds

    def look(self, function: Callable[[], T]) -> T:
        """Call a function in the loop's thread, between two frames; raises the exception that ended a client."""

        async def inside() -> T:
            for task in self._running:
                if task.done():
                    task.result()
            return function()

        return self.call(inside())

    def records(self) -> list[Record]:
        """Return the record of each feed."""
        return [
            Record(f"{feed.client.name} in {'all rooms' if feed.room is None else f'room {feed.room}'}",
                   feed.room, feed.log, feed.rows)
            for feed in self.feeds()
        ]  # fmt: skip

    def closes(self) -> Counter[int | None]:
        """Return how often connections ended, by close code."""
        return sum((client.closes for client in self.clients), Counter())
