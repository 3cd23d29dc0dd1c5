"""Keep the table of connections: who is here, since when, and what they hear from which offset to which.

Channel layers cannot list their groups, and a process that shows the list may serve no socket at all, so each process
writes its own part into the database: changes only, once a second, in portions. Nothing is kept here of a connection
whose row is written.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from declbind.models import Connection

if TYPE_CHECKING:
    from .socket import Socket

#: Rows of one write: the hub's thread reads the log between two of them.
PORTION = 250
#: Open connections of one process that have rows; those that come beyond are served and not listed.
MAX_ROWS = 20_000
#: Connections whose queues are looked at in one second, while somebody watches.
MAX_QUEUES = 500
#: The close code of connections whose process ended, "service restart" in IANA's registry of close codes.
RESTART = 1012

Change = tuple["Socket", dict[str, Any]]

CHANGING = ("closed_at", "close_code", "close_reason", "offset", "queued", "subscriptions")


class Attendance:
    """Note changes in the event loop, which owns this; ``write`` belongs to the hub's thread."""

    def __init__(self, node: str) -> None:
        self.node = node
        self._listed = 0
        #: Sockets whose row must be written: the columns that are only known now.
        self._changed: dict[Socket, dict[str, Any]] = {}
        self._queued: set[Socket] = set()

    def opened(self, socket: Socket, scope: Mapping[str, Any]) -> None:
        """Note an accepted connection; the columns that never change are taken from its scope."""
        # Those that came and went while the database did not answer wait as well.
        if self._listed >= MAX_ROWS or len(self._changed) >= MAX_ROWS:
            return
        self._listed += 1
        socket.is_listed = True
        self._changed[socket] = {"address": mask_address(scope), "client": _client(scope), "opened_at": timezone.now()}

    def changed(self, socket: Socket) -> None:
        """Note that a connection hears something else."""
        if socket.is_listed:
            self._changed.setdefault(socket, {})

    def closed(self, socket: Socket, offset: int) -> None:
        """Note the end of a connection, before it is detached; ``offset`` is the hub's cursor."""
        if not socket.is_listed:
            return
        for subscription in socket.subscriptions.values():
            socket.remember(subscription, offset, "closed")
        code, reason = socket.closed.result()
        self._listed -= 1
        end = {"closed_at": timezone.now(), "close_code": code, "close_reason": reason[:120]}
        self._changed.setdefault(socket, {}).update(end)

    def look_at_queues(self, sockets: Sequence[Socket]) -> None:
        """Note the connections for which frames wait, and those for which none do any more."""
        waiting = {socket for socket in sockets if len(socket.connection.outbox)}
        for socket in [*waiting, *(self._queued - waiting)][:MAX_QUEUES]:
            self.changed(socket)
        self._queued = waiting

    def take(self) -> list[Change]:
        """Take up to a portion of what has to be written."""
        taken = [(socket, self._changed[socket]) for socket in islice(self._changed, PORTION)]
        for socket, _ in taken:
            del self._changed[socket]
        return taken

    def give_back(self, changes: Sequence[Change]) -> None:
        """Keep for later what could not be written; in a long outage, of so many connections only."""
        for socket, known in changes:
            if len(self._changed) < MAX_ROWS or socket in self._changed:
                self._changed[socket] = {**known, **self._changed.get(socket, {})}

    def rows(self, changes: Sequence[Change], offset: int) -> list[Connection]:
        """Return the rows of connections as they are now; ``offset`` is the hub's cursor."""
        return [_row(socket, self.node, offset, known) for socket, known in changes]

    @staticmethod
    def write(rows: Sequence[Connection], using: str) -> None:
        """Store rows, new ones and known ones alike."""
        Connection.objects.using(using).bulk_create(
            rows, update_conflicts=True, unique_fields=["id"], update_fields=CHANGING
        )


def mask_address(scope: Mapping[str, Any]) -> str:
    """Return the network that a client comes from: enough to tell an office from a crawler, too little for a person.

    It is the address that the server saw. Behind a proxy that is the proxy's, unless the server reads its headers.
    """
    client = scope.get("client")
    try:
        address = ipaddress.ip_address(client[0])  # type: ignore[index]
    except (TypeError, ValueError, IndexError):
        return ""
    bits = 24 if address.version == 4 else 48
    return str(ipaddress.ip_network(f"{address}/{bits}", strict=False))


def close_all(node: str, using: str, code: int, reason: str) -> None:
    """Note that all connections of a process are over."""
    Connection.objects.using(using).filter(node=node, closed_at=None).update(
        closed_at=timezone.now(), close_code=code, close_reason=reason
    )


def _client(scope: Mapping[str, Any]) -> str:
    found = next((value for name, value in scope.get("headers", ()) if name == b"user-agent"), b"")
    return str(found.decode("latin-1"))[:150].replace("\0", "")


def _row(socket: Socket, node: str, offset: int, known: Mapping[str, Any]) -> Connection:
    # A closed connection has them among the past ones.
    heard = () if "closed_at" in known else socket.subscriptions.values()
    live = [(subscription.stream, subscription.group, None, subscription.after, "") for subscription in heard]
    return Connection(
        id=socket.id,
        node=node,
        user_pk=(socket.user_key or "")[:64],
        username=socket.identity.username[:150],
        # Of a row that is there already, these are not written again.
        **{"opened_at": timezone.now(), **known},
        offset=offset,
        queued=len(socket.connection.outbox),
        subscriptions=json.dumps([*live, *socket.past], separators=(",", ":")),
    )
