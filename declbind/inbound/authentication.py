"""Authentication by token: where a connection's token is found, and which identity it proves.

A token is one of this project (``declbind.tokens``) or, with ``DECLBIND["JWT"]``, a JSON Web Token.
``DECLBIND["AUTHENTICATE"]`` names a callable of the project that replaces both. This module does not depend on sockets:
``find_token`` reads the headers of any ASGI scope, ``bearer_token`` those of an HTTP request, and ``authenticate_now``
can be called by a view.

No message that this module produces, for clients or for operators, contains a token.
"""

from __future__ import annotations

import inspect
import logging
import math
import secrets
import traceback
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import MAXYEAR, datetime
from typing import Any, Final

from asgiref.sync import async_to_sync, iscoroutinefunction
from django.contrib.auth import get_user_model
from django.utils import timezone
from django.utils.module_loading import import_string

from declbind import tenancy, tokens
from declbind.asgi_types import Scope
from declbind.conf import settings
from declbind.django_types import User
from declbind.tokens import InvalidTokenError

from . import web_tokens
from .permissions import Identity, find_active_user
from .terms import Term

logger = logging.getLogger("declbind")

#: The prefix of a subprotocol that carries a token.
TOKEN_PROTOCOL: Final = "declbind.token."
#: The error message for clients. Operators see the reason in the traffic.
REFUSAL: Final = "The token is not valid."
#: The end of the year 9999. A later expiry counts as none, because neither databases nor ``datetime`` can store it.
NEVER: Final = 253_402_300_800.0
_CALLABLE: Final = 'DECLBIND["AUTHENTICATE"]'

Run = Callable[..., Awaitable[Any]]


def find_token(scope: Scope) -> str | None:
    """Return the token of a connection, or ``None`` if it has none. A token may be empty.

    Raises:
        InvalidTokenError: The connection has several tokens that differ.
    """
    headers = (value.decode("latin-1") for name, value in scope.get("headers", ()) if name == b"authorization")
    protocols = (
        protocol.removeprefix(TOKEN_PROTOCOL)
        for protocol in scope.get("subprotocols", ())
        if protocol.startswith(TOKEN_PROTOCOL)
    )
    return _only({*_bearer_tokens(headers), *protocols})


def bearer_token(authorization: str | None) -> str | None:
    """Return the token in an ``Authorization`` header, or ``None`` if the header uses another scheme."""
    return _only(set(_bearer_tokens([authorization or ""])))


def _bearer_tokens(values: Iterable[str]) -> Iterable[str]:
    for value in values:
        scheme, _, rest = value.strip().partition(" ")
        # RFC 9110, section 11.1: the scheme's name is case-insensitive.
        if scheme.lower() == "bearer":
            yield rest.strip()


def _only(found: set[str]) -> str | None:
    if len(found) > 1:
        raise InvalidTokenError("Expected one token, got several that differ. Send it in one place only.")
    return next(iter(found), None)


async def authenticate(run: Run, token: str, scope: Scope, connection_id: str = "") -> Identity:
    """Return the identity that a token proves. For use in an event loop.

    Args:
        run: Calls a function with arguments in a thread that may use the database.
        token: The token.
        scope: The ASGI scope of the connection.
        connection_id: The id of the connection; if empty, a random one is used.

    Returns:
        The identity.

    Raises:
        InvalidTokenError: The token does not authenticate anyone.
        DatabaseError: The user could not be loaded.
        TenantError: The scope belongs to no tenant.
    """
    function = load_callable()
    if function is None or tenancy.is_on():
        # On a site with tenants, the callable must run in a thread in which its tenant is activated.
        identity: Identity = await run(authenticate_now, token, scope, connection_id)
        return identity
    _check_length(token)
    try:
        answer = function(token, scope) if is_async(function) else await run(function, token, scope)
        if inspect.isawaitable(answer):
            answer = await answer
    except Exception:
        raise _failed(token) from None
    admitted: Identity = await run(_admit, answer, connection_id)
    return admitted


def authenticate_now(token: str, scope: Scope, connection_id: str = "") -> Identity:
    """Return the identity that a token proves. Blocks on the database. Raises the same errors as ``authenticate``.

    The user belongs to the tenant of the scope, because the same key is another user in another tenant.
    """
    _check_length(token)
    tenant = tenancy.of_scope(scope)
    if tenant:
        scope = {**scope, tenancy.SCOPE_KEY: tenant}
    with tenancy.activate(tenant):
        return replace(_authenticate(token, scope, connection_id), tenant=tenant)


