"""The ASGI consumers, which accept sockets and serve the bindings of the registry on them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from functools import update_wrapper
from typing import Any, ClassVar
from weakref import WeakSet

from asgiref.sync import markcoroutinefunction
from channels.consumer import AsyncConsumer
from django.core.exceptions import ImproperlyConfigured
from django.db import Error as DatabaseError

from declbind.asgi_types import NO_SCOPE, Receive, RoutedApplication, Scope, Send
from declbind.bindings import Binding
from declbind.conf import settings
from declbind.core import frames
from declbind.core.errors import ClientError
from declbind.inbound import permissions
from declbind.inbound.blocks import find_block
from declbind.models import Traffic
from declbind.tenancy import TenantError, run_in

from . import server_limits
from .admission import client_address
from .conversation import Conversation
from .fair_queue import Client, client_of, working_for
from .handshake import TURNED_AWAY, admit, choose_subprotocol, describe_failure, find_hub, without_cookies
from .hub import LiveHub
from .join_rules import JoinRules, RegistryHolder
from .joining import Join, find_joins, join
from .reading import read_in_portions
from .sending import pace, without_session
from .socket import FORBIDDEN, RESTART, RESTARTING, SESSION_OVER, TRY_AGAIN_LATER, Socket
from .traffic import describe_end

logger = logging.getLogger("declbind")


class BindingConsumer(AsyncConsumer):
    """A consumer that serves every enabled binding of the registry on one WebSocket.

    It reads messages itself instead of using ``AsyncConsumer.dispatch``, which takes a thread for each message and a
    channel for each socket. One instance serves one connection.
    """

    @classmethod
    def as_asgi(cls, **initkwargs: object) -> RoutedApplication:
        """Return an ASGI application that makes an instance for each connection.

        This replaces Channels' own method, whose coroutine would keep the scope in memory as long as the socket is
        open. For type checkers, the result can also be called as a view, which never returns: Channels' routers read
        it from Django's ``path``, which is typed for views.

        Args:
            **initkwargs: Passed to the class for each connection.
        """

        @markcoroutinefunction
        def application(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            connection = cls(**initkwargs)(scope, receive, send)
            # A timeout must be able to cancel the task, and the task objects of granian's own scheduler have no
            # ``cancel()``.
            task = asyncio.current_task()
            can_be_cancelled = task is not None and type(task).cancel is asyncio.Task.cancel
            return connection if can_be_cancelled else asyncio.create_task(connection)

        routed: Any = application
        routed.consumer_class = cls
        routed.consumer_initkwargs = initkwargs
        update_wrapper(routed, cls, updated=())
        made: RoutedApplication = routed
        return made

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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
        address = client_address(scope)
        deadline = asyncio.get_running_loop().time() + settings.HANDSHAKE_SECONDS
        hub = await find_hub(scope, send, deadline)
        if hub is None:
            return
        admitted = await admit(hub, scope, send, address, hex(id(self)), deadline)
        if admitted is None:
            return
        identity, self.scope = admitted
        del admitted
        subprotocol = choose_subprotocol(scope)
        socket = Socket(identity, send, hub.joiner if subprotocol == frames.BATCH_PROTOCOL else None)
        client = client_of(identity.account, address, identity.connection_id)
        paced = None
        _attach(hub, socket, send)
        try:
            await self._join_before(deadline, hub, socket, client)
            await send({"type": "websocket.accept", "subprotocol": subprotocol})
            hub.connection_log.opened(socket, scope)
            # The scope takes a thousand bytes, so it is not kept while the socket is open. Only project code that reads
            # tokens needs it later.
            kept = NO_SCOPE if settings.AUTHENTICATE is None else without_cookies(scope)
            self.scope = scope = NO_SCOPE
            # This must follow the handshake, which has to pass the session wrapper and the HTTP channel.
            short = without_session(send)
            paced = pace(short)
            socket.open(paced or short, hub.inline)
            hub.note(socket, Traffic.CONNECTION, outcome="connected")
            await Conversation(self, hub, socket, client, receive, kept).run()
        finally:
            # Requests may still be running when the server cancels the connection. Their results must not be sent.
            socket.close(1000)
            if paced is not None:
                paced.release()
            _detach(hub, socket, address)

    def bindings(self, hub: RegistryHolder) -> Mapping[str, type[Binding]]:
        """Return the bindings that this socket may use, by stream.

        Args:
            hub: The hub of the running loop.
        """
        return hub.registry.by_stream

    def connection_groups(self, **kwargs: object) -> list[str]:
        """Return the names of groups that each connection joins, in all streams that it serves.

        Override it to grant groups regardless of ``view``. It is called once for each connection.

        Args:
            **kwargs: The arguments of the URL.
        """
        return []

    async def _join_before(self, deadline: float, hub: LiveHub, socket: Socket, client: Client) -> None:
        """Join groups before ``deadline``, the end of the handshake. If the database fails, close the socket."""
        try:
            async with asyncio.timeout_at(deadline):
                with working_for(client):
                    await self._join(hub, socket)
        except (DatabaseError, TimeoutError) as error:
            logger.warning(TURNED_AWAY, describe_failure(error))
            socket.close(TRY_AGAIN_LATER, "The database failed.")

    async def _join(self, hub: LiveHub, socket: Socket) -> None:
        """Subscribe the socket to the groups that it joins automatically. Close it if its user may not be connected."""
        while True:
            state = hub.renewals, socket.checks
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
            if state == (hub.renewals, socket.checks):
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
        """Return the groups to join, and the names from ``connection_groups``; ``None`` if the session has ended."""
        user = permissions.load_current_user(identity)
        if user is None:
            return None
        # The hub already knows the socket, so blocking the user after this query closes it.
        block = find_block(identity.user_pk, identity.tenant)
        if block is not None:
            raise ClientError("denied", f"Blocked until {block.until:%Y-%m-%d %H:%M} UTC. {block.reason}".strip())
        kwargs = self.scope.get("url_route", {}).get("kwargs", {})
        connection_groups = tuple(self.connection_groups(**kwargs))
        return find_joins(identity.narrow(bindings), user, connection_groups), connection_groups


def _attach(hub: LiveHub, socket: Socket, send: Send) -> None:
    """Add a socket to the hub, or close it if the process is shutting down."""
    hub.core.attach(socket.connection)
    hub.expiry.watch(socket)
    hub.drain.watch_server(without_session(send))
    if hub.drain.is_moving:
        socket.close(RESTART, RESTARTING)


def _detach(hub: LiveHub, socket: Socket, address: str) -> None:
    """Remove a closed socket from the hub."""
    hub.connection_log.closed(socket, hub.core.cursor)
    hub.core.detach(socket.connection)
    hub.expiry.forget(socket)
    hub.admission.leave(socket.identity.account, address)
    hub.drain.socket_ended()
    hub.note(socket, Traffic.CONNECTION, **describe_end(*socket.closed.result()))


#: Binding classes that a demultiplexer names, that are not in force, and that have been reported.
_reported: WeakSet[type[Binding]] = WeakSet()


class WebsocketDemultiplexer(BindingConsumer):
    """A consumer that serves only the bindings in ``consumers``, as ``{stream: SomeBinding.consumer}``."""

    consumers: ClassVar[Mapping[str, type[Binding]]] = {}

    def __init_subclass__(cls, **kwargs: object) -> None:
        """Check that each key is the stream of its binding.

        Raises:
            ImproperlyConfigured: A value is not a consumer of a binding, or its stream differs from the key.
        """
        super().__init_subclass__(**kwargs)
        declared: Mapping[str, object] = cls.consumers
        for stream, binding in declared.items():
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
        """Log each named class that no source of bindings contains, once per process."""
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
