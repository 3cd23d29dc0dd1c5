"""Know who a connection belongs to, and whether it still does.

A socket outlives the request that opened it by hours. What is kept of its user is therefore no user object, which would
carry old permissions along, but an :class:`Identity`: enough to ask the database anew, each time.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ValidationError
from django.db import router
from django.utils.crypto import constant_time_compare


@dataclass(frozen=True, slots=True)
class Identity:
    """Who opened a connection, as of the moment it was opened.

    ``user_pk`` is the user's key as text, ``None`` for an anonymous one. The three session values are set only when
    this very session logged the user in; a user who came by a token has none. ``username`` is for people.
    """

    user_pk: str | None = None
    session_key: str | None = None
    session_hash: str | None = None
    backend: str | None = None
    connection_id: str = ""
    username: str = ""


def identify(scope: Mapping[str, Any], connection_id: str) -> Identity:
    """Return who a connection's scope says it belongs to; ``user`` and ``session`` may be missing there.

    Reads the session and the user, both lazy, so call it in a worker thread. An empty ``connection_id`` is replaced by
    a random one: two anonymous connections must never share it.
    """
    connection_id = connection_id or secrets.token_hex(8)
    user = scope.get("user")
    if user is None or not getattr(user, "is_authenticated", False) or getattr(user, "pk", None) is None:
        return Identity(connection_id=connection_id)
    user_pk = str(user.pk)
    username = str(user.get_username()) if hasattr(user, "get_username") else user_pk
    session = scope.get("session")
    if session is None or not session.session_key or session.get(SESSION_KEY) != user_pk:
        return Identity(user_pk=user_pk, connection_id=connection_id, username=username)
    return Identity(
        user_pk=user_pk,
        session_key=str(session.session_key),
        session_hash=session.get(HASH_SESSION_KEY),
        backend=session.get(BACKEND_SESSION_KEY),
        connection_id=connection_id,
        username=username,
    )


def load_user(identity: Identity) -> Any:
    """Return the user as the database has it now, without cached permissions; a lost one is an ``AnonymousUser``."""
    return _stored_user(identity) or AnonymousUser()


def load_current_user(identity: Identity) -> Any | None:
    """Return the user as the database has it now, ``None`` when the connection may not go on (see ``is_current``)."""
    if identity.user_pk is None:
        return AnonymousUser()
    user = _stored_user(identity)
    return user if user is not None and _session_holds(identity, user) else None


def is_current(identity: Identity) -> bool:
    """Tell whether a connection is still who it was.

    Not so when its user is gone or inactive, its session over, the user's password changed, or the login backend no
    longer in use. Anonymous connections always are; a user without a session is judged alone.
    """
    return load_current_user(identity) is not None


def session_digest(session_key: str | None) -> str:
    """Return what control events carry in place of a session's key, which opens the session to whoever reads it."""
    return hashlib.sha256(f"declbind.session:{session_key}".encode()).hexdigest() if session_key else ""


def _stored_user(identity: Identity) -> Any | None:
    if identity.user_pk is None:
        return None
    model = get_user_model()
    # Not a replica, which may not know yet what a control event just told.
    users = model._default_manager.using(router.db_for_write(model))
    try:
        user = users.get(pk=model._meta.pk.to_python(identity.user_pk))
    except (model.DoesNotExist, ValidationError, ValueError):
        return None
    return user if getattr(user, "is_active", True) else None


def _session_holds(identity: Identity, user: Any) -> bool:
    if identity.session_key is None:
        return True
    if identity.backend not in settings.AUTHENTICATION_BACKENDS:
        return False
    store = import_module(settings.SESSION_ENGINE).SessionStore(identity.session_key)
    # load() reads and nothing else: neither a missing nor an expired session is made anew.
    if store.load().get(SESSION_KEY) != identity.user_pk:
        return False
    return not hasattr(user, "get_session_auth_hash") or _hash_holds(identity.session_hash or "", user)


def _hash_holds(session_hash: str, user: Any) -> bool:
    if constant_time_compare(session_hash, user.get_session_auth_hash()):
        return True
    fallbacks = user.get_session_auth_fallback_hash() if hasattr(user, "get_session_auth_fallback_hash") else ()
    return any(constant_time_compare(session_hash, earlier) for earlier in fallbacks)
