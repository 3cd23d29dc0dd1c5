"""Tokens that authenticate clients without a cookie.

A token is a text such as ``db1-PAYLOAD.SIGNATURE``, signed with ``SECRET_KEY``. It contains the primary key of a user,
the time at which it ends, the streams that it is for, and a digest of the user's session auth hash, so a change of the
password ends it. Its characters are valid in an HTTP header and in the name of a WebSocket subprotocol.

The signature proves that this project has issued the token. Whether the user still exists and may connect is checked at
each use, by ``declbind.inbound.authentication``.
"""

from __future__ import annotations

import hmac
import json
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from django.contrib.auth import get_user_model
from django.core.signing import BadSignature, Signer, b64_decode, b64_encode

from declbind import tenancy
from declbind.django_types import Key, User
from declbind.registry import database_alias, get_registry

#: The prefix of tokens of this module. No JSON Web Token begins with it, because those begin with an encoded object.
PREFIX: Final = "db1-"
#: The longest token that is read, in characters. Servers accept headers of about this length.
MAX_LENGTH: Final = 8_192
_SALT: Final = "declbind.token"
#: Bytes of the digest of a session auth hash.
_DIGEST_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Claims:
    """The content of a token.

    Attributes:
        expires_at: Seconds since the epoch.
        digest: The digest of the user's session auth hash (see ``auth_digest``).
        streams: The only streams that the token is for, or ``None`` for all.
        tenant: The tenant that the user belongs to; "" if all tenants share their users, or there are none.
    """

    user_pk: str
    expires_at: float
    digest: str
    streams: frozenset[str] | None
    tenant: str = ""


class InvalidTokenError(Exception):
    """A token that does not authenticate anyone. The text gives the reason and never contains the token."""


def issue(user: User, *, streams: Iterable[str] | None = None, lifetime: float = 300) -> str:
    """Return a token with which a client can connect as a user.

    The holder of a token has the permissions of the user until it ends. Send it in the body of a response to that user
    only, and never put it in a URL.

    Args:
        user: An active, saved instance of the user model.
        streams: The names of the only streams that the token is for. ``None`` stands for all streams.
        lifetime: Seconds until the token ends.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The user cannot connect, a stream does not exist, or the lifetime is not above 0.
        TenantError: Each tenant has its own users, and the tenant of the connection is not known.
    """
    _check_user(user)
    if isinstance(lifetime, bool) or not isinstance(lifetime, int | float):
        raise TypeError(f"issue() expected a lifetime in seconds, got {lifetime!r}.")
    if not (math.isfinite(lifetime) and lifetime > 0):
        raise ValueError(f"issue() expected a lifetime above 0 seconds, got {lifetime!r}.")
    names = None if streams is None else _check_streams(streams)
    expires_at = round(time.time() + lifetime, 3)
    claims = [str(user.pk), expires_at, auth_digest(user), names, *filter(None, [tenant_of_users()])]
    content = json.dumps(claims, separators=(",", ":"))
    text = _signer().sign(PREFIX + b64_encode(content.encode()).decode())
    if len(text) > MAX_LENGTH:
        raise ValueError(
            f"issue() expected streams that fit into a token of {MAX_LENGTH} characters, got {len(names or ())} names. "
            "Issue a token for all streams, or several tokens."
        )
    return text


def read(token: str) -> Claims:
    """Return the content of a token of this project. Makes no query.

    Raises:
        InvalidTokenError: The token was not issued by this project, was changed, or has ended.
    """
    try:
        signed = _signer().unsign(token)
    except BadSignature:
        raise InvalidTokenError(
            "Expected a token that was issued with this project's SECRET_KEY, got another signature."
        ) from None
    user_pk, expires_at, digest, streams, *rest = json.loads(b64_decode(signed.removeprefix(PREFIX).encode()))
    if expires_at <= time.time():
        raise InvalidTokenError("Expected a token that has not ended.")
    return Claims(user_pk, expires_at, digest, None if streams is None else frozenset(streams), *rest)


def tenant_of_users() -> str:
    """Return the tenant whose users this thread's connection reads; "" if all tenants share their users."""
    if not tenancy.is_on() or tenancy.is_shared(get_user_model()):
        return ""
    return tenancy.of_connection(database_alias())


def is_own(token: str) -> bool:
    """Return whether a text looks like a token of this module. It may be forged."""
    return token.startswith(PREFIX)


def auth_digest(user: User) -> str:
    """Return a digest that changes with the user's password; empty if the user model has no session auth hash."""
    return _digest(user.get_session_auth_hash()) if hasattr(user, "get_session_auth_hash") else ""


def digest_holds(digest: str, user: User) -> bool:
    """Return whether a digest matches a user, under ``SECRET_KEY`` or one of ``SECRET_KEY_FALLBACKS``."""
    if hmac.compare_digest(digest, auth_digest(user)):
        return True
    fallbacks = user.get_session_auth_fallback_hash() if hasattr(user, "get_session_auth_fallback_hash") else ()
    return any(hmac.compare_digest(digest, _digest(earlier)) for earlier in fallbacks)


def _digest(session_hash: str) -> str:
    # The holder of a token can read the payload, and the hash itself is part of a valid session.
    made = hmac.digest(session_hash.encode(), _SALT.encode(), sha256)[:_DIGEST_BYTES]
    return b64_encode(made).decode()


def _signer() -> Signer:
    return Signer(sep=".", salt=_SALT)


def _check_user(user: User) -> None:
    model = get_user_model()
    if not isinstance(user, model):
        raise TypeError(
            f"issue() expected a user of the model {model._meta.label}, got {user!r}. Anonymous clients need no token."
        )
    key: Key = user.pk
    if key is None or user._state.adding:
        raise ValueError(f"issue() expected a saved user, got {user!r}. Call its save() first.")
    if not getattr(user, "is_active", True):
        raise ValueError(f"issue() expected an active user, got {user!r}, who may not log in.")


def _check_streams(streams: Iterable[str]) -> list[str]:
    if isinstance(streams, str):
        raise TypeError(f"issue() expected a list of streams, got {streams!r}. Write [{streams!r}].")
    names = sorted(set(streams))
    if not names:
        raise ValueError("issue() expected at least one stream, got none. None stands for all streams.")
    known = get_registry().by_stream
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"issue() expected streams that are in force, got {', '.join(map(repr, unknown))}. "
            f"In force are: {', '.join(sorted(known)) or 'none'}."
        )
    return names
