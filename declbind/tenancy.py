"""Tenants: whose rows a database connection is in, and whose events a socket is sent.

``DECLBIND["TENANT"]`` names a class that tells them apart (see :class:`Tenancy`). Without it there is one tenant, whose
name is empty, and nothing here makes a difference.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, Protocol, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.module_loading import import_string

from declbind.conf import settings
from declbind.registry import database_alias

logger = logging.getLogger("declbind")

P = ParamSpec("P")
T = TypeVar("T")

#: As the tenant of an event: it is for the subscribers of all tenants.
EVERYBODY = ""
#: The longest name of a tenant, which is that of a schema of PostgreSQL.
MAX_LENGTH = 63
#: The key of a scope under which an authentication middleware says in which tenant it has loaded the user.
SCOPE_KEY = "declbind.tenant"
#: The methods that a class must have, and the two that it may have.
METHODS = ("of_connection", "of_scope", "activate")
OPTIONAL_METHODS = ("is_shared", "sees_all")


class Tenancy(Protocol):
    """The interface of the class that ``DECLBIND["TENANT"]`` names. It is made without arguments, once.

    A class may also have:

    - ``is_shared(model) -> bool``: whether the rows of a model are the same for all tenants. By default, none are.
    - ``sees_all(tenant) -> bool``: whether operators in the admin of this tenant see all tenants, and may edit
      bindings, which all tenants share. By default, nobody does.
    """

    def of_connection(self, alias: str) -> str:
        """Return the tenant whose rows a database connection reads and writes now; ``""`` if it is none's."""

    def of_scope(self, scope: Mapping[str, Any]) -> str:
        """Return the tenant of an ASGI scope; ``""`` to refuse it. Called in a thread, and may query."""

    def activate(self, tenant: str) -> AbstractContextManager[object]:
        """Have this thread's connections read and write the rows of a tenant inside the block, and restore them."""


class TenantError(Exception):
    """A tenant that cannot be told, is unknown, or could not be activated."""


def is_on() -> bool:
    """Return whether the site has tenants that declbind keeps apart."""
    return settings.TENANT is not None


def get_tenancy() -> Tenancy | None:
    """Return the object of ``DECLBIND["TENANT"]``, or ``None``; raises ``ImproperlyConfigured``."""
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
        raise ImproperlyConfigured(f'DECLBIND["TENANT"]: expected a class with {wanted}, got {path!r} without.')
    made: Tenancy = found()
    return made


def of_connection(using: str) -> str:
    """Return the tenant that a connection is in; ``""`` without tenants. Raises ``TenantError`` if it is not known."""
    tenancy = get_tenancy()
    if tenancy is None:
        return ""
    try:
        found = tenancy.of_connection(using)
    except Exception as error:
        raise TenantError(f"of_connection({using!r}) failed: {error!r}") from error
    return _checked(found, f"of_connection({using!r})")


def of_scope(scope: Mapping[str, Any]) -> str:
    """Return the tenant of a scope; ``""`` without tenants. Raises ``TenantError`` if there is none."""
    tenancy = get_tenancy()
    if tenancy is None:
        return ""
    # Nobody but the server and the project's own middleware writes keys of a scope.
    named = scope.get(SCOPE_KEY)
    return _checked(tenancy.of_scope(scope) if named is None else named, "of_scope()")


def _checked(found: object, source: str) -> str:
    if not (isinstance(found, str) and 0 < len(found) <= MAX_LENGTH):
        raise TenantError(f"{source}: expected the name of a tenant, 1 to {MAX_LENGTH} characters, got {found!r:.100}.")
    return found


@contextlib.contextmanager
def activate(tenant: str) -> Iterator[None]:
    """Have the connections of this thread be in a tenant inside the block, and as they were after it.

    Without tenants it does nothing. It checks that the connection to the log is in the tenant, and afterwards that it
    is back where it was: otherwise the connection is closed and forgotten.

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
                # The next use makes another one, in the state in which connections are made.
                del connections[alias]


def _name(tenancy: Tenancy, alias: str) -> object:
    try:
        return tenancy.of_connection(alias)
    except Exception as error:  # it is reported where an event needs the name
        return error.__class__


def run_in(tenant: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function inside ``activate``; for calls that are handed to another thread."""
    with activate(tenant):
        return function(*args, **kwargs)


def is_shared(model: type[Any]) -> bool:
    """Return whether the class says that the rows of a model are the same for all tenants."""
    decide: Any = getattr(get_tenancy(), "is_shared", None)
    return decide is not None and bool(decide(model._meta.concrete_model or model))


def may_be_shared(model: type[Any]) -> bool:
    """Return whether the rows of a model may be the same for all tenants: the class does not say that they are not."""
    return getattr(get_tenancy(), "is_shared", None) is None or is_shared(model)


def sees_all(tenant: str) -> bool:
    """Return whether operators in the admin of a tenant see all tenants; so they do on a site without tenants."""
    tenancy = get_tenancy()
    decide: Any = getattr(tenancy, "sees_all", None)
    return tenancy is None or (decide is not None and bool(tenant) and bool(decide(tenant)))


def is_operator_of_all() -> bool:
    """Return whether the operators of the tenant that this thread's connection is in see all tenants."""
    if not is_on():
        return True
    try:
        return sees_all(of_connection(database_alias()))
    except TenantError:
        return False


def concerned(model: type[Any], using: str) -> str:
    """Return the tenants whose sockets a change of rights in a row of a model concerns, as events name them.

    Where that cannot be told, it is all of them: to check a right once more does no harm.
    """
    if not is_on() or may_be_shared(model):
        return EVERYBODY
    try:
        return of_connection(using)
    except TenantError:
        return EVERYBODY


def owner_key(model: type[Any], key: str, using: str) -> str:
    """Return the name by which a row of what a user keeps names its owner: the key, or a digest of tenant and key.

    Args:
        model: The user model.
    """
    tenant = concerned(model, using) if key else EVERYBODY
    return hashlib.sha256(json.dumps([tenant, key]).encode()).hexdigest() if tenant else key


def concerns(event_tenant: str, tenant: str) -> bool:
    """Return whether an event is for a tenant."""
    return event_tenant in (EVERYBODY, tenant)
