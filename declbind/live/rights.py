"""Judge the rights of open sockets again: who is still who they were, and what of theirs may go on."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import DatabaseError, InterfaceError, OperationalError

from declbind import tenancy
from declbind.core.hub import Subscription
from declbind.inbound import permissions
from declbind.registry import BindingRegistry

if TYPE_CHECKING:
    from .socket import Socket

logger = logging.getLogger("declbind")

Answer = TypeVar("Answer")


def judge_sockets(
    asked: Iterable[tuple[Socket, list[Subscription]]], registry: BindingRegistry
) -> list[tuple[Socket, bool, list[Subscription]]]:
    """Return for each socket whether it may go on, and which of its subscriptions may not; asks once for each user."""
    users: dict[permissions.Identity, Any] = {}
    verdicts: list[tuple[Socket, bool, list[Subscription]]] = []
    for socket, subscriptions in asked:
        identity = dataclasses.replace(socket.identity, connection_id="")

        def judge(
            identity: permissions.Identity = identity, subscriptions: list[Subscription] = subscriptions
        ) -> tuple[bool, list[Subscription]]:
            if identity not in users:
                users[identity] = permissions.load_current_user(identity)
            user = users[identity]
            if user is None:
                return False, []
            return True, [s for s in subscriptions if not _may_go_on(s, registry, user)]

        over: tuple[bool, list[Subscription]] = False, []
        verdicts.append((socket, *ask_tenant(identity.tenant, judge, over)))
    return verdicts


def ask_tenant(tenant: str, question: Callable[[], Answer], otherwise: Answer) -> Answer:
    """Return the answer to a question that is asked inside a tenant, or ``otherwise`` if the tenant is gone.

    One that is gone must not keep the others from going on. Errors that say nothing of the tenant, such as a database
    that is away, are raised.
    """
    try:
        with tenancy.activate(tenant):
            return question()
    except (OperationalError, InterfaceError):
        raise
    except (tenancy.TenantError, DatabaseError) as error:
        if not tenant:
            raise
        logger.warning("Tenant %r cannot be asked, and its sockets are closed: %s", tenant, error)
        return otherwise


def find_logged_out(sockets: Iterable[Socket]) -> list[Socket]:
    """Return those sockets of a user whose session may be the one that just ended, under an earlier key."""
    return [
        socket
        for socket in sockets
        if not ask_tenant(socket.identity.tenant, partial(permissions.survives_logout, socket.identity), False)
    ]


def _may_go_on(subscription: Subscription, registry: BindingRegistry, user: Any) -> bool:
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
        # The database is away: that says nothing about rights, and the pump asks again before it goes on.
        raise
    except Exception:
        logger.exception("Stream %r: the check of the right to view failed, which is a no.", subscription.stream)
        return False
