"""The open connections, and the subscribers of a group, according to the rows that the processes write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q, QuerySet
from django.utils import timezone

from declbind.conf import settings
from declbind.models import Connection, Node

from .shown import shown
from .stored import read_subscriptions

SHOWN_LISTENERS = 50


@dataclass(frozen=True)
class Listener:
    """One open connection that is subscribed to a group. It receives events with offsets above ``after``."""

    connection: str
    user_pk: str
    username: str
    node: str
    group: str
    after: int


@dataclass(frozen=True)
class Audience:
    """The present subscribers of some groups of a stream: their number, and the first of them."""

    total: int
    listeners: tuple[Listener, ...]


def oldest_heartbeat() -> datetime:
    """Return the time before which a process must have sent its last heartbeat to be considered dead."""
    return timezone.now() - timedelta(seconds=3 * settings.HEARTBEAT_SECONDS)


def open_connections(using: str) -> QuerySet[Connection]:
    """Return the open connections of live processes."""
    alive = Node.objects.using(using).filter(seen_at__gte=oldest_heartbeat()).values("pk")
    return shown(Connection, using).filter(closed_at=None, node__in=alive)


def subscription_mark(stream: str, group: str) -> str:
    """Return the text that a connection's ``subscriptions`` column contains if it is subscribed to a group."""
    return f"{json.dumps([stream, group], separators=(',', ':'))[:-1]},null,"


def load_audience(stream: str, groups: Sequence[str], using: str, limit: int = SHOWN_LISTENERS) -> Audience:
    """Return the current subscribers of the groups of a stream. Takes at most two queries."""
    if not groups:
        return Audience(0, ())
    condition = Q()
    for group in groups:
        condition |= Q(subscriptions__contains=subscription_mark(stream, group))
    rows = open_connections(using).filter(condition).order_by("opened_at", "pk")
    found = list(rows[: limit + 1])
    total = len(found) if len(found) <= limit else rows.count()
    listeners = [
        Listener(row.pk, row.user_pk, row.username, row.node, group, after)
        for row in found[:limit]
        for name, group, until, after, _ in read_subscriptions(row.subscriptions)
        if name == stream and group in groups and until is None
    ]
    return Audience(total, tuple(listeners))
