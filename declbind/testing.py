"""Tools for tests, as declbind's own suite uses them: capture events, put bindings in force, speak as a client.

    with override_bindings({"stream": "notes", "model": "app.Note", "fields": ["text"]}):
        with capture_events() as events:
            Note.objects.create(text="hello")
        assert events[0].changes == [("notes", "create")]

    async with Client(user=editor) as client:
        reply = await client.request("notes", "create", data={"text": "hello"})

Sockets are served from other threads, which see committed data only. Tests with a :class:`Client` therefore need
``TransactionTestCase``, or ``django_db(transaction=True)`` with pytest-django, and a test database that threads can
share (with SQLite, a file). ``capture_events`` and ``override_bindings`` work in a ``TestCase`` too.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, overload

from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.base import SessionBase
from django.db import connections, models

from declbind.django_types import User
from declbind.live.consumers import BindingConsumer
from declbind.live.hub import get_hub
from declbind.models import Event
from declbind.outbound import sequencer
from declbind.registry import database_alias
from declbind.registry import override as override_bindings
from declbind.tenancy import SCOPE_KEY

__all__ = [
    "CapturedEvent",
    "Client",
    "Frame",
    "Payload",
    "Refusal",
    "Row",
    "capture_events",
    "override_bindings",
]

#: How long a test waits for an expected frame, in seconds.
PATIENCE = 10.0
#: How long ``is_silent`` waits for requests under way, in seconds.
SETTLE_SECONDS = 2.0


class Refusal(TypedDict):
    """The ``error`` of a reply to a refused request. ``fields`` maps names to texts."""

    code: str
    message: str
    fields: dict[str, list[str]]


class Row(TypedDict):
    """A row of a snapshot."""

    pk: object
    data: dict[str, object]


class Payload(dict[str, object]):
    """The payload of a frame: a dict in which type checkers know the values of the protocol's keys."""

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, key: Literal["action", "epoch", "group", "model", "reason", "resume"], /) -> str: ...
        @overload
        def __getitem__(self, key: Literal["ok", "final"], /) -> bool: ...
        @overload
        def __getitem__(self, key: Literal["offset"], /) -> int: ...
        @overload
        def __getitem__(self, key: Literal["seconds"], /) -> int | None: ...
        @overload
        def __getitem__(self, key: Literal["data"], /) -> dict[str, object]: ...
        @overload
        def __getitem__(self, key: Literal["objects"], /) -> list[Row]: ...
        @overload
        def __getitem__(self, key: Literal["error"], /) -> Refusal: ...
        @overload
        def __getitem__(self, key: str, /) -> object: ...
        def __getitem__(self, key: str, /) -> object: ...


class Frame(dict[str, object]):
    """A frame as decoded JSON: a dict in which type checkers know the values of the protocol's keys."""

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, key: Literal["stream", "group"], /) -> str: ...
        @overload
        def __getitem__(self, key: Literal["offset"], /) -> int: ...
        @overload
        def __getitem__(self, key: Literal["payload"], /) -> Payload: ...
        @overload
        def __getitem__(self, key: str, /) -> object: ...
        def __getitem__(self, key: str, /) -> object: ...


def _make_frame(content: Mapping[str, object]) -> Frame:
    frame, payload = Frame(content), content.get("payload")
    if isinstance(payload, dict):
        frame["payload"] = Payload(payload)
    return frame


@dataclass(frozen=True)
class CapturedEvent:
    """One event that a write left in the log; ``pk`` and ``data`` are decoded JSON.

    ``tenant`` is the one that it is for, "" for all tenants or on a site without them.
    """

    stream: str
    changes: list[tuple[str, str]]
    pk: object
    data: dict[str, object]
    model: str
    kind: str
    tenant: str = ""


