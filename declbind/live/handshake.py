"""The handshake of a socket: whether it may connect, its identity, and its subprotocol."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from django.db import Error as DatabaseError

from declbind.asgi_types import Scope, Send
from declbind.conf import settings
from declbind.core.frames import BATCH_PROTOCOL, PLAIN_PROTOCOL
from declbind.english import as_english
from declbind.inbound import permissions
from declbind.inbound.authentication import REFUSAL, TOKEN_PROTOCOL, Run, authenticate, find_token
from declbind.models import Traffic
from declbind.outbound.memory_databases import describe_memory
from declbind.registry import database_alias
from declbind.tenancy import TenantError, run_in
from declbind.tokens import InvalidTokenError

from .fair_queue import client_of, working_for
from .hub import LiveHub, get_hub
from .origin import is_origin_allowed
from .sending import send_close
from .socket import FLOODING, FORBIDDEN, INTERNAL_ERROR, SESSION_OVER, TRY_AGAIN_LATER
from .traffic import describe_crowd, describe_origin, describe_stranger, describe_token

logger = logging.getLogger("declbind")

TURNED_AWAY = "A client was asked to try again later, because the database failed: %s"
#: The keys of a scope that come from cookies. A connection with a token uses none of them.
_OF_COOKIES = ("cookies", "session", "user")


def has_token(scope: Scope) -> bool:
    """Return whether a client has sent a token, valid or not. If so, its cookies are ignored."""
    try:
        return find_token(scope) is not None
    except InvalidTokenError:
        return True


def choose_subprotocol(scope: Scope) -> str | None:
    """Return the subprotocol with which a handshake is answered, ``None`` for none.

    A browser closes a connection if it has offered subprotocols and the server chooses none of them. If the client has
    offered no other known subprotocol, the token itself is therefore chosen.
    """
    offered = scope.get("subprotocols", ())
    for known in (BATCH_PROTOCOL, PLAIN_PROTOCOL):
        if known in offered:
            return known
    return next((protocol for protocol in offered if protocol.startswith(TOKEN_PROTOCOL)), None)


async def find_hub(scope: Scope, send: Send, deadline: float) -> LiveHub | None:
    """Return the hub that serves a connection, or ``None`` if the connection was refused.

    Args:
        scope: The ASGI scope of the connection.
        send: Its ASGI ``send``.
        deadline: The end of the handshake, in seconds of the event loop's clock.
    """
    # The origin matters only without a token, because a page of another site can make a browser send cookies only.
    if not has_token(scope) and not is_origin_allowed(scope):
        await send({"type": "websocket.close", "code": FORBIDDEN})
        # The hub has logged why it cannot start.
        with contextlib.suppress(Exception):
            (await get_hub()).note(None, Traffic.REFUSED, **describe_origin(scope))
        return None
    if text := describe_memory(database_alias()):
        logger.error("%s", as_english(text))
        await turn_away(scope, send, INTERNAL_ERROR, "The server has no database.")
        return None
    try:
        async with asyncio.timeout_at(deadline):
            return await get_hub()
    except Exception as error:
        # The hub logs only the failure of a start, not that it is still being retried.
        if isinstance(error, TimeoutError):
            logger.warning(TURNED_AWAY, describe_failure(error))
        await turn_away(scope, send)
        return None


async def admit(
    hub: LiveHub, scope: Scope, send: Send, address: str, socket_key: str, deadline: float
) -> tuple[permissions.Identity, Scope] | None:
    """Return the identity of a client and its scope, or ``None`` if the connection was refused.

    The connection counts for the limits of its user and its address until ``hub.admission.leave`` is called.

    Args:
        hub: The hub of the running loop.
        scope: The ASGI scope of the connection.
        send: Its ASGI ``send``.
        address: The address of the client; empty if it is unknown.
        socket_key: A name for the connection, which has no id yet.
        deadline: The end of the handshake, in seconds of the event loop's clock.
    """
    try:
        async with asyncio.timeout_at(deadline):
            with working_for(client_of(None, address, socket_key)):
                identity, known_scope = await identify(hub.requests.run, scope)
    except InvalidTokenError as error:
        hub.note(None, Traffic.REFUSED, **describe_token(error))
        await turn_away(scope, send, SESSION_OVER, REFUSAL)
        return None
    except (DatabaseError, TimeoutError) as error:
        logger.warning(TURNED_AWAY, describe_failure(error))
        await turn_away(scope, send)
        return None
    except TenantError as error:
        logger.warning("A connection was refused: %s", error)
        await send({"type": "websocket.close", "code": FORBIDDEN})
        hub.note(None, Traffic.REFUSED, **describe_stranger(error))
        return None
    if not hub.admission.enter(identity.account, address):
        hub.note(None, Traffic.REFUSED, **describe_crowd(identity))
        await turn_away(scope, send, FLOODING, "Too many connections.")
        return None
    return identity, known_scope


async def identify(run: Run, scope: Scope) -> tuple[permissions.Identity, Scope]:
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
    # Project code may expect the user in the scope, as in connections with a session.
    return identity, {**scope, "user": await run(run_in, identity.tenant, permissions.load_user, identity)}


def without_cookies(scope: Scope) -> Scope:
    """Return a scope without the cookies and without the keys that middleware has derived from them."""
    headers = [(name, value) for name, value in scope.get("headers", ()) if name != b"cookie"]
    return {**{key: value for key, value in scope.items() if key not in _OF_COOKIES}, "headers": headers}


def describe_failure(error: Exception) -> str:
    """Return the text of a failed handshake's exception, for the server's log. A timeout has no text of its own.

    Args:
        error: The exception of the handshake.
    """
    return str(error) or f"no answer within HANDSHAKE_SECONDS ({settings.HANDSHAKE_SECONDS:g})"


async def turn_away(
    scope: Scope, send: Send, code: int = TRY_AGAIN_LATER, reason: str = "The server is not ready."
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
