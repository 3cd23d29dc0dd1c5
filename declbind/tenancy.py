"""Tenants: the tenant of a database connection, and the tenant whose events a socket is sent.

``DECLBIND["TENANT"]`` names a class that determines them (see :class:`Tenancy`). Without it there is one tenant with an
empty name, and this module has no effect.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, Protocol, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, models
from django.utils.module_loading import import_string

from declbind.asgi_types import Scope
from declbind.conf import settings
from declbind.registry import database_alias

logger = logging.getLogger("declbind")

P = ParamSpec("P")
T = TypeVar("T")

#: The tenant of an event for the subscribers of all tenants.
EVERYBODY = ""
#: The longest name of a tenant, which is the limit for schemas in PostgreSQL.
MAX_LENGTH = 63
#: The scope key in which an authentication middleware stores the tenant in which it has loaded the user.
SCOPE_KEY = "declbind.tenant"
#: The required methods of the class, and the two optional ones.
METHODS = ("of_connection", "of_scope", "activate")
OPTIONAL_METHODS = ("is_shared", "sees_all")


class Tenancy(Protocol):
    """The interface of the class that ``DECLBIND["TENANT"]`` names. It is instantiated once, without arguments.

    A class may also have:

    - ``is_shared(model) -> bool``: whether the rows of a model are the same for all tenants. By default, none are.
    - ``sees_all(tenant) -> bool``: whether operators in the admin of this tenant see all tenants, and may edit
      bindings, which all tenants share. By default, no operator does.
    """

    def of_connection(self, alias: str) -> str:
        """Return the tenant that a database connection reads and writes now; ``""`` if it belongs to none."""

    def of_scope(self, scope: Scope) -> str:
        """Return the tenant of an ASGI scope; ``""`` to refuse it. Called in a thread, and may query."""

    def activate(self, tenant: str) -> AbstractContextManager[object]:
        """Switch this thread's connections to a tenant inside the block, and restore them afterwards."""


class TenantError(Exception):
    """A tenant that is unknown, cannot be determined, or could not be activated."""


def is_on() -> bool:
    """Return whether the site has tenants that declbind separates."""
    return settings.TENANT is not None


def get_tenancy() -> Tenancy | None:
    """Return the object of ``DECLBIND["TENANT"]``, or ``None``.

    Raises:
        ImproperlyConfigured: The setting does not name a class with the required methods.
    """
    path = settings.TENANT
    return None if path is None else _load(path)


@functools.lru_cache(maxsize=8)
def _load(path: str) -> Tenancy:
    try:
        found: Any = import_string(path)
    except (ImportError, TypeError, AttributeError) as error:
        raise ImproperlyConfigured(
            f'DECLBIND["TENANT"]: expected the dotted path of a class, got {path!r}: {error}'
        ) from error
    missing = [name for name in METHODS if not callable(getattr(found, name, None))]
    if missing or not isinstance(found, type):
        wanted = ", ".join(f"{name}()" for name in missing or METHODS)
        raise ImproperlyConfigured(f'DECLBIND["TENANT"]: expected a class with {wanted}, got {path!r} without them.')
    made: Tenancy = found()
    return made


def of_connection(using: str) -> str:
    """Return the tenant of a connection; ``""`` without tenants.

    Raises:
        TenantError: The tenant is not known.
    """
    tenancy = get_tenancy()
    if tenancy is None:
        return ""
    try:
        found = tenancy.of_connection(using)
    except Exception as error:
        raise TenantError(f"of_connection({using!r}) failed: {error!r}") from error
    return _checked(found, f"of_connection({using!r})")


def of_scope(scope: Scope) -> str:
    """Return the tenant of a scope; ``""`` without tenants.

    Raises:
        TenantError: The scope belongs to no tenant.
    """
    tenancy = get_tenancy()
    if tenancy is None:
        return ""
    # Only the server and the project's own middleware can write keys of a scope.
    named = scope.get(SCOPE_KEY)
    return _checked(tenancy.of_scope(scope) if named is None else named, "of_scope()")


