"""Send what the hub has queued for its connections, fair to all of them and to the rest of the event loop."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from declbind.core.hub import Connection, Hub

if TYPE_CHECKING:
    from .socket import Socket

#: After so many seconds of sending others than the hub get a turn.
SENDING_SECONDS = 0.005
#: So long readers that read may be waited for after each slice of events.
CATCH_UP_SECONDS = 0.05


class Flusher:
    """Flush the connections of one hub; belongs to its event loop."""

    def __init__(self, core: Hub) -> None:
        self._core = core
        #: Connections for which something still waited when all was flushed.
        self._lagging: dict[Connection, None] = {}

    async def flush(self) -> None:
        """Send what was queued, as far as the readers take it."""
        pause_at = time.monotonic() + SENDING_SECONDS
        for connection in self._core.take_waiting():
            connection.flush()
            if connection.outbox.waiting:
                self._lagging[connection] = None
            if time.monotonic() > pause_at:
                await asyncio.sleep(0)
                pause_at = time.monotonic() + SENDING_SECONDS
        if self._lagging:
            self._lagging = {connection: None for connection in self._lagging if connection.outbox}
            await self._wait_for([connection.info for connection in self._lagging if connection.outbox.is_filling()])

    async def _wait_for(self, behind: list[Socket]) -> None:
        """Give readers that do read a moment to catch up: in a burst we are faster than any of them.

        All together not for longer than ``CATCH_UP_SECONDS`` after each slice of events: so much may slow readers cost
        the quick ones, until their queue is full. Who took nothing in that time is not waited for again.
        """
        until = time.monotonic() + CATCH_UP_SECONDS
        taken = {socket: socket.sent for socket in behind if not socket.is_given_up()}
        behind = list(taken)
        while behind and time.monotonic() < until:
            await asyncio.sleep(CATCH_UP_SECONDS / 20)
            behind = [socket for socket in behind if socket.connection.outbox.is_filling()]
        for socket in behind:
            if socket.sent == taken[socket]:
                socket.give_up()
