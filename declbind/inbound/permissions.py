"""The identity of a connection, and the check whether it is still valid.

A socket may stay open for hours after the request that opened it, and a user object would keep its cached permissions
for as long. A socket therefore keeps an :class:`Identity`, from which the user and the session can be loaded again at
any time.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import TypeVar

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import ValidationError
from django.db import DataError, models, router
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from declbind import tenancy
from declbind.asgi_types import Scope
from declbind.django_types import User
from declbind.tokens import digest_holds

from .terms import Term

logger = logging.getLogger("declbind")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Identity:
    """The user and session of a connection, as of the moment it was opened.

    ``user_pk`` is the user's primary key as text, or ``None`` for an anonymous user. The three session values are set
    only if this session logged the user in, so they are empty for a user who was authenticated by a token. ``username``
    is only displayed. ``tenant`` is the tenant of the connection; "" on a site without tenants.

    The last three values are set only if a token authenticated the user. They are the digest of the session auth hash,
    the term of the token (``None`` if it never expires), and the streams that it is limited to (``None`` for no limit).
    """

    user_pk: str | None = None
    session_key: str | None = None
    session_hash: str | None = None
    backend: str | None = None
    connection_id: str = ""
    username: str = ""
    auth_digest: str | None = None
    term: Term | None = None
    streams: frozenset[str] | None = None
    tenant: str = ""

    @property
    def has_token(self) -> bool:
        """Return whether a token, and not a session, authenticated the user."""
        return self.auth_digest is not None

    @property
    def credential(self) -> str:
        """The source of the authentication: "token", "session", "scope" (middleware of the project) or ""."""
        if self.user_pk is None:
            return ""
        if self.has_token:
            return "token"
        return "scope" if self.session_key is None else "session"

    def is_over(self) -> bool:
        """Return whether the token of this identity has ended."""
        return self.term is not None and self.term.is_over()

    def covers(self, stream: str) -> bool:
        """Return whether the token of this identity allows a stream."""
        return self.streams is None or stream in self.streams

    def narrow(self, bindings: Mapping[str, T]) -> Mapping[str, T]:
        """Return the bindings, by stream, that the token of this identity allows."""
        return bindings if self.streams is None else {s: each for s, each in bindings.items() if s in self.streams}

    @property
    def account(self) -> str | None:
        """The user's key, preceded by the tenant if there are tenants; ``None`` for an anonymous user."""
        return f"{self.tenant}\0{self.user_pk}" if self.tenant and self.user_pk is not None else self.user_pk


def identify(scope: Scope, connection_id: str) -> Identity:
    """Return the identity for a connection's scope, in which ``user`` and ``session`` may be missing.

    The user and the session are lazy and are loaded here, so call this in a worker thread. An empty ``connection_id``
    is replaced by a random one, because two anonymous connections must never share an id.

    Raises:
        TenantError: The scope belongs to no tenant, or its user was loaded outside the tenant, where the same key may
            belong to another user.
    """
    tenant = tenancy.of_scope(scope)
    with tenancy.activate(tenant):
        identity = dataclasses.replace(_identify(scope, connection_id), tenant=tenant)
        if tenancy.is_on() and not _is_of_tenant(identity, scope):
            raise tenancy.TenantError(
                f"The user of a connection of tenant {tenant!r} was loaded by a middleware that does not know the "
                "tenant. Use declbind.contrib.tenants.TenantAuthMiddlewareStack, or have your middleware load the user "
                f"inside activate() and set scope[{tenancy.SCOPE_KEY!r}] to the name of the tenant."
            )
        return identity


def _is_of_tenant(identity: Identity, scope: Scope) -> bool:
    """Return whether the user of a scope belongs to its tenant.

    A session proves this as well, because it is loaded again, in the tenant, before the connection is accepted.
    """
    if identity.user_pk is None or scope.get(tenancy.SCOPE_KEY) == identity.tenant:
        return True
    return tenancy.is_shared(get_user_model()) or bool(identity.session_key and identity.session_hash)


def _identify(scope: Scope, connection_id: str) -> Identity:
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


def load_user(identity: Identity) -> User:
    """Return the stored user without cached permissions, or an ``AnonymousUser`` if it no longer exists."""
    return _stored_user(identity) or AnonymousUser()


def load_current_user(identity: Identity) -> User | None:
    """Return the stored user, or ``None`` if the connection is no longer valid (see ``is_current``)."""
    if identity.user_pk is None:
        return AnonymousUser()
    user = _stored_user(identity)
    if user is None or not _session_holds(identity, user) or not _token_holds(identity, user):
        return None
    return user


def is_current(identity: Identity) -> bool:
    """Return whether the identity of a connection is still valid.

    It is not valid if the user was deleted or deactivated, the session or the token has ended, the password has
    changed, or the authentication backend is no longer in use. An anonymous identity is always valid. For a user
    without a session and without a token, only the user is checked.
    """
    return load_current_user(identity) is not None


