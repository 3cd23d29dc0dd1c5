"""The delivery of queued frames to connections, fair to all of them and to the rest of the event loop."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from declbind.core.hub import Connection, Hub

if TYPE_CHECKING:
    from .socket import Socket

#: The number of seconds of sending after which other tasks of the event loop get a turn.
SENDING_SECONDS = 0.005
#: The longest wait for active readers after each slice of events.
CATCH_UP_SECONDS = 0.05


class Flusher:
    """The flusher of one hub's connections. Belongs to its event loop."""

    def __init__(self, core: Hub) -> None:
        self._core = core
        #: Connections that still had queued frames after the last flush.
        self._lagging: dict[Connection, None] = {}

    async def flush(self) -> None:
        """Send queued frames, as many as the readers accept at once."""
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
        """Give active readers time to catch up, because the hub produces a burst faster than any of them can read it.

        All readers together get at most ``CATCH_UP_SECONDS`` after each slice of events, which limits how much slow
        readers delay fast ones. A reader that accepts nothing in that time is not waited for again.
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
