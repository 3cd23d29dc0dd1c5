"""The expiry of tokens on open sockets. No event is sent to a socket after its token has ended.

The pump calls ``enforce`` after it has read the log and before it dispatches the events. An event that was committed
after a token ended is therefore dispatched only after the socket was closed, even if the event loop was blocked. A
timer does the same for idle sockets, and notifies clients before their token ends.

The two clocks of a ``Term`` have a heap each, so a check does not get slower with the number of sockets.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import time
from collections.abc import Callable
from typing import Final

from declbind.core import frames
from declbind.inbound.terms import Term

from .socket import Socket

#: How many seconds before the end of its token a client is notified.
NOTICE_SECONDS: Final = 30.0
#: The longest delay of the timer. Some event loops cannot wait for years.
_LONGEST: Final = 3_600.0
#: The number of outdated entries that the heaps may hold, in addition to one for each open socket.
_SPARE: Final = 64

Entry = tuple[float, int, Socket, Term]


class Expiry:
    """The terms of the sockets of one hub. Belongs to its event loop."""

    def __init__(self) -> None:
        self._watched: dict[Socket, Term] = {}
        self._numbers = itertools.count()
        self._by_wall_clock: list[Entry] = []
        self._by_deadline: list[Entry] = []
        self._notices: list[Entry] = []
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None

    def watch(self, socket: Socket) -> None:
        """Close a socket when the term of its present identity ends. This replaces an earlier term."""
        term = socket.identity.term
        if term is None:
            self.forget(socket)
            return
        self._watched[socket] = term
        self._push(socket, term)
        if len(self._by_deadline) > 2 * len(self._watched) + _SPARE:
            self._compact()
        self.enforce()

    def forget(self, socket: Socket) -> None:
        """Stop watching a socket."""
        self._watched.pop(socket, None)

    def enforce(self) -> None:
        """Close each socket whose token has ended, and send the notices that are due."""
        now = time.monotonic()
        self._take(self._by_deadline, now, _close)
        self._take(self._by_wall_clock, time.time(), _close)
        self._take(self._notices, now, _tell)
        self._set_timer()

    def stop(self) -> None:
        """End the timer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._due = None

    def _push(self, socket: Socket, term: Term, *, is_notified: bool = False) -> None:
        number = next(self._numbers)
        heapq.heappush(self._by_deadline, (term.deadline, number, socket, term))
        heapq.heappush(self._by_wall_clock, (term.ends_at, number, socket, term))
        if not is_notified:
            heapq.heappush(self._notices, (term.deadline - NOTICE_SECONDS, number, socket, term))

    def _take(self, heap: list[Entry], until: float, act: Callable[[Socket, Term], None]) -> None:
        while heap and heap[0][0] <= until:
            _, _, socket, term = heapq.heappop(heap)
            # The socket may have been closed or given a new term since the entry was made.
            if self._watched.get(socket) is term and not socket.closed.done():
                act(socket, term)

    def _compact(self) -> None:
        """Rebuild the heaps without outdated entries."""
        waiting = {id(term) for _, _, socket, term in self._notices if self._watched.get(socket) is term}
        self._by_deadline, self._by_wall_clock, self._notices = [], [], []
        for socket, term in self._watched.items():
            self._push(socket, term, is_notified=id(term) not in waiting)

    def _set_timer(self) -> None:
        due = min((heap[0][0] for heap in (self._by_deadline, self._notices) if heap), default=None)
        if due == self._due:
            return
        self.stop()
        self._due = due
        if due is not None:
            delay = min(max(0.0, due - time.monotonic()), _LONGEST)
            # An empty context, because the timer outlives the request that sets it.
            self._timer = asyncio.get_running_loop().call_later(delay, self._wake, context=contextvars.Context())

    def _wake(self) -> None:
        self._timer = self._due = None
        self.enforce()


def _close(socket: Socket, term: Term) -> None:
    socket.close_expired()


def _tell(socket: Socket, term: Term) -> None:
    socket.push(frames.encode_expiring(round(term.seconds_left())))
