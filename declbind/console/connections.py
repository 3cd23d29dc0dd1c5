"""Current and recent connections, and their subscriptions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from declbind.models import Block, Connection, Node

from .audience import oldest_heartbeat
from .lag import load_lag
from .shown import shown
from .stored import read_subscriptions

PAGE_ROWS = 100
#: Why a subscription ended, by the reason in the table of connections.
ENDS = {
    "permission": _("the user may no longer view the rows"),
    "disabled": _("the binding was disabled"),
    "removed": _("the binding was removed"),
    "changed": _("the groups of the binding were changed"),
    "client": _("the client unsubscribed"),
    "closed": _("the connection was closed"),
    "resync": _("events were missed, and the client was asked to take a snapshot"),
}
_LOGINS = {
    "": _("nothing"),
    "session": _("a session"),
    "token": _("a token"),
    "scope": _("middleware of the project"),
}


@dataclass(frozen=True)
class ListedSubscription:
    """One subscription to events with offsets above ``after``, up to ``until``; ``reason`` says why it ended."""

    stream: str
    group: str
    until: int | None
    after: int
    reason: str

    @property
    def end(self) -> str:
        """Return why it ended in words; "" while it lasts."""
        return str(ENDS.get(self.reason, self.reason)) if self.until is not None else ""

    def covers(self, offset: int) -> bool:
        """Return whether an event lies in the subscription's range."""
        return self.after < offset and (self.until is None or offset <= self.until)


@dataclass(frozen=True)
class ListedConnection:
    """One connection. ``behind`` is the number of undelivered events of its process, ``None`` if it is closed."""

    id: str
    user_pk: str
    username: str
    tenant: str
    address: str
    client: str
    credential: str
    credential_ends_at: datetime | None
    opened_at: datetime
    closed_at: datetime | None
    close_code: int | None
    close_reason: str
    node: str
    process: str
    is_lost: bool
    offset: int
    queued: int
    behind: int | None
    subscriptions: tuple[ListedSubscription, ...]

    @property
    def who(self) -> str:
        """Return the user's name, or "anonymous"."""
        if self.username:
            return self.username
        return gettext("user %(key)s") % {"key": self.user_pk} if self.user_pk else gettext("anonymous")

    @property
    def login(self) -> str:
        """Return how the user was identified, in words."""
        return str(_LOGINS.get(self.credential, self.credential))

    @property
    def current_subscriptions(self) -> tuple[ListedSubscription, ...]:
        """Return the subscriptions that have not ended."""
        return tuple(item for item in self.subscriptions if item.until is None)

    @property
    def is_open(self) -> bool:
        """Return whether the connection is open and its process is alive."""
        return self.closed_at is None and not self.is_lost

    def as_json(self) -> dict[str, object]:
        """Return the connection as JSON values."""
        return {**vars(self), "subscriptions": [vars(item) for item in self.subscriptions]}


@dataclass(frozen=True)
class Wanted:
    """A filter of connections; empty texts match all. ``state`` is "open", "closed" or ""."""

    user: str = ""
    stream: str = ""
    group: str = ""
    node: str = ""
    state: str = "open"


@dataclass(frozen=True)
class ConnectionPage:
    """One page of connections, newest first, and their total number."""

    rows: tuple[ListedConnection, ...]
    total: int
    page: int
    pages: int


def load_connections(wanted: Wanted, using: str, page: int = 1, size: int = PAGE_ROWS) -> ConnectionPage:
    """Return a page of the matching connections. Takes three queries, and one for each process."""
    rows = _narrow(shown(Connection, using), wanted, using).order_by("-opened_at", "pk")
    total = rows.count()
    pages = max(1, -(-total // size))
    page = min(max(1, page), pages)
    found = list(rows[(page - 1) * size : page * size])
    return ConnectionPage(tuple(describe_connections(found, using)), total, page, pages)


def find_connection(id_: str, using: str) -> ListedConnection | None:
    """Return one connection."""
    found = list(shown(Connection, using).filter(pk=id_))
    return next(iter(describe_connections(found, using)), None)


def describe_connections(rows: Sequence[Connection], using: str) -> list[ListedConnection]:
    """Return rows in a readable form. Takes one query, and one for each of their processes."""
    nodes = {node.pk: node for node in Node.objects.using(using).filter(pk__in={row.node for row in rows})}
    behind = {pk: load_lag(node, using).events for pk, node in nodes.items()}
    return [_describe(row, nodes.get(row.node), behind.get(row.node)) for row in rows]


def load_blocks(using: str) -> list[Block]:
    """Return the blocks in force, newest first."""
    return list(shown(Block, using).filter(until__gt=timezone.now()))


def _narrow(rows: QuerySet[Connection], wanted: Wanted, using: str) -> QuerySet[Connection]:
    if wanted.user == "anonymous":
        rows = rows.filter(user_pk="")
    elif wanted.user:
        rows = rows.filter(Q(username__icontains=wanted.user) | Q(user_pk=wanted.user) | Q(pk=wanted.user))
    if wanted.stream and wanted.group:
        pair = json.dumps([wanted.stream, wanted.group], separators=(",", ":"))[:-1]
        rows = rows.filter(subscriptions__contains=f"{pair},")
    elif wanted.stream:
        rows = rows.filter(subscriptions__contains=f"[{json.dumps(wanted.stream)},")
    elif wanted.group:
        rows = rows.filter(subscriptions__contains=f",{json.dumps(wanted.group)},")
    if wanted.node:
        rows = rows.filter(node=wanted.node)
    alive = Node.objects.using(using).filter(seen_at__gte=oldest_heartbeat()).values("pk")
    if wanted.state == "open":
        rows = rows.filter(closed_at=None, node__in=alive)
    elif wanted.state == "closed":
        rows = rows.exclude(closed_at=None, node__in=alive)
    return rows


def _describe(row: Connection, node: Node | None, behind: int | None) -> ListedConnection:
    is_lost = row.closed_at is None and (node is None or node.seen_at < oldest_heartbeat())
    is_open = row.closed_at is None and not is_lost
    return ListedConnection(
        id=row.pk,
        user_pk=row.user_pk,
        username=row.username,
        tenant=row.tenant,
        address=row.address,
        client=row.client,
        credential=row.credential,
        credential_ends_at=row.credential_ends_at,
        opened_at=row.opened_at,
        closed_at=row.closed_at,
        close_code=row.close_code,
        close_reason=row.close_reason,
        node=row.node,
        process=str(node) if node is not None else row.node,
        is_lost=is_lost,
        offset=row.offset,
        queued=row.queued,
        behind=behind if is_open else None,
        subscriptions=tuple(ListedSubscription(*item) for item in read_subscriptions(row.subscriptions)),
    )
