"""The handshake of a socket: its identity and its subprotocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from declbind.core.frames import BATCH_PROTOCOL, PLAIN_PROTOCOL
from declbind.inbound import permissions
from declbind.inbound.authentication import TOKEN_PROTOCOL, Run, authenticate, find_token
from declbind.tenancy import run_in
from declbind.tokens import InvalidTokenError

#: The keys of a scope that come from cookies. A connection with a token uses none of them.
_OF_COOKIES = ("cookies", "session", "user")


def has_token(scope: Mapping[str, Any]) -> bool:
    """Return whether a client has sent a token, valid or not. If it has, its cookies are ignored."""
    try:
        return find_token(scope) is not None
    except InvalidTokenError:
        return True


def choose_subprotocol(scope: Mapping[str, Any]) -> str | None:
    """Return the subprotocol with which a handshake is answered, ``None`` for none.

    A browser closes a connection if it has offered subprotocols and the server chooses none of them. If the client has
    offered no other known subprotocol, the token itself is therefore chosen.
    """
    offered = scope.get("subprotocols", ())
    for known in (BATCH_PROTOCOL, PLAIN_PROTOCOL):
        if known in offered:
            return known
    return next((protocol for protocol in offered if protocol.startswith(TOKEN_PROTOCOL)), None)


async def identify(run: Run, scope: Mapping[str, Any]) -> tuple[permissions.Identity, Mapping[str, Any]]:
    """Return the identity of a client, and its scope. If the client has sent a token, the scope has no cookies.

    Args:
        run: Calls a function with arguments in a thread that may use the database.

    Raises:
        InvalidTokenError: The token does not authenticate anyone.
        TenantError: The connection belongs to no tenant.
        DatabaseError: The user could not be loaded.
    """
    token = find_token(scope)
    if token is None:
        return await run(permissions.identify, scope, ""), scope
    scope = without_cookies(scope)
    identity = await authenticate(run, token, scope)
    # Project code may read the user, as it does in connections with a session.
    return identity, {**scope, "user": await run(run_in, identity.tenant, permissions.load_user, identity)}


def without_cookies(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return a scope without the cookies and without the keys that middleware has derived from them."""
    headers = [(name, value) for name, value in scope.get("headers", ()) if name != b"cookie"]
    return {**{key: value for key, value in scope.items() if key not in _OF_COOKIES}, "headers": headers}
