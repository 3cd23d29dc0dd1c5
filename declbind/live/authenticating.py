"""The ``authenticate`` request: an anonymous socket gets a user, or a token is replaced by a newer one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from declbind.asgi_types import Scope
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

#: The error for a request whose socket was closed in the meantime. Clients rarely receive it.
_OVER = ClientError("denied", "The session is over.")


async def renew(hub: LiveHub, socket: Socket, envelope: frames.Envelope, scope: Scope) -> int | None:
    """Authenticate a socket by the token of a request.

    Subscriptions stay and are checked again. If the request is refused, nothing changes.

    Returns:
        The seconds until the token ends, ``None`` if it never does.

    Raises:
        ClientError: The token is not valid, or it belongs to another user.
        TimeoutError: Authentication took too long.
    """
    token = frames.parse_token(envelope)
    try:
        # Limit the time, because the socket is not read meanwhile and project code may wait for another server.
        async with asyncio.timeout(settings.HANDSHAKE_SECONDS):
            identity = await authenticate(hub.requests.run, token, _in_same_tenant(socket, scope), socket.id)
    except (InvalidTokenError, TenantError) as error:
        raise ClientError("denied", REFUSAL) from error
    if await hub.requests.run(find_block, identity.user_pk, identity.tenant):
        raise ClientError("denied", "The user is blocked.")
    _become(hub, socket, identity)
    try:
        await hub.revalidate([socket])
        # If the user was blocked after the first check, the socket was not closed, because it did not belong to the
        # user yet.
        if await hub.requests.run(find_block, identity.user_pk, identity.tenant):
            socket.close(FORBIDDEN, "Blocked by an operator.")
        await join_again(hub, socket)
    except BaseException:
        # The subscriptions of the socket have not been checked.
        socket.close(TRY_AGAIN_LATER, "The database failed.")
        raise
    return None if identity.term is None else round(identity.term.seconds_left())


def _in_same_tenant(socket: Socket, scope: Scope) -> Mapping[str, object]:
    """Return a scope in which a token is authenticated in the socket's tenant. A socket never changes its tenant."""
    tenant = socket.identity.tenant
    return {**scope, SCOPE_KEY: tenant} if tenant else scope


def _become(hub: LiveHub, socket: Socket, identity: Identity) -> None:
    """Give a socket its new identity, if it is allowed now. There is no wait between the check and the change."""
    if socket.is_over():
        raise _OVER
    before = socket.identity.user_pk
    if before not in (None, identity.user_pk):
        raise ClientError("denied", "Expected a token of the same user. Open another connection for another user.")
    # The socket already counts for its address.
    if before is None and not hub.admission.enter(identity.account, ""):
        raise ClientError("denied", "The user has too many connections.")
    socket.become(identity)
    hub.expiry.watch(socket)
    hub.connection_log.changed(socket)
    for subscription in list(socket.subscriptions.values()):
        if not identity.covers(subscription.stream):
            hub.end(subscription, "permission")