@contextlib.contextmanager
def capture_events(stream: str | None = None) -> Iterator[list[CapturedEvent]]:
    """Collect the events of the block.

    Work that is rolled back inside the block leaves no events. Control events are left out.

    Args:
        stream: Collect the events of this stream only.

    Yields:
        A list, filled when the block ends.
    """
    using = database_alias()
    events = Event.objects.using(using).exclude(kind=Event.CONTROL)
    last = events.order_by("-id").values_list("id", flat=True).first() or 0
    captured: list[CapturedEvent] = []
    yield captured
    sequencer.settle(using)
    found = events.filter(id__gt=last).order_by(models.F("seq").asc(nulls_last=True), "id")
    captured.extend(
        CapturedEvent(
            stream=event.stream,
            changes=[(group, action) for group, action in json.loads(event.changes)],
            pk=json.loads(event.object_pk),
            data=json.loads(event.data),
            model=event.model,
            kind=event.kind,
            tenant=event.tenant,
        )
        for event in (found.filter(stream=stream) if stream else found)
    )


def find_transactions() -> list[str]:
    """Return the aliases of the databases in which this thread has a transaction open. Makes no query."""
    # Django's connections are local to the thread and, inside a running loop, to its context. Connections that the
    # test opened before the loop started can be found only while no loop is running.
    running = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        return [connection.alias for connection in connections.all(initialized_only=True) if connection.in_atomic_block]
    finally:
        asyncio._set_running_loop(running)


