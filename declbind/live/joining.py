"""The groups that a connection joins automatically, when it opens and when a binding later comes into force.

They are the groups without placeholders of bindings with ``auto_subscribe``, and the groups that ``connection_groups``
of a consumer names. Their subscriptions get plain frames, and the client is not notified when one begins or ends.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from declbind.bindings import Binding
from declbind.core.hub import Hub, Subscription
from declbind.django_types import User
from declbind.inbound import permissions
from declbind.registry import BindingRegistry

from .permission_checks import ask_tenant, group_by_tenant
from .socket import Socket
from .threads import HubThread

logger = logging.getLogger("declbind")

#: The reasons of subscriptions that the client itself ended: it left the group, or subscribed to it explicitly.
_BY_THE_CLIENT = ("client", "again")


class JoinableHub(Protocol):
    """The parts of a hub that joining uses."""

    core: Hub
    registry: BindingRegistry
    thread: HubThread

    def sockets(self) -> list[Socket]:
        """Return the open sockets."""

    def subscribe(self, subscription: Subscription) -> None:
        """Start the delivery of events to a subscription."""


@dataclass(frozen=True, slots=True)
class Join:
    """A group that a connection joins. Project code may have granted it regardless of ``view``."""

    stream: str
    group: str
    granted_by_code: bool


def find_joins(bindings: Mapping[str, type[Binding]], user: User, connection_groups: Iterable[str]) -> list[Join]:
    """Return the groups of these bindings that a user's connection joins. Blocks on the database."""
    joins = []
    for stream, binding in bindings.items():
        try:
            joins += [Join(stream, group, False) for group in auto_groups(binding, user)]
        except Exception:  # A faulty binding must not affect the others.
            logger.exception("No connection joins stream %r automatically, because its binding failed.", stream)
    return joins + [Join(stream, group, True) for stream in bindings for group in connection_groups]


def auto_groups(binding: type[Binding], user: User) -> list[str]:
    """Return the groups of a binding that have no placeholders, if it has ``auto_subscribe`` and the user may view."""
    spec = binding.spec()
    if not (spec.auto_subscribe and spec.outbound) or spec.scope:
        return []
    bound = binding(user=user)
    if not bound.has_view_permission(user, {}):
        return []
    if binding.overrides("subscription_group", "group_names"):
        group = bound.subscription_group(user, {})
        return [group] if group is not None else []
    return [template.render({}) or "" for template in spec.group_templates if template.is_constant]


def join(hub: JoinableHub, socket: Socket, joins: Iterable[Join]) -> None:
    """Subscribe a socket to groups, starting at the hub's cursor."""
    for each in joins:
        hub.subscribe(
            Subscription(
                connection=socket.connection,
                stream=each.stream,
                group=each.group,
                tagged=False,
                params=None if each.granted_by_code else {},
                offset=hub.core.cursor,
            )
        )


async def rejoin(hub: JoinableHub, streams: Collection[str]) -> None:
    """Subscribe the open sockets to groups of bindings that were changed or have come into force.

    Groups that the client has left, or has subscribed to explicitly, are left out.
    """
    asked = []
    for socket in hub.sockets():
        rules = socket.join_rules
        if rules is None:
            # The handshake of this socket is not finished. It will notice the new configuration and find the groups
            # again.
            continue
        offered = {stream: binding for stream, binding in rules.bindings(hub).items() if stream in streams}
        if rules.connection_groups or any(binding.spec().auto_subscribe for binding in offered.values()):
            asked.append((socket, offered, rules.connection_groups))
    if not asked:
        return
    for socket, joins in await hub.thread.run(_find_joins_of_sockets, asked):
        if socket.connection in hub.core.connections:
            join(hub, socket, [each for each in joins if _is_open_to(socket, each)])


async def join_again(hub: JoinableHub, socket: Socket) -> None:
    """Subscribe a socket whose identity has changed to the groups that it would join if it connected now."""
    rules = socket.join_rules
    if rules is None:
        return
    asked = [(socket, rules.bindings(hub), rules.connection_groups)]
    for _, joins in await hub.thread.run(_find_joins_of_sockets, asked):
        if socket.connection in hub.core.connections:
            join(hub, socket, [each for each in joins if _is_open_to(socket, each)])


def _is_open_to(socket: Socket, each: Join) -> bool:
    if (each.stream, each.group) in socket.subscriptions:
        return False
    return not any(
        (stream, group) == (each.stream, each.group) and reason in _BY_THE_CLIENT
        for stream, group, _, _, reason in socket.past
    )


_Asked = tuple[Socket, Mapping[str, type[Binding]], Iterable[str]]


def _find_joins_of_sockets(asked: Iterable[_Asked]) -> list[tuple[Socket, list[Join]]]:
    """Return the groups that each socket joins. Loads each user once; blocks on the database."""
    found: list[tuple[Socket, list[Join]]] = []
    for tenant, some in group_by_tenant(asked, lambda each: each[0]).items():
        # The sockets of a removed tenant join nothing. The next check of permissions closes them.
        found += ask_tenant(tenant, partial(_find_joins_in_tenant, some), [])
    return found


def _find_joins_in_tenant(asked: Iterable[_Asked]) -> list[tuple[Socket, list[Join]]]:
    users: dict[permissions.Identity, User | None] = {}
    found = []
    for socket, bindings, connection_groups in asked:
        identity = dataclasses.replace(socket.identity, connection_id="")
        if identity not in users:
            users[identity] = permissions.load_current_user(identity)
        if (user := users[identity]) is not None:
            found.append((socket, find_joins(identity.narrow(bindings), user, connection_groups)))
    return found
