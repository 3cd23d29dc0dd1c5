"""Judge the rights of open sockets again: who is still who they were, and what of theirs may go on."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.db import InterfaceError, OperationalError

from declbind.core.hub import Subscription
from declbind.inbound import permissions
from declbind.registry import BindingRegistry

if TYPE_CHECKING:
    from .socket import Socket

logger = logging.getLogger("declbind")


def judge_sockets(
    asked: Iterable[tuple[Socket, list[Subscription]]], registry: BindingRegistry
) -> list[tuple[Socket, bool, list[Subscription]]]:
    """Return for each socket whether it may go on, and which of its subscriptions may not; asks once for each user."""
    users: dict[permissions.Identity, Any] = {}
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


def find_logged_out(sockets: Iterable[Socket]) -> list[Socket]:
    """Return those sockets of a user whose session may be the one that just ended, under an earlier key."""
    return [socket for socket in sockets if not permissions.survives_logout(socket.identity)]


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