def survives_logout(identity: Identity) -> bool:
    """Return whether the session of a connection is still valid after its user logged out of a session.

    A logout names the present key of the session. The session may have had another key when it opened the socket:
    ``signed_cookies`` computes a new key from the data at each write, and ``cycle_key()`` replaces it. Therefore each
    of the user's sessions is looked up, and sessions that the store does not contain have ended. A store that keeps
    nothing on the server cannot tell the sessions of a user apart, so all of them have ended.
    """
    if identity.session_key is None:
        return True
    store_class = session_store()
    if not keeps_sessions(store_class):
        return False
    try:
        if not store_class().exists(identity.session_key):
            return False
    except NotImplementedError:
        return False
    return bool(store_class(identity.session_key).load().get(SESSION_KEY) == identity.user_pk)


def session_store() -> type[SessionBase]:
    """Return the class ``SessionStore`` of ``SESSION_ENGINE``."""
    store: type[SessionBase] = import_module(settings.SESSION_ENGINE).SessionStore
    return store


def keeps_sessions(store_class: type) -> bool:
    """Return whether a session store keeps its sessions on the server, so that it can end a single session.

    Other stores, such as ``signed_cookies``, compute the key from the data. They override ``_get_session_key()``, which
    otherwise returns the key that the store was given. In a Django release without this method, all stores are treated
    as keeping nothing.
    """
    own, djangos = (getattr(found, "_get_session_key", None) for found in (store_class, SessionBase))
    return not issubclass(store_class, SessionBase) or (
        own is not None and own is djangos and store_class.session_key is SessionBase.session_key
    )


def reads_session_ends_together() -> bool:
    """Return whether one query can return the expiry of many sessions, because the store keeps them in the database."""
    return hasattr(session_store(), "get_model_class")


def load_session_ends(keys: Collection[str]) -> dict[str, datetime | None]:
    """Return when sessions expire: session key -> expiry, or ``None`` if the store does not know it.

    A session that is not stored expires now. If the store has an age and not a date, the session may expire earlier
    than returned here: stores in a cache count the age from the last write, and this function counts it from now.
    """
    store_class = session_store()
    if hasattr(store_class, "get_model_class"):
        model = store_class.get_model_class()
        rows = model._default_manager.using(router.db_for_write(model)).filter(session_key__in=keys)
        found: dict[str, datetime] = dict(rows.values_list("session_key", "expire_date"))
        return {key: _aware(found.get(key, timezone.now())) for key in keys}
    return {key: _read_session_end(store_class, key) for key in keys}


def _read_session_end(store_class: type[SessionBase], key: str) -> datetime | None:
    try:
        store = store_class(key)
        return _aware(store.get_expiry_date()) if store.load() else timezone.now()
    except Exception:  # A project's store may not know the expiry. The regular check then finds expired sessions.
        logger.debug("The session store %r does not report when a session ends.", store_class, exc_info=True)
        return None


def _aware(moment: datetime) -> datetime:
    return timezone.make_aware(moment) if timezone.is_naive(moment) else moment


def session_digest(session_key: str | None) -> str:
    """Return the digest that identifies a session in control events. The key itself would grant access."""
    return hashlib.sha256(f"declbind.session:{session_key}".encode()).hexdigest() if session_key else ""


def find_active_user(name: str, value: object) -> AbstractBaseUser | None:
    """Return the stored, active user whose field ``name`` has a value, or ``None``. The value may be of any type."""
    model = get_user_model()
    # Replicas are not used, because they may lag behind the control event that causes this check.
    users = model._default_manager.using(router.db_for_write(model))
    field = model._meta.pk if name == "pk" else model._meta.get_field(name)
    assert isinstance(field, models.Field)
    try:
        wanted = field.to_python(value)
        user = users.get(**{name: wanted})
    except (model.DoesNotExist, model.MultipleObjectsReturned):
        return None
    except (ValidationError, ValueError, TypeError, OverflowError, DataError):
        # No row can have this value in the column.
        return None
    # Some collations match "Ann" with "ANN", which may be different users of the issuer.
    is_equal = field.to_python(getattr(user, field.attname)) == wanted
    return user if is_equal and getattr(user, "is_active", True) else None


def _stored_user(identity: Identity) -> AbstractBaseUser | None:
    return None if identity.user_pk is None else find_active_user("pk", identity.user_pk)


def _session_holds(identity: Identity, user: AbstractBaseUser) -> bool:
    if identity.session_key is None:
        return True
    if identity.backend not in settings.AUTHENTICATION_BACKENDS:
        return False
    store = session_store()(identity.session_key)
    # get() would replace a missing session by a new one and store its key. load() does not.
    if store.load().get(SESSION_KEY) != identity.user_pk:
        return False
    return not hasattr(user, "get_session_auth_hash") or _hash_holds(identity.session_hash or "", user)


def _token_holds(identity: Identity, user: AbstractBaseUser) -> bool:
    # Check the expiry last, because the queries take time.
    return identity.auth_digest is None or (digest_holds(identity.auth_digest, user) and not identity.is_over())


def _hash_holds(session_hash: str, user: AbstractBaseUser) -> bool:
    if constant_time_compare(session_hash, user.get_session_auth_hash()):
        return True
    fallbacks = user.get_session_auth_fallback_hash() if hasattr(user, "get_session_auth_fallback_hash") else ()
    return any(constant_time_compare(session_hash, earlier) for earlier in fallbacks)
