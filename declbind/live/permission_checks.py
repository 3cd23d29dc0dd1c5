"""Repeated checks of the permissions of open sockets: which sockets and subscriptions may continue."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from django.db import DatabaseError, InterfaceError, OperationalError

from declbind import tenancy
from declbind.core.hub import Subscription
from declbind.django_types import User
from declbind.inbound import permissions
from declbind.registry import BindingRegistry

if TYPE_CHECKING:
    from .socket import Socket

logger = logging.getLogger("declbind")

Answer = TypeVar("Answer")
Item = TypeVar("Item")


def check_sockets(
    asked: Iterable[tuple[Socket, list[Subscription]]], registry: BindingRegistry
) -> list[tuple[Socket, bool, list[Subscription]]]:
    """Return for each socket whether it may continue, and its subscriptions that may not. Loads each user once."""
    verdicts: list[tuple[Socket, bool, list[Subscription]]] = []
    for tenant, some in group_by_tenant(asked, lambda pair: pair[0]).items():
        over: list[tuple[Socket, bool, list[Subscription]]] = [(socket, False, []) for socket, _ in some]
        verdicts += ask_tenant(tenant, partial(_check, some, registry), over)
    return verdicts


def _check(
    asked: Iterable[tuple[Socket, list[Subscription]]], registry: BindingRegistry
) -> list[tuple[Socket, bool, list[Subscription]]]:
    users: dict[permissions.Identity, User | None] = {}
    verdicts: list[tuple[Socket, bool, list[Subscription]]] = []
    for socket, subscriptions in asked:
        identity = dataclasses.replace(socket.identity, connection_id="")
        if identity not in users:
            users[identity] = permissions.load_current_user(identity)
        user = users[identity]
        if user is None:
            verdicts.append((socket, False, []))
        else:
            verdicts.append((socket, True, [s for s in subscriptions if not _may_go_on(s, registry, user)]))
    return verdicts


def group_by_tenant(items: Iterable[Item], socket_of: Callable[[Item], Socket]) -> dict[str, list[Item]]:
    """Group items by the tenant of their sockets, so that each tenant is activated once."""
    found: dict[str, list[Item]] = {}
    for item in items:
        found.setdefault(socket_of(item).identity.tenant, []).append(item)
    return found


def ask_tenant(tenant: str, question: Callable[[], Answer], otherwise: Answer) -> Answer:
    """Return the result of ``question``, called inside a tenant, or ``otherwise`` if the tenant was removed.

    A removed tenant must not prevent the checks of others. Errors that are not about the tenant, such as an unavailable
    database, are raised.
    """
    try:
        with tenancy.activate(tenant):
            return question()
    except (OperationalError, InterfaceError):
        raise
    except (tenancy.TenantError, DatabaseError) as error:
        if not tenant:
            raise
        logger.warning("Tenant %r cannot be activated, so its sockets are closed: %s", tenant, error)
        return otherwise


def find_logged_out(sockets: Iterable[Socket]) -> list[Socket]:
    """Return those sockets of a user whose session may be the one that just ended, under an earlier key."""
    found: list[Socket] = []
    for tenant, some in group_by_tenant(sockets, lambda socket: socket).items():
        found += ask_tenant(tenant, partial(_find_ended, some), some)
    return found


def _find_ended(sockets: Iterable[Socket]) -> list[Socket]:
    return [socket for socket in sockets if not permissions.survives_logout(socket.identity)]


def _may_go_on(subscription: Subscription, registry: BindingRegistry, user: User) -> bool:
    binding = registry.by_stream.get(subscription.stream)
    if binding is None:
        return False
    bound = binding(user=user)
    try:
        own = bound.scope_values().items()
        return all(value is not None and subscription.params.get(name) == value for name, value in own) and (
            bound.has_view_permission(user, subscription.params)
        )
    except (OperationalError, InterfaceError):
        # An unavailable database does not mean that a permission was lost. The pump repeats the check before it
        # continues.
        raise
    except Exception:
        logger.exception(
            "Stream %r: the check of the view permission failed, so the permission is denied.", subscription.stream
        )
        return False
