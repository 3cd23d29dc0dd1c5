"""A subscriber over a real socket that keeps every frame, holds the rows of its groups, and can resume."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

#: How long an expected frame may take, in seconds.
PATIENCE = 30.0
#: A small receive buffer, so that a paused reader soon makes the server wait.
RECEIVE_BYTES = 4096

JOINED = Subprotocol("declbind.batch.v1")

#: A frame, a payload or a reply.
Message = dict[str, Any]
Row = dict[str, Any]
Change = tuple[str, Any]


@dataclass
class Feed:
    """One subscription: the received frames, and the resulting rows."""

    stream: str
    params: dict[str, object]
    group: str = ""
    epoch: str = ""
    offset: int = 0
    resume: str | None = None
    rows: dict[Any, Row] = field(default_factory=dict)
    #: (action, pk) of each change, in the order of arrival, without repeated ones.
    changes: list[Change] = field(default_factory=list)
    #: (action, reason) of each `resync` and `closed`.
    notices: list[tuple[str, str]] = field(default_factory=list)
    pages: int = 0
    is_complete: bool = False
    _arrived: list[Message] = field(default_factory=list)

    def granted(self, reply: Message, *, resumed: bool) -> None:
        """Handle the reply to the subscribe request."""
        self.group, self.epoch, self.resume = reply["group"], reply["epoch"], reply.get("resume")
        if not resumed:
            self.offset, self.is_complete, self._arrived = reply["offset"], False, []

    def receive(self, offset: int, payload: Message) -> None:
        """Handle a frame of this subscription."""
        action = payload["action"]
        if action == "snapshot":
            self.pages += 1
            self._arrived += payload["objects"]
            if payload["final"]:
                self.rows = {row["pk"]: row["data"] for row in self._arrived}
                self.offset, self.is_complete, self._arrived = max(self.offset, offset), True, []
            return
        if action in ("resync", "closed"):
            self.notices.append((action, payload["reason"]))
            return
        # One event reaches a group with one change only; earlier offsets are repeated.
        if offset <= self.offset:
            return
        self.offset = offset
        self.changes.append((action, payload["pk"]))
        if action == "delete":
            self.rows.pop(payload["pk"], None)
        else:
            self.rows[payload["pk"]] = payload["data"]


class Subscriber:
    """A client with any number of subscriptions on one socket at a time.

    A thread reads the socket. All other methods belong to the thread of the course. After ``PATIENCE`` seconds they
    raise `TimeoutError`, which says what was awaited.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        cookie: str = "",
        joined: bool = False,
        reads_on_demand: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.name, self.url, self.cookie, self.joined, self._tls = name, url, cookie, joined, tls
        self.reads_on_demand = reads_on_demand
        self.feeds: list[Feed] = []
        self.close_code: int | None = None
        self.is_open = False
        #: Control frames of the connection as a whole, such as `moving`.
        self.signals: list[str] = []
        self._refs = itertools.count(1)
        self._replies: dict[int, Message] = {}
        self._asking: dict[int, tuple[Feed, bool]] = {}
        self._news = threading.Condition()
        self._may_read = threading.Event()
        self._may_read.set()
        self._socket: ClientConnection | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.leave()

    # --- the connection -----------------------------------------------------------------------------------------------

    def connect(self, url: str | None = None) -> None:
        """Open the socket, optionally at another address."""
        self.url = url or self.url
        address = urlsplit(self.url)
        assert address.hostname is not None
        assert address.port is not None
        options: dict[str, Any] = {}
        if self.reads_on_demand:
            raw = socket.socket()
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            raw.connect((address.hostname, address.port))
            options = {"sock": raw, "max_queue": 1, "compression": None}
        if self._tls is not None:
            options["ssl"] = self._tls
        headers = {"Cookie": self.cookie} if self.cookie else {}
        self.leave()
        opening = connect(
            self.url,
            additional_headers=headers,
            subprotocols=[JOINED] if self.joined else None,
            open_timeout=PATIENCE,
            ping_interval=None,
            **options,
        )
        connection = self._open.enter_context(opening)
        self._socket, self.close_code, self.is_open = connection, None, True
        threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def leave(self) -> None:
        """Close the socket, if it is open."""
        self.go_on()
        self._socket = None
        self._open.close()

    def pause(self) -> None:
        """Stop reading; the library reads one frame ahead."""
        self._may_read.clear()

    def go_on(self) -> None:
        """Continue reading."""
        self._may_read.set()

    def _read(self, connection: ClientConnection) -> None:
        try:
            while True:
                self._may_read.wait()
                content = json.loads(connection.recv())
                with self._news:
                    for frame in content if isinstance(content, list) else [content]:
                        self._take(frame)
                    self._news.notify_all()
        except (ConnectionClosed, OSError) as error:
            code = error.rcvd.code if isinstance(error, ConnectionClosed) and error.rcvd is not None else 1006
            with self._news:
                if connection is self._socket or self._socket is None:
                    self.close_code, self.is_open = code, False
                self._news.notify_all()

    def _take(self, frame: Message) -> None:
        payload = frame["payload"]
        if payload["action"] == "reply":
            asked = self._asking.pop(payload["ref"], None)
            if asked is not None and payload["ok"]:
                asked[0].granted(payload, resumed=asked[1])
            self._replies[payload["ref"]] = payload
            return
        if not frame["stream"]:
            self.signals.append(payload["action"])
            return
        for feed in self.feeds:
            if (feed.stream, feed.group) == (frame["stream"], frame["group"]):
                feed.receive(frame["offset"], payload)

    # --- requests -----------------------------------------------------------------------------------------------------

    def request(self, stream: str, action: str, **payload: Any) -> Message:
        """Send a request and return its reply."""
        return self._wait_for_reply(self._send(stream, {"action": action, **payload}, None, resumed=False), action)

    def subscribe(self, stream: str, *, snapshot: bool = True, **params: object) -> Feed:
        """Subscribe and wait for the whole snapshot."""
        feed = self.begin(stream, snapshot=snapshot, **params)
        if snapshot:
            self.wait(lambda: feed.is_complete, f"the snapshot of {stream!r} is complete")
        return feed

    def begin(self, stream: str, *, snapshot: bool = True, **params: object) -> Feed:
        """Subscribe and wait for the reply only."""
        feed = Feed(stream, params)
        self.feeds.append(feed)
        payload = {"action": "subscribe", "params": params, "snapshot": snapshot}
        reply = self._wait_for_reply(self._send(stream, payload, feed, resumed=False), "subscribe")
        assert reply["ok"], f"{self.name}: {reply}"
        return feed

    def ask_anew(self, feed: Feed) -> None:
        """Take a new snapshot of a subscription, as a client does after a `resync`."""
        payload = {"action": "subscribe", "params": feed.params, "snapshot": True}
        reply = self._wait_for_reply(self._send(feed.stream, payload, feed, resumed=False), "subscribe")
        assert reply["ok"], f"{self.name}: {reply}"
        self.wait(lambda: feed.is_complete, f"the new snapshot of {feed.stream!r} is complete")

    def come_back(self, url: str | None = None) -> None:
        """Reconnect, retrying for a while, and resume each subscription from its offset."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.connect(url)
                break
            except Exception as error:
                # A starting server refuses, or answers with an error status; the last failure is reported.
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{self.name}: could not come back: {error}") from error
                time.sleep(0.1)
        for feed in self.feeds:
            since = {"epoch": feed.epoch, "offset": feed.offset, "resume": feed.resume}
            since = {key: value for key, value in since.items() if value is not None}
            payload = {"action": "subscribe", "params": feed.params, "since": since}
            reply = self._wait_for_reply(self._send(feed.stream, payload, feed, resumed=True), "resume")
            assert reply["ok"], f"{self.name}: {reply}"

    def _send(self, stream: str, payload: Message, feed: Feed | None, *, resumed: bool) -> int:
        assert self._socket is not None
        ref = next(self._refs)
        if feed is not None:
            self._asking[ref] = (feed, resumed)
        self._socket.send(json.dumps({"stream": stream, "payload": {**payload, "ref": ref}}))
        return ref

    def _wait_for_reply(self, ref: int, action: str) -> Message:
        self.wait(lambda: ref in self._replies, f"a reply to {action!r}")
        return self._replies.pop(ref)

    # --- waiting ------------------------------------------------------------------------------------------------------

    def wait(self, is_so: Callable[[], object], what: str) -> None:
        """Wait until a condition becomes true through frames."""
        with self._news:
            if not self._news.wait_for(is_so, PATIENCE):
                held = [(feed.stream, feed.group, feed.offset, feed.changes[-5:], feed.notices) for feed in self.feeds]
                raise TimeoutError(
                    f"{self.name}: waited {PATIENCE:.0f} s for this: {what}. "
                    f"Close code {self.close_code}, subscriptions {held}"
                )

    def wait_for_change(self, feed: Feed, change: Change, start: int = 0) -> None:
        """Wait until a change has arrived, counted from the ``start``-th."""
        self.wait(lambda: change in feed.changes[start:], f"{change} on {feed.group!r}")

    def wait_for_row(self, feed: Feed, pk: object) -> None:
        """Wait until a subscription holds a row."""
        self.wait(lambda: pk in feed.rows, f"the row {pk} on {feed.group!r}")

    def wait_closed(self) -> int | None:
        """Wait until the socket is closed, and return the code."""
        self.wait(lambda: not self.is_open, "the server closes the socket")
        return self.close_code