def _checked(found: object, source: str) -> str:
    if not (isinstance(found, str) and 0 < len(found) <= MAX_LENGTH):
        raise TenantError(f"{source}: expected the name of a tenant, 1 to {MAX_LENGTH} characters, got {found!r:.100}.")
    return found


@contextlib.contextmanager
def activate(tenant: str) -> Iterator[None]:
    """Switch the connections of this thread to a tenant inside the block, and back after it.

    Without tenants it does nothing. It checks that the connection to the log is in the tenant, and afterwards that it
    is back in the previous one. If it is not, the connection is closed and dropped.

    Raises:
        TenantError: The name is empty, or the connection is in another tenant after it was activated.
    """
    tenancy = get_tenancy()
    if tenancy is None:
        yield
        return
    if not tenant:
        raise TenantError('A site with DECLBIND["TENANT"] expected the name of a tenant, got none.')
    alias = database_alias()
    before = _name(tenancy, alias)
    try:
        with tenancy.activate(tenant):
            if (found := _name(tenancy, alias)) != tenant:
                raise TenantError(f"activate({tenant!r}): the connection is in {found!r} afterwards.")
            yield
    finally:
        if (after := _name(tenancy, alias)) != before:
            logger.error("activate(%r) left the connection in %r instead of %r.", tenant, after, before)
            if not connections[alias].in_atomic_block:
                connections[alias].close()
                # The next use opens a new connection in its initial state.
                del connections[alias]


def _name(tenancy: Tenancy, alias: str) -> object:
    try:
        return tenancy.of_connection(alias)
    except Exception as error:  # The error is reported when an event needs the name.
        return error.__class__


def run_in(tenant: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function inside ``activate``. For calls that are passed to another thread."""
    with activate(tenant):
        return function(*args, **kwargs)


def is_shared(model: type[models.Model]) -> bool:
    """Return whether the class declares that the rows of a model are the same for all tenants."""
    decide: Any = getattr(get_tenancy(), "is_shared", None)
    return decide is not None and bool(decide(model._meta.concrete_model or model))


def may_be_shared(model: type[models.Model]) -> bool:
    """Return whether the rows of a model may be the same for all tenants, as far as the class does not deny it."""
    return getattr(get_tenancy(), "is_shared", None) is None or is_shared(model)


def sees_all(tenant: str) -> bool:
    """Return whether operators in the admin of a tenant see all tenants. On a site without tenants they do."""
    tenancy = get_tenancy()
    decide: Any = getattr(tenancy, "sees_all", None)
    return tenancy is None or (decide is not None and bool(tenant) and bool(decide(tenant)))


def is_operator_of_all() -> bool:
    """Return whether the operators of the present tenant of this thread's connection see all tenants."""
    if not is_on():
        return True
    try:
        return sees_all(of_connection(database_alias()))
    except TenantError:
        return False


def concerned(model: type[models.Model], using: str) -> str:
    """Return the tenants whose sockets are affected by a change of permissions in a row of a model.

    If they are not known, the result is all tenants, as events name them. An unnecessary check does no harm.
    """
    if not is_on() or may_be_shared(model):
        return EVERYBODY
    try:
        return of_connection(using)
    except TenantError:
        return EVERYBODY


def owner_key(model: type[models.Model], key: str, using: str) -> str:
    """Return the name of the owner of a user's saved object: the key, or a digest of tenant and key.

    Args:
        model: The user model.
    """
    tenant = concerned(model, using) if key else EVERYBODY
    return hashlib.sha256(json.dumps([tenant, key]).encode()).hexdigest() if tenant else key


def concerns(event_tenant: str, tenant: str) -> bool:
    """Return whether an event is for a tenant."""
    return event_tenant in (EVERYBODY, tenant)
