"""The ASGI consumers, which accept sockets, read requests in order, and answer each of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial, update_wrapper
from types import MappingProxyType
from typing import Any, ClassVar
from weakref import WeakSet

from asgiref.sync import markcoroutinefunction
from channels.consumer import AsyncConsumer
from django.core.exceptions import ImproperlyConfigured
from django.db import Error as DatabaseError

from declbind.bindings import Binding
from declbind.conf import settings
from declbind.core import course, frames
from declbind.core.errors import ClientError
from declbind.core.rate import RateLimit
from declbind.inbound import permissions, writes
from declbind.inbound.authentication import REFUSAL
from declbind.inbound.blocks import find_block
from declbind.models import Traffic
from declbind.outbound.memory_databases import describe_memory
from declbind.registry import database_alias
from declbind.tenancy import TenantError, run_in
from declbind.tokens import InvalidTokenError

from . import server_limits, subscriptions
from .admission import client_address
from .authenticating import renew
from .fair_queue import Client, client_of, working_for
from .handshake import choose_subprotocol, has_token, identify, without_cookies
from .hub import LiveHub, get_hub
from .join_rules import JoinRules, RegistryHolder
from .joining import Join, find_joins, join
from .origin import is_origin_allowed
from .reading import read_in_portions
from .sending import pace, send_close, without_session
from .socket import FLOODING, FORBIDDEN, INTERNAL_ERROR, RESTART, SESSION_OVER, TRY_AGAIN_LATER, Socket
from .traffic import (
    describe_crowd,
    describe_end,
    describe_origin,
    describe_refusal,
    describe_stranger,
    describe_token,
)

logger = logging.getLogger("declbind")

#: The number of seconds after which a client that exceeds its rate is closed.
FLOOD_SECONDS = 10.0
#: The number of messages over its rate after which a client is closed. Reading them costs more than closing it.
FLOOD_MESSAGES = 1_000
#: The error message for a fault outside the transaction of a request.
FAULT = "The server failed; the request may or may not have been carried out."
TURNED_AWAY = "A client was told to try again later, because the database failed: %s"
#: The scope of a socket that has been accepted.
NO_SCOPE: Mapping[str, Any] = MappingProxyType({})

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class BindingConsumer(AsyncConsumer):
    """A consumer that serves every enabled binding of the registry on one WebSocket.

    It reads its own messages and is not dispatched to: ``AsyncConsumer.dispatch`` takes a thread for each message, and
    a channel for each socket. One instance serves one connection.
    """

    @classmethod
    def as_asgi(cls, **initkwargs: Any) -> Any:
        """Return an ASGI application that makes an instance for each connection.

        This replaces Channels' own method, whose coroutine would keep the scope in memory as long as the socket is
        open.
        """

        @markcoroutinefunction
        def application(scope: Mapping[str, Any], receive: Receive, send: Send) -> Awaitable[None]:
            connection = cls(**initkwargs)(scope, receive, send)
            # A timeout must be able to cancel the task. The object that granian's own scheduler uses as a task has no
            # cancel.
            task = asyncio.current_task()
            can_be_cancelled = task is not None and type(task).cancel is asyncio.Task.cancel
            return connection if can_be_cancelled else asyncio.create_task(connection)

        application.consumer_class = cls  # type: ignore[attr-defined]
        application.consumer_initkwargs = initkwargs  # type: ignore[attr-defined]
        update_wrapper(application, cls, updated=())
        return application

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one connection until either side closes it.

        Args:
            scope: The ASGI scope of a WebSocket.
            receive: The ASGI ``receive`` of the server.
            send: The ASGI ``send`` of the server.
        """
        self.scope = scope
        server_limits.warn_once(receive)
        read_in_portions(receive, send)
        if (await receive())["type"] != "websocket.connect":
            return
        # A page of another site can make a browser send cookies, but not a token.
        if not has_token(scope) and not is_origin_allowed(scope):
            await send({"type": "websocket.close", "code": FORBIDDEN})
            # A hub that cannot start has logged why. The refusal does not need the hub.
            with contextlib.suppress(Exception):
                (await get_hub()).note(None, Traffic.REFUSED, **describe_origin(scope))
            return
        if text := describe_memory(database_alias()):
            logger.error("%s", text)
            await turn_away(scope, send, INTERNAL_ERROR, "The server has no database.")
            return
        address = client_address(scope)
        deadline = asyncio.get_running_loop().time() + settings.HANDSHAKE_SECONDS
        try:
            async with asyncio.timeout_at(deadline):
                hub = await get_hub()
        except Exception as error:
            # The hub has logged why it could not start, but not that it is still retrying.
            if isinstance(error, TimeoutError):
                logger.warning(TURNED_AWAY, describe_failure(error))
            await turn_away(scope, send)
            return
        try:
            async with asyncio.timeout_at(deadline):
                with working_for(client_of(None, address, hex(id(self)))):
                    identity, self.scope = await identify(hub.requests.run, scope)
        except InvalidTokenError as error:
            hub.note(None, Traffic.REFUSED, **describe_token(error))
            await turn_away(scope, send, SESSION_OVER, REFUSAL)
            return
        except (DatabaseError, TimeoutError) as error:
            logger.warning(TURNED_AWAY, describe_failure(error))
            await turn_away(scope, send)
            return
        except TenantError as error:
            logger.warning("A connection was refused: %s", error)
            await send({"type": "websocket.close", "code": FORBIDDEN})
            hub.note(None, Traffic.REFUSED, **describe_stranger(error))
            return
        if not hub.admission.enter(identity.account, address):
            hub.note(None, Traffic.REFUSED, **describe_crowd(identity))
            await turn_away(scope, send, FLOODING, "Too many connections.")
            return
        subprotocol = choose_subprotocol(scope)
        socket = Socket(identity, send, hub.joiner if subprotocol == frames.BATCH_PROTOCOL else None)
        client = client_of(identity.account, address, identity.connection_id)
        paced = None
        hub.core.attach(socket.connection)
        hub.expiry.watch(socket)
        hub.drain.watch_server(without_session(send))
        if hub.drain.is_moving:
            socket.close(RESTART, "The server is restarting.")
        try:
            try:
                async with asyncio.timeout_at(deadline):
                    with working_for(client):
                        await self._join(hub, socket)
            except (DatabaseError, TimeoutError) as error:
                logger.warning(TURNED_AWAY, describe_failure(error))
                socket.close(TRY_AGAIN_LATER, "The database failed.")
            await send({"type": "websocket.accept", "subprotocol": subprotocol})
            hub.connection_log.opened(socket, scope)
            # The scope would take a thousand bytes for as long as the socket is open. Later, only project code that
            # reads tokens needs it.
            kept = NO_SCOPE if settings.AUTHENTICATE is None else without_cookies(scope)
            self.scope = scope = NO_SCOPE
            # Not earlier, because the handshake must pass the session wrapper and the HTTP channel.
            short = without_session(send)
            paced = pace(short)
            socket.open(paced or short, hub.inline)
            hub.note(socket, Traffic.CONNECTION, outcome="connected")
            await _Conversation(self, hub, socket, client, receive, kept).run()
        finally:
            # Requests may still be running when the server cancels the connection. Their results must not be sent.
            socket.close(1000)
            if paced is not None:
                paced.release()
            hub.connection_log.closed(socket, hub.core.cursor)
            hub.core.detach(socket.connection)
            hub.expiry.forget(socket)
            hub.admission.leave(socket.identity.account, address)
            hub.drain.socket_ended()
            hub.note(socket, Traffic.CONNECTION, **describe_end(*socket.closed.result()))

    def bindings(self, hub: RegistryHolder) -> Mapping[str, type[Binding]]:
        """Return the bindings that this socket may use, by stream.

        Args:
            hub: The hub of the running loop.
        """
        return hub.registry.by_stream

    def connection_groups(self, **kwargs: Any) -> list[str]:
        """Return the names of groups that each connection joins, in all streams that it serves.

        Override it to grant groups regardless of ``view``. It is called once for each connection.

        Args:
            **kwargs: The arguments of the URL.
        """
        return []

    async def _join(self, hub: LiveHub, socket: Socket) -> None:
        """Subscribe the socket to the groups that it joins automatically, or close it if it may not be connected."""
        while True:
            turn = hub.turns, socket.checks
            try:
                found = await hub.requests.run(
                    run_in, socket.identity.tenant, self._find_joins, dict(self.bindings(hub)), socket.identity
                )
            except ClientError as error:
                socket.close(FORBIDDEN, error.message)
                return
            except TenantError as error:
                logger.warning("A connection was refused: %s", error)
                socket.close(FORBIDDEN, "Not allowed.")
                return
            if turn == (hub.turns, socket.checks):
                break
        if found is None:
            socket.close(SESSION_OVER, "The session is over.")
            return
        joins, connection_groups = found
        join(hub, socket, joins)
        socket.join_rules = JoinRules(self.bindings, connection_groups)

    def _find_joins(
        self, bindings: Mapping[str, type[Binding]], identity: permissions.Identity
    ) -> tuple[list[Join], tuple[str, ...]] | None:
        """Return the groups to join, and the names from ``connection_groups``; ``None`` if the session is over."""
        user = permissions.load_current_user(identity)
        if user is None:
            return None
        # The socket is attached already. If the user is blocked after this query, the kick finds the socket.
        block = find_block(identity.user_pk, identity.tenant)
        if block is not None:
            raise ClientError("denied", f"Blocked until {block.until:%Y-%m-%d %H:%M} UTC. {block.reason}".strip())
        kwargs = self.scope.get("url_route", {}).get("kwargs", {})
        connection_groups = tuple(self.connection_groups(**kwargs))
        return find_joins(identity.narrow(bindings), user, connection_groups), connection_groups


