"""The times at which the sessions of open sockets expire, so that a socket is closed when its session expires.

An expiring session leaves no event, but its time is known in advance. Database-backed stores have it in a column, and
other stores return it when the session is loaded. The application may change it (``set_expiry``), so the column is read
again every ``REFRESH_SECONDS``.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from django.utils import timezone

from declbind.inbound import permissions

from .permission_checks import ask_tenant

if TYPE_CHECKING:
    from .socket import Socket
    from .threads import HubThread

#: The interval at which expiry times are read again, for stores in which one query reads many.
REFRESH_SECONDS = 10.0
#: The number of sessions that one call loads one by one. The pump uses the same thread and must not wait long.
SLICE = 100

#: A session: the tenant, and the session key there.
_Session = tuple[str, str]


class SessionEnds:
    """The ends of the sessions of a hub's sockets. Belongs to the event loop."""

    def __init__(self) -> None:
        #: The expiry times by tenant and key, because two tenants may have sessions with the same key.
        self._ends: dict[_Session, datetime | None] = {}
        self._read_at = float("-inf")

    async def find_over(self, sockets: Iterable[Socket], thread: HubThread, now: float) -> list[Socket]:
        """Return the sockets whose sessions should have expired by now, and load expiry times that are not known.

        Args:
            sockets: The open sockets.
            thread: The thread in which sessions are loaded.
            now: The time of a monotonic clock, in seconds.
        """
        by_key: dict[_Session, list[Socket]] = {}
        for socket in sockets:
            if socket.identity.session_key is not None:
                by_key.setdefault((socket.identity.tenant, socket.identity.session_key), []).append(socket)
        self._ends = {key: end for key, end in self._ends.items() if key in by_key}
        if not by_key:
            # A project without sessions may have an engine that cannot be imported.
            return []
        is_cheap = permissions.reads_session_ends_together()
        if is_cheap and now - self._read_at >= REFRESH_SECONDS:
            wanted, self._read_at = list(by_key), now
        else:
            wanted = [key for key in by_key if key not in self._ends]
        for start in range(0, len(wanted), SLICE):
            self._ends |= await thread.run(_load_ends, wanted[start : start + SLICE])
        moment = timezone.now()
        over = [key for key, end in self._ends.items() if end is not None and end <= moment]
        for key in over:
            # The session may have been extended. The permission check will notice this, and the time is then read
            # again.
            del self._ends[key]
        return [socket for key in over for socket in by_key[key]]


def _load_ends(sessions: Iterable[_Session]) -> dict[_Session, datetime | None]:
    """Return the expiry times of sessions, each loaded in its tenant. Sessions of a removed tenant expire now."""
    keys: dict[str, list[str]] = {}
    for tenant, key in sessions:
        keys.setdefault(tenant, []).append(key)
    found: dict[_Session, datetime | None] = {}
    for tenant, some in keys.items():
        gone: dict[str, datetime | None] = dict.fromkeys(some, timezone.now())
        ends = ask_tenant(tenant, partial(permissions.load_session_ends, some), gone)
        found.update({(tenant, key): end for key, end in ends.items()})
    return found