class Client:
    """A client that talks to a consumer as a browser would, without a server.

    Frames are dicts. Waiting longer than ``PATIENCE`` seconds for one raises ``TimeoutError``.

    Args:
        application: An ASGI application; by default the consumer of all bindings.
        user: The user who is logged in; by default an anonymous one.
        session: The session by which the user logged in, if any.
        tenant: The tenant that the client belongs to, on a site with ``DECLBIND["TENANT"]``; by default the one that
            ``of_scope`` finds. ``user`` must be loaded inside of it.
        token: A token by which the client says who it is, sent in the header ``Authorization``.
    """

    def __init__(
        self,
        application: Callable[..., Awaitable[None]] | None = None,
        *,
        user: User | None = None,
        session: SessionBase | None = None,
        token: str | None = None,
        path: str = "/ws/bindings/",
        headers: list[tuple[bytes, bytes]] | None = None,
        url_kwargs: dict[str, object] | None = None,
        subprotocols: Sequence[str] = (),
        tenant: str | None = None,
    ) -> None:
        sent = headers if headers is not None else [(b"host", b"testserver")]
        scope = {
            "type": "websocket",
            "path": path,
            "scheme": "ws",
            "headers": sent if token is None else [*sent, (b"authorization", f"Bearer {token}".encode())],
            "query_string": b"",
            "subprotocols": list(subprotocols),
            "user": user if user is not None else AnonymousUser(),
            "url_route": {"kwargs": url_kwargs or {}},
        }
        if tenant is not None:
            scope[SCOPE_KEY] = tenant
        if session is not None:
            scope["session"] = session
        communicator: Any = ApplicationCommunicator
        self._communicator = communicator(application or BindingConsumer.as_asgi(), scope)
        self._refs = itertools.count(1)
        self._kept: list[Frame] = []
        self._arrived: list[Frame] = []
        #: The subprotocol that the server chose.
        self.subprotocol: str | None = None
        #: How many messages came: fewer than frames if the server batched some.
        self.messages = 0
        #: The close code once the server has closed, else ``None``.
        self.close_code: int | None = None

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            ConnectionRefusedError: The server refuses the handshake.
        """
        if not await self.connect():
            raise ConnectionRefusedError(f"The handshake was refused with {self.close_code}.")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Disconnect."""
        await self.disconnect()

    async def connect(self) -> bool:
        """Perform the handshake.

        Returns:
            Whether the server accepted the connection.

        Raises:
            RuntimeError: The test runs in a transaction, whose data the threads that serve the socket cannot see.
        """
        # The test's connections depend on which function runs the coroutine. async_to_sync(), which Django's test
        # cases use, runs it in another thread than the test, and sync_to_async() in the test's.
        for alias in (*find_transactions(), *await sync_to_async(find_transactions)()):
            raise RuntimeError(
                "declbind.testing.Client needs committed data, and this test runs in a transaction of database "
                f"{alias!r}, which the threads that serve the socket cannot see. Use TransactionTestCase instead of "
                "TestCase. With pytest-django, use the mark django_db(transaction=True) or the fixture "
                "transactional_db."
            )
        await self._communicator.send_input({"type": "websocket.connect"})
        message = await self._communicator.receive_output(PATIENCE)
        if message["type"] == "websocket.close":
            self.close_code = message.get("code", 1000)
            return False
        self.subprotocol = message.get("subprotocol")
        return True

    async def disconnect(self) -> None:
        """Disconnect, and wait until the server has cleaned up."""
        if self.close_code is None:
            await self._communicator.send_input({"type": "websocket.disconnect", "code": 1000})
        with contextlib.suppress(asyncio.CancelledError):
            await self._communicator.wait(PATIENCE)

    async def send(self, text: str | Mapping[str, object]) -> None:
        """Send one frame: a text as it is, a dict as JSON."""
        text = text if isinstance(text, str) else json.dumps(text)
        await self._communicator.send_input({"type": "websocket.receive", "text": text})

    async def receive(self, seconds: float = PATIENCE) -> Frame:
        """Return the next frame.

        Args:
            seconds: How long to wait for it.

        Raises:
            ConnectionError: The server closed the socket instead.
            TimeoutError: No frame came in time.
        """
        if self._kept:
            return self._kept.pop(0)
        return await self._receive(seconds)

    async def _receive(self, seconds: float) -> Frame:
        if self._arrived:
            return self._arrived.pop(0)
        message = await self._communicator.receive_output(seconds)
        if message["type"] == "websocket.close":
            self.close_code = message.get("code", 1000)
            raise ConnectionError(f"The server closed with {self.close_code}: {message.get('reason', '')}")
        self.messages += 1
        content = json.loads(message["text"])
        self._arrived += map(_make_frame, content if isinstance(content, list) else [content])
        return self._arrived.pop(0)

    async def wait_closed(self, seconds: float = PATIENCE) -> int:
        """Read until the server closes the socket.

        Args:
            seconds: How long to wait for each message.

        Returns:
            The close code.

        Raises:
            TimeoutError: The server did not close it in time.
        """
        with contextlib.suppress(ConnectionError):
            while True:
                await self.receive(seconds)
        assert self.close_code is not None
        return self.close_code

    async def request(self, stream: str, action: str, **payload: object) -> Payload:
        """Send a request, and wait for its reply.

        Other frames that arrive first are kept for ``receive``.

        Args:
            stream: The stream of the request.
            action: The action, such as ``"create"``.
            **payload: Other keys of the request's payload, such as ``data``.

        Returns:
            The payload of the reply.

        Raises:
            ConnectionError: The server closed the socket instead.
            TimeoutError: No reply came in time.
        """
        ref = next(self._refs)
        await self.send({"stream": stream, "payload": {"action": action, **payload, "ref": ref}})
        while True:
            frame = await self._receive(PATIENCE)
            reply = frame["payload"]
            if reply.get("action") == "reply" and reply.get("ref") == ref:
                return reply
            self._kept.append(frame)

    async def authenticate(self, token: str) -> Payload:
        """Send a token on the open socket.

        Args:
            token: The token, as ``declbind.tokens.issue`` returns it.

        Returns:
            The payload of the reply.
        """
        return await self.request("", "authenticate", token=token)

    async def is_silent(self) -> bool:
        """Return whether no further frames follow from committed data, nor from requests that were sent.

        The hub reads the log now. Replays and snapshots that are under way are awaited for up to ``SETTLE_SECONDS``.
        """
        hub = await get_hub()
        await hub.settle()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                # Nothing signals the end of a request that sends nothing.
                while any(s.requests for s in hub.sockets()) and self._communicator.output_queue.empty():  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
        return not self._kept and not self._arrived and await self._communicator.receive_nothing(0.05, 0.01)