#: Classes named by demultiplexers that are not in force and have been reported.
_reported: WeakSet[type[Binding]] = WeakSet()


class WebsocketDemultiplexer(BindingConsumer):
    """A consumer that serves only the bindings in ``consumers``, as ``{stream: SomeBinding.consumer}``."""

    consumers: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check that each key is the stream of its binding.

        Raises:
            ImproperlyConfigured: A value is not a consumer of a binding, or its stream differs from the key.
        """
        super().__init_subclass__(**kwargs)
        for stream, binding in cls.consumers.items():
            if not (isinstance(binding, type) and issubclass(binding, Binding)):
                raise ImproperlyConfigured(
                    f"{cls.__qualname__}.consumers[{stream!r}]: expected SomeBinding.consumer, got {binding!r}."
                )
            if binding.stream != stream:
                raise ImproperlyConfigured(
                    f"{cls.__qualname__}.consumers[{stream!r}]: {binding.__qualname__} has the stream "
                    f"{binding.stream!r}. The key must equal it: rename one of them."
                )

    def bindings(self, hub: RegistryHolder) -> Mapping[str, type[Binding]]:
        """Return the named bindings that are in force, by stream.

        Args:
            hub: The hub of the running loop.
        """
        by_stream = hub.registry.by_stream
        found = {stream: by_stream[stream] for stream in self.consumers if stream in by_stream}
        if len(found) < len(self.consumers):
            self._report_missing(hub)
        return found

    def _report_missing(self, hub: RegistryHolder) -> None:
        """Log each named class that no source of bindings has, once per process."""
        for stream, binding in self.consumers.items():
            if binding not in _reported and hub.registry.entry(stream) is None:
                _reported.add(binding)
                logger.error(
                    "%s.consumers names %s.%s, which is not in force: requests for stream %r are refused, and nothing "
                    "is sent. Define the class at the top of bindings.py of an installed app.",
                    type(self).__qualname__,
                    binding.__module__,
                    binding.__qualname__,
                    stream,
                )


class _UnderWay:
    """The requests of one socket that are being served. Each object lives no longer than they do."""

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(settings.MAX_IN_FLIGHT)
        self.last: dict[str, asyncio.Task[None]] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def add(self, stream: str, task: asyncio.Task[None]) -> None:
        """Add a request that was started, after all earlier ones on its stream."""
        self.last[stream] = task
        self.tasks.add(task)

    def done(self, task: asyncio.Task[None]) -> None:
        """Remove a request."""
        self.free.release()
        self.tasks.discard(task)
        for stream, last in list(self.last.items()):
            if last is task:
                del self.last[stream]


class _Conversation:
    """The requests of one socket and their replies: in order within a stream, concurrent between streams."""

    __slots__ = ("_rate", "_reading", "_receive", "_scope", "_under_way", "client", "consumer", "hub", "socket")

    def __init__(
        self,
        consumer: BindingConsumer,
        hub: LiveHub,
        socket: Socket,
        client: Client,
        receive: Receive,
        scope: Mapping[str, Any],
    ) -> None:
        self.consumer, self.hub, self.socket, self.client = consumer, hub, socket, client
        self._receive, self._scope = receive, scope
        self._rate = RateLimit(settings.MESSAGES_PER_SECOND, settings.MESSAGE_BURST, time.monotonic())
        self._under_way: _UnderWay | None = None
        #: The timeout that ends reading; ``None`` while the socket is not read.
        self._reading: asyncio.Timeout | None = None

    async def run(self) -> None:
        """Read until the client leaves or the server closes the socket."""
        socket = self.socket
        try:
            # The timeout has no time. It expires when the socket is closed, so reading needs no task of its own.
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
            # Accepted requests are carried out: a write does not stop half-way because its client has left.
            if self._under_way is not None and self._under_way.tasks:
                await asyncio.wait(self._under_way.tasks)

    def _stop_reading(self, _: object) -> None:
        # The loop calls this shortly after the socket was closed. The client may have left in between, and a timeout
        # that is over cannot be rescheduled.
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
            under_way = self._under_way = _UnderWay()
        await under_way.free.acquire()
        # The predecessor may have been removed with its last request while this one waited.
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
    ) -> tuple[frames.Request, list[str], Any]:
        if not identity.covers(envelope.stream):
            raise ClientError("denied", subscriptions.NOT_COVERED)
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
        ref: Any,
        action: str,
        error: ClientError,
        kind: str = Traffic.REFUSED,
        payload: Mapping[str, Any] = NO_SCOPE,
    ) -> None:
        # The shape is computed only if the row is kept. In a flood, most rows are not.
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


def describe_failure(error: Exception) -> str:
    """Return the text of a failed handshake for the log. A timeout has no text of its own.

    Args:
        error: The exception of the handshake.
    """
    return str(error) or f"no answer within HANDSHAKE_SECONDS ({settings.HANDSHAKE_SECONDS:g})"


async def turn_away(
    scope: Mapping[str, Any], send: Send, code: int = TRY_AGAIN_LATER, reason: str = "The server is not ready."
) -> None:
    """Close a connection in its handshake. By default the client is asked to try again later.

    The socket is accepted first, because browsers hide the status of a refused handshake from the page.

    Args:
        scope: The ASGI scope of the connection.
        send: Its ASGI ``send``.
        code: The close code.
        reason: The reason of the close frame.
    """
    await send({"type": "websocket.accept", "subprotocol": choose_subprotocol(scope)})
    await send_close(send, code, reason)


def read_envelope(text: str | None) -> frames.Envelope:
    """Parse a message within the limits of the settings.

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
    course.enter("binding")
    binding = bindings.get(envelope.stream)
    if binding is None:
        raise ClientError("unknown_stream", f"There is no stream {envelope.stream!r:.80}.")
    course.enter("request")
    return binding, frames.parse_request(envelope)
