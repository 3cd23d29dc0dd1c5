"""The requests of one socket: they are read, carried out in order within a stream, and answered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import Protocol

from declbind.asgi_types import Receive, Scope
from declbind.bindings import Binding
from declbind.conf import settings
from declbind.core import course, frames
from declbind.core.errors import ClientError
from declbind.core.rate import RateLimit
from declbind.inbound import permissions, writes
from declbind.models import Traffic
from declbind.tenancy import TenantError
from declbind.tokens import InvalidTokenError

from . import subscriptions
from .authenticating import renew
from .fair_queue import Client, client_of, working_for
from .grants import NOT_COVERED
from .hub import LiveHub
from .join_rules import RegistryHolder
from .socket import FLOODING, Socket
from .traffic import describe_refusal

logger = logging.getLogger("declbind")

#: A client that exceeds its rate limit for this many seconds is disconnected.
FLOOD_SECONDS = 10.0
#: A client that exceeds its rate limit by this many messages is disconnected, because reading them costs more.
FLOOD_MESSAGES = 1_000
#: The error message for a fault outside the transaction of a request.
FAULT = "The server failed; the request may or may not have been carried out."
#: The payload that is recorded if a message is refused before it was parsed.
_NO_PAYLOAD: Mapping[str, object] = {}


class BindingSource(Protocol):
    """The part of a consumer that decides which bindings its socket may use."""

    def bindings(self, hub: RegistryHolder) -> Mapping[str, type[Binding]]:
        """Return the bindings by stream."""


class RequestsUnderWay:
    """The requests of one socket that are being carried out. Exists only while there are any."""

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(settings.MAX_IN_FLIGHT)
        self.last: dict[str, asyncio.Task[None]] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def add(self, stream: str, task: asyncio.Task[None]) -> None:
        """Add a request that was started. It follows all earlier requests on its stream."""
        self.last[stream] = task
        self.tasks.add(task)

    def done(self, task: asyncio.Task[None]) -> None:
        """Remove a finished request."""
        self.free.release()
        self.tasks.discard(task)
        for stream, last in list(self.last.items()):
            if last is task:
                del self.last[stream]


class Conversation:
    """The requests of one socket and their replies: in order within a stream, concurrent between streams."""

    __slots__ = ("_rate", "_reading", "_receive", "_scope", "_under_way", "client", "consumer", "hub", "socket")

    def __init__(
        self,
        consumer: BindingSource,
        hub: LiveHub,
        socket: Socket,
        client: Client,
        receive: Receive,
        scope: Scope,
    ) -> None:
        self.consumer, self.hub, self.socket, self.client = consumer, hub, socket, client
        self._receive, self._scope = receive, scope
        self._rate = RateLimit(settings.MESSAGES_PER_SECOND, settings.MESSAGE_BURST, time.monotonic())
        self._under_way: RequestsUnderWay | None = None
        #: The timeout that ends reading; ``None`` while the socket is not read.
        self._reading: asyncio.Timeout | None = None

    async def run(self) -> None:
        """Read until the client leaves or the server closes the socket."""
        socket = self.socket
        try:
            # The timeout has no deadline. Closing the socket makes it expire, so reading needs no separate task.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None) as self._reading:
                    socket.closed.add_done_callback(self._stop_reading)
                    try:
                        while (message := await self._receive())["type"] != "websocket.disconnect":
                            if message["type"] == "websocket.receive":
                                await self._take(message.get("text"))
                            del message
                    finally:
                        self._reading = None
        finally:
            await socket.stop_sending()
            if socket.closed.done():
                await socket.send_close()
            socket.close(1000)
            # Accepted requests are finished, so that a write does not stop half-way when its client disconnects.
            if self._under_way is not None and self._under_way.tasks:
                await asyncio.wait(self._under_way.tasks)

    def _stop_reading(self, _: object) -> None:
        # The loop calls this shortly after the socket was closed. If the client has disconnected in between, the
        # timeout has ended and cannot be rescheduled.
        if self._reading is not None:
            self._reading.reschedule(0.0)

    async def _take(self, text: str | None) -> None:
        now = time.monotonic()
        self.socket.idle_since = None
        allowed = self._rate.allows(now)
        try:
            envelope = read_envelope(text)
            if not allowed:
                raise frames.RequestError(
                    "rate_limited",
                    f"Expected at most {settings.MESSAGES_PER_SECOND} messages a second.",
                    stream=envelope.stream,
                    ref=envelope.ref,
                )
        except frames.RequestError as error:
            self._refuse(error.stream, error.ref, "", error)
            if not allowed and (
                self._rate.seconds_over(now) > FLOOD_SECONDS or self._rate.refused_in_a_row > FLOOD_MESSAGES
            ):
                self.socket.close(FLOODING, "Too many messages.")
            return
        if envelope.payload.get("action") == frames.AUTHENTICATE:
            # Nothing is read during this request, because later messages belong to the new identity.
            await self._authenticate(envelope)
            return
        identity = self.socket.identity
        under_way = self._under_way
        if under_way is None:
            under_way = self._under_way = RequestsUnderWay()
        await under_way.free.acquire()
        # The object may have been removed after its last request while this request waited.
        self._under_way = under_way
        task = asyncio.create_task(self._serve(envelope, identity, under_way.last.get(envelope.stream)))
        under_way.add(envelope.stream, task)
        self.socket.requests = len(under_way.tasks)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        under_way = self._under_way
        assert under_way is not None
        under_way.done(task)
        self.socket.requests = len(under_way.tasks)
        self.socket.leave_if_idle()
        if not under_way.tasks:
            self._under_way = None

    async def _authenticate(self, envelope: frames.Envelope) -> None:
        try:
            with working_for(self.client):
                seconds = await renew(self.hub, self.socket, envelope, self._scope)
        except ClientError as error:
            self._refuse(envelope.stream, envelope.ref, frames.AUTHENTICATE, error)
        except Exception:
            logger.exception("A client's token could not be checked.")
            fault = ClientError("internal", FAULT)
            self._refuse(envelope.stream, envelope.ref, frames.AUTHENTICATE, fault, Traffic.ERROR)
        else:
            self.client = client_of(self.socket.identity.account, "", self.socket.id)
            self.hub.note(
                self.socket, Traffic.REQUEST, stream=envelope.stream, action=frames.AUTHENTICATE, outcome="ok"
            )
            if envelope.ref is not frames.MISSING:
                self.socket.push(frames.encode_reply(envelope.stream, envelope.ref, {"seconds": seconds}))

    async def _serve(
        self, envelope: frames.Envelope, identity: permissions.Identity, previous: asyncio.Task[None] | None
    ) -> None:
        if previous is not None:
            await asyncio.wait({previous})
        started = time.monotonic()
        action = envelope.payload.get("action")
        label = action if isinstance(action, str) else ""
        try:
            with working_for(self.client):
                request, groups, pk = await self._carry_out(envelope, identity)
        except ClientError as error:
            self._refuse(envelope.stream, envelope.ref, label, error, payload=envelope.payload)
        except TenantError as error:
            logger.warning("A request on stream %r was refused: %s", envelope.stream, error)
            denied = ClientError("denied", "Not allowed.")
            self._refuse(envelope.stream, envelope.ref, label, denied, payload=envelope.payload)
        except Exception:
            logger.exception("A request on stream %r failed.", envelope.stream)
            fault = ClientError("internal", FAULT)
            self._refuse(envelope.stream, envelope.ref, label, fault, Traffic.ERROR, envelope.payload)
        else:
            self.hub.note(
                self.socket,
                Traffic.REQUEST,
                stream=request.stream,
                action=request.action,
                object_pk="" if pk is None else str(pk),
                groups=groups,
                outcome="ok",
                milliseconds=round(1000 * (time.monotonic() - started), 2),
            )

    async def _carry_out(
        self, envelope: frames.Envelope, identity: permissions.Identity
    ) -> tuple[frames.Request, list[str], object]:
        if not identity.covers(envelope.stream):
            raise ClientError("denied", NOT_COVERED)
        binding, request = read_request(envelope, self.consumer.bindings(self.hub))
        if request.action == "subscribe":
            group = await subscriptions.subscribe(self.hub, self.socket, binding, request)
            return request, [group], None
        if request.action == "unsubscribe":
            group = await subscriptions.unsubscribe(self.hub, self.socket, binding, request)
            return request, [group], None
        result = await self.hub.requests.run(writes.handle, request, binding, identity)
        if request.ref is not frames.MISSING:
            self.socket.push(frames.encode_reply(request.stream, request.ref, result))
        return request, [], result.get("pk")

    def _refuse(
        self,
        stream: str,
        ref: object,
        action: str,
        error: ClientError,
        kind: str = Traffic.REFUSED,
        payload: Mapping[str, object] = _NO_PAYLOAD,
    ) -> None:
        # The shape of the request is computed only if the row is kept. In a flood, most rows are dropped.
        about = partial(describe_refusal, error, payload)
        pk = payload.get("pk")
        self.hub.note(
            self.socket,
            kind,
            stream=stream,
            action=action,
            object_pk=str(pk) if isinstance(pk, str | int) else "",
            outcome=error.code,
            # Only operators may know why a token was refused.
            message=str(error.__cause__) if isinstance(error.__cause__, InvalidTokenError) else error.message,
            detail=about,
        )
        if ref is not frames.MISSING:
            self.socket.push(frames.encode_refusal(stream, ref, error))


def read_envelope(text: str | None) -> frames.Envelope:
    """Parse a message, within the limits of the settings.

    Args:
        text: The text of the message, ``None`` if it is binary.

    Returns:
        The envelope of the request.

    Raises:
        RequestError: The message is binary, too large or malformed.
    """
    if text is None:
        raise frames.RequestError("malformed", "Expected a text frame, got a binary one.")
    return frames.parse_envelope(
        text,
        max_bytes=settings.MAX_FRAME_BYTES,
        max_depth=settings.MAX_JSON_DEPTH,
        max_digits=settings.MAX_NUMBER_DIGITS,
    )


def read_request(
    envelope: frames.Envelope, bindings: Mapping[str, type[Binding]]
) -> tuple[type[Binding], frames.Request]:
    """Return the binding that a message is for, and its request.

    Args:
        envelope: The parsed message.
        bindings: The bindings that the socket may use, by stream.

    Raises:
        ClientError: There is no such stream, or the request is malformed.
    """
    course.enter(course.Check.BINDING)
    binding = bindings.get(envelope.stream)
    if binding is None:
        raise ClientError("unknown_stream", f"There is no stream {envelope.stream!r:.80}.")
    course.enter(course.Check.REQUEST)
    return binding, frames.parse_request(envelope)
