"""The request ``authenticate``: an anonymous socket becomes a user's, or a token is replaced by a newer one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from declbind.conf import settings
from declbind.core import frames
from declbind.core.errors import ClientError
from declbind.inbound.authentication import REFUSAL, authenticate
from declbind.inbound.blocks import find_block
from declbind.inbound.permissions import Identity
from declbind.tenancy import SCOPE_KEY, TenantError
from declbind.tokens import InvalidTokenError

from .joining import join_again
from .socket import FORBIDDEN, TRY_AGAIN_LATER, Socket

if TYPE_CHECKING:
    from .hub import LiveHub

#: What a client is told whose socket has ended meanwhile; most often nobody reads it.
_OVER = ClientError("denied", "The session is over.")


async def renew(hub: LiveHub, socket: Socket, envelope: frames.Envelope, scope: Mapping[str, Any]) -> int | None:
    """Let a socket go on by the token of a request; return the seconds until that ends, ``None`` if it never does.

    Subscriptions stay and are judged again. Nothing changes if the request is refused.

    Raises:
        ClientError: The token is not valid, or it is one of another user.
        TimeoutError: Nobody said in time who it is.
    """
    token = frames.parse_token(envelope)
    try:
        # Nothing is read meanwhile, and code of the project may wait for another server.
        async with asyncio.timeout(settings.HANDSHAKE_SECONDS):
            identity = await authenticate(hub.requests.run, token, _in_same_tenant(socket, scope), socket.id)
    except (InvalidTokenError, TenantError) as error:
        raise ClientError("denied", REFUSAL) from error
    if await hub.requests.run(find_block, identity.user_pk, identity.tenant):
        raise ClientError("denied", "The user is blocked.")
    _become(hub, socket, identity)
    try:
        await hub.revalidate([socket])
        # A block that was made after the first look may have found the socket before it was the user's.
        if await hub.requests.run(find_block, identity.user_pk, identity.tenant):
            socket.close(FORBIDDEN, "Blocked by an operator.")
        await join_again(hub, socket)
    except BaseException:
        # What the socket is subscribed to has not been judged.
        socket.close(TRY_AGAIN_LATER, "The database failed.")
        raise
    return None if identity.term is None else round(identity.term.seconds_left())


def _in_same_tenant(socket: Socket, scope: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a scope by which a token is looked for in the tenant of its socket, which stays the same."""
    tenant = socket.identity.tenant
    return {**scope, SCOPE_KEY: tenant} if tenant else scope


def _become(hub: LiveHub, socket: Socket, identity: Identity) -> None:
    """Give a socket its new identity, if that is allowed now. There is no step of the event loop in between."""
    if socket.is_over():
        raise _OVER
    before = socket.identity.user_pk
    if before not in (None, identity.user_pk):
        raise ClientError("denied", "Expected a token of the same user. Open another connection for another user.")
    # The address has been counted already.
    if before is None and not hub.admission.enter(identity.account, ""):
        raise ClientError("denied", "The user has too many connections.")
    socket.become(identity)
    hub.expiry.watch(socket)
    hub.connection_log.changed(socket)
    for subscription in list(socket.subscriptions.values()):
        if not identity.covers(subscription.stream):
            hub.end(subscription, "permission")
