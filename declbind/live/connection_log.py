"""The table of connections, which lists clients, their groups, and the offsets that they have received.

Channel layers cannot list their groups, and the process that shows the list may serve no sockets. Each process
therefore writes the rows of its own connections to the database, once a second, in batches and only if they have
changed. Connections without pending changes take no memory here.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

from django.db import connections
from django.utils import timezone

from declbind.asgi_types import Scope
from declbind.models import Connection

if TYPE_CHECKING:
    from .socket import Socket

#: The number of rows in one write. The hub's thread reads the log between writes.
PORTION = 250
#: The number of open connections of one process that are listed. Further connections are served but not listed.
MAX_ROWS = 20_000
#: The number of connections whose queues are read per second while an operator watches.
MAX_QUEUES = 500

Change = tuple["Socket", dict[str, object]]

CHANGING = (
    "user_pk", "username", "credential", "credential_ends_at", "closed_at", "close_code", "close_reason", "offset",
    "queued", "subscriptions",
)  # fmt: skip


class ConnectionLog:
    """The connections of this process whose rows must be written.

    All methods except ``write`` belong to the event loop; ``write`` runs in the hub's thread.
    """

    def __init__(self, node: str) -> None:
        self.node = node
        self._listed = 0
        #: Sockets whose rows must be written, with the column values that cannot be computed later.
        self._changed: dict[Socket, dict[str, object]] = {}
        self._queued: set[Socket] = set()

    def opened(self, socket: Socket, scope: Scope) -> None:
        """Record an accepted connection, with the columns that never change from its scope."""
        # Connections that opened and closed while the database was down also wait here.
        if self._listed >= MAX_ROWS or len(self._changed) >= MAX_ROWS:
            return
        self._listed += 1
        socket.is_listed = True
        self._changed[socket] = {"address": mask_address(scope), "client": _client(scope), "opened_at": timezone.now()}

    def changed(self, socket: Socket) -> None:
        """Record that the subscriptions of a connection changed."""
        if socket.is_listed:
            self._changed.setdefault(socket, {})

    def closed(self, socket: Socket, offset: int) -> None:
        """Record the end of a connection before it is detached; ``offset`` is the hub's cursor."""
        if not socket.is_listed:
            return
        for subscription in socket.subscriptions.values():
            socket.remember(subscription, offset, "closed")
        code, reason = socket.closed.result()
        self._listed -= 1
        end = {"closed_at": timezone.now(), "close_code": code, "close_reason": reason[:120]}
        self._changed.setdefault(socket, {}).update(end)

    def record_queues(self, sockets: Sequence[Socket]) -> None:
        """Record the connections that have queued frames, and the connections whose queues have become empty."""
        waiting = {socket for socket in sockets if len(socket.connection.outbox)}
        for socket in [*waiting, *(self._queued - waiting)][:MAX_QUEUES]:
            self.changed(socket)
        self._queued = waiting

    def take(self) -> list[Change]:
        """Remove and return up to ``PORTION`` changes that must be written."""
        taken = [(socket, self._changed[socket]) for socket in islice(self._changed, PORTION)]
        for socket, _ in taken:
            del self._changed[socket]
        return taken

    def give_back(self, changes: Sequence[Change]) -> None:
        """Put changes back that could not be written, for at most ``MAX_ROWS`` connections."""
        for socket, known in changes:
            if len(self._changed) < MAX_ROWS or socket in self._changed:
                self._changed[socket] = {**known, **self._changed.get(socket, {})}

    def rows(self, changes: Sequence[Change], offset: int) -> list[Connection]:
        """Return the current rows of connections; ``offset`` is the hub's cursor."""
        return [_row(socket, self.node, offset, known) for socket, known in changes]

    @staticmethod
    def write(rows: Sequence[Connection], using: str) -> None:
        """Insert new rows and update known ones, in one statement."""
        # MySQL and MariaDB have no conflict target. Any unique index counts, and this table has only its primary key.
        takes_target = connections[using].features.supports_update_conflicts_with_target
        Connection.objects.using(using).bulk_create(
            rows, update_conflicts=True, unique_fields=["id"] if takes_target else None, update_fields=CHANGING
        )


def mask_address(scope: Scope) -> str:
    """Return the network of a client's address, which identifies an office or a crawler but not a person.

    The address is that of the server's peer: behind a proxy, the proxy, unless the server reads forwarded headers.
    """
    client = scope.get("client")
    try:
        address = ipaddress.ip_address(client[0])  # type: ignore[index]
    except (TypeError, ValueError, IndexError):
        return ""
    bits = 24 if address.version == 4 else 48
    return str(ipaddress.ip_network(f"{address}/{bits}", strict=False))


def close_all(node: str, using: str, code: int, reason: str) -> None:
    """Mark all open connections of a process as closed."""
    Connection.objects.using(using).filter(node=node, closed_at=None).update(
        closed_at=timezone.now(), close_code=code, close_reason=reason
    )


def _client(scope: Scope) -> str:
    found = next((value for name, value in scope.get("headers", ()) if name == b"user-agent"), b"")
    return str(found.decode("latin-1"))[:150].replace("\0", "")


def _end_of_token(socket: Socket) -> datetime | None:
    term = socket.identity.term
    try:
        return None if term is None else datetime.fromtimestamp(term.ends_at, UTC)
    except (OverflowError, ValueError, OSError):
        # A token may contain any number, and this one is too large for a date.
        return None


def _row(socket: Socket, node: str, offset: int, known: Mapping[str, object]) -> Connection:
    # The subscriptions of a closed connection are stored as ended ones.
    current = () if "closed_at" in known else socket.subscriptions.values()
    live = [(subscription.stream, subscription.group, None, subscription.after, "") for subscription in current]
    return Connection(
        id=socket.id,
        node=node,
        tenant=socket.identity.tenant,
        user_pk=(socket.user_key or "")[:64],
        username=socket.identity.username[:150],
        credential=socket.identity.credential,
        credential_ends_at=_end_of_token(socket),
        # These columns are only inserted, never updated.
        **{"opened_at": timezone.now(), **known},
        offset=offset,
        queued=len(socket.connection.outbox),
        subscriptions=json.dumps([*live, *socket.past], separators=(",", ":")),
    )