def _authenticate(token: str, scope: Scope, connection_id: str) -> Identity:
    function = load_callable()
    if function is not None:
        try:
            answer = async_to_sync(function)(token, scope) if is_async(function) else function(token, scope)
        except Exception:
            raise _failed(token) from None
        return _admit(answer, connection_id)
    if tokens.is_own(token):
        claims = tokens.read(token)
        if claims.tenant != tokens.tenant_of_users():
            raise InvalidTokenError("Expected a token of a user of this tenant.")
        user = find_active_user("pk", claims.user_pk)
        if user is not None and not tokens.digest_holds(claims.digest, user):
            raise InvalidTokenError("Expected a token that was issued after the last change of the user's password.")
        return _identity(user, claims.expires_at, connection_id, claims.digest, claims.streams)
    if settings.JWT is None:
        raise InvalidTokenError('Expected a token of declbind.tokens.issue(); DECLBIND["JWT"] is not set.')
    return _identity(*web_tokens.read(token), connection_id)


def load_callable() -> Callable[..., Any] | None:
    """Return the callable of ``DECLBIND["AUTHENTICATE"]``, or ``None`` if the setting is not used.

    Raises:
        InvalidTokenError: The callable cannot be imported, so no token is accepted.
    """
    path = settings.AUTHENTICATE
    if path is None:
        return None
    fault = find_fault(path)
    if fault is None:
        function: Callable[..., Any] = import_string(path)
        return function
    logger.error("%s is %r, %s. No token is accepted.", _CALLABLE, path, fault)
    raise InvalidTokenError(f"{_CALLABLE} is not usable; manage.py check says why.")


def find_fault(path: object) -> str | None:
    """Return the reason why a value of ``DECLBIND["AUTHENTICATE"]`` cannot be used, or ``None`` if it can."""
    if path is None:
        return None
    if not isinstance(path, str):
        return "which is not a string"
    try:
        return None if callable(import_string(path)) else "which is not callable"
    except Exception as error:  # The module may raise anything when it is imported.
        return f"which cannot be imported: {error}"


def is_async(function: Callable[..., object]) -> bool:
    """Return whether a callable is a coroutine function, or an object with such a ``__call__``."""
    return iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _check_length(token: str) -> None:
    if not 0 < len(token) <= tokens.MAX_LENGTH:
        raise InvalidTokenError(
            f"Expected a token of 1 to {tokens.MAX_LENGTH} characters, got one of {len(token)} characters."
        )


def _failed(token: str) -> InvalidTokenError:
    """Log the current exception, which may quote the token, and return the exception to raise instead."""
    logger.error("%s failed.\n%s", _CALLABLE, traceback.format_exc().replace(token, "[token]"))
    return InvalidTokenError(f"{_CALLABLE} failed; the log has the exception.")


def _admit(answer: Any, connection_id: str) -> Identity:
    """Return the identity for a return value of the project's callable."""
    if answer is None:
        raise InvalidTokenError(f"{_CALLABLE} did not accept the token.")
    try:
        user, end = answer
        expires_at = _seconds(end)
        # The key of another model's instance would be mistaken for a user's key.
        key = user.pk if user is not None and user.is_authenticated else None
        if key is not None and not isinstance(user, get_user_model()):
            raise TypeError
    except Exception as error:  # Properties of the project's objects may raise anything.
        name = type(error).__name__
        logger.error("%s: expected (user, expires_at) or None, got something else (%s).", _CALLABLE, name)
        raise InvalidTokenError(f"{_CALLABLE} returned neither (user, expires_at) nor None.") from None
    # The user is loaded again, because the callable may return an old instance of a user who was deactivated.
    stored = None if key is None else find_active_user("pk", key)
    return _identity(stored, expires_at, connection_id)


def _seconds(end: object) -> float | None:
    """Return a time as seconds since the epoch. Raises ``TypeError`` or ``ValueError`` for any other value."""
    if end is None:
        return None
    if isinstance(end, datetime):
        if end.year == MAXYEAR:
            return None
        return (timezone.make_aware(end) if timezone.is_naive(end) else end).timestamp()
    if isinstance(end, bool) or not isinstance(end, int | float):
        raise TypeError
    if math.isnan(end):
        raise ValueError
    return float(end)


def _identity(
    user: User | None,
    expires_at: float | None,
    connection_id: str,
    digest: str | None = None,
    streams: frozenset[str] | None = None,
) -> Identity:
    if user is None:
        raise InvalidTokenError("Expected a token of a user who exists and is active.")
    if expires_at is not None and expires_at >= NEVER:
        expires_at = None
    identity = Identity(
        user_pk=str(user.pk),
        # Two connections must never share an id.
        connection_id=connection_id or secrets.token_hex(8),
        username=str(user.get_username()) if hasattr(user, "get_username") else str(user.pk),
        auth_digest=tokens.auth_digest(user) if digest is None else digest,
        term=None if expires_at is None else Term.until(expires_at),
        streams=streams,
    )
    if identity.is_over():
        raise InvalidTokenError("Expected a token that has not ended.")
    return identity
