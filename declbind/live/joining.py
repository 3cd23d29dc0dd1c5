"""The groups that a connection joins without asking, when it opens and when a binding comes into force under it.

They are the groups without placeholders of bindings with ``auto_subscribe``, and those that ``connection_groups`` of a
demultiplexer names. Their subscriptions get plain frames, and the client is not told when one begins or ends.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from declbind import tenancy
from declbind.bindings import Binding
from declbind.core.hub import Hub, Subscription
from declbind.inbound import permissions
from declbind.registry import BindingRegistry

from .socket import Socket
from .threads import HubThread

logger = logging.getLogger("declbind")

#: Reasons for the end of a subscription that the client itself gave: it left the group, or asked for it explicitly.
_BY_THE_CLIENT = ("client", "again")


class JoinableHub(Protocol):
    """The parts of a hub that joining uses."""

    core: Hub
    registry: BindingRegistry
    thread: HubThread

    def sockets(self) -> list[Socket]:
        """Return the open sockets."""

    def subscribe(self, subscription: Subscription) -> None:
        """Let a subscription receive events."""


@dataclass(frozen=True, slots=True)
class Join:
    """A group that a connection joins; code of the project may have granted it, whatever ``view`` says."""

    stream: str
    group: str
    granted_by_code: bool


def find_joins(bindings: Mapping[str, type[Binding]], user: Any, connection_groups: Iterable[str]) -> list[Join]:
    """Return the groups of these bindings that a user's connection joins; blocks on the database."""
    joins = []
    for stream, binding in bindings.items():
        try:
            joins += [Join(stream, group, False) for group in auto_groups(binding, user)]
        except Exception:  # a faulty binding must not affect the others
            logger.exception("No connection joins stream %r by itself, because its binding failed.", stream)
    return joins + [Join(stream, group, True) for stream in bindings for group in connection_groups]


def auto_groups(binding: type[Binding], user: Any) -> list[str]:
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
    """Subscribe a socket to groups, from the hub's cursor on."""
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
    """Let the open sockets join the groups of bindings that have come into force or were changed.

    A group that the client has left, or has asked for explicitly, is its own affair from then on.
    """
    asked = []
    for socket in hub.sockets():
        rules = socket.join_rules
        if rules is None:
            # Its handshake is not over. It finds out that the configuration has changed, and looks again.
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
    """Let a socket whose identity has changed join the groups that it would join if it connected now."""
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


def _find_joins_of_sockets(
    asked: Iterable[tuple[Socket, Mapping[str, type[Binding]], Iterable[str]]],
) -> list[tuple[Socket, list[Join]]]:
    """Return the groups that each socket joins; loads each user once. Blocks on the database."""
    users: dict[permissions.Identity, Any] = {}
    found = []
    for socket, bindings, connection_groups in asked:
        identity = dataclasses.replace(socket.identity, connection_id="")
        try:
            with tenancy.activate(identity.tenant):
                if identity not in users:
                    users[identity] = permissions.load_current_user(identity)
                if (user := users[identity]) is not None:
                    found.append((socket, find_joins(identity.narrow(bindings), user, connection_groups)))
        except tenancy.TenantError as error:  # the tenant is gone; the next check of its sockets closes them
            logger.warning("A socket of tenant %r joins nothing: %s", identity.tenant, error)
    return found
