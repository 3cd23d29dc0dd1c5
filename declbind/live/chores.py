"""Do what a hub does beside its pump: traffic, heartbeat, retention, rights by the clock, and stalled readers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from declbind.conf import settings
from declbind.outbound import relay, retention

from . import nodes

if TYPE_CHECKING:
    from .hub import LiveHub

logger = logging.getLogger("declbind")

Chore = Callable[["LiveHub"], Awaitable[None]]

#: So many sockets are checked again at once by the batched check: the pump shares the thread.
REVALIDATE_SLICE = 50


async def keep_house(hub: LiveHub) -> None:
    """Do the chores by the clock, for ever. One that fails is tried again and does not stop the others."""
    done: dict[Chore, float] = {revalidate_all: time.monotonic()}
    while True:
        chores: tuple[tuple[Chore, float], ...] = (
            # First: what a process without a heartbeat has written is taken for that of a dead one.
            (beat, settings.HEARTBEAT_SECONDS),
            (write_traffic, 0.0),
            (write_attendance, 0.0),
            (write_counts, settings.HEARTBEAT_SECONDS),
            (sweep, relay.TRIM_SECONDS),
            (revalidate_all, settings.REVALIDATE_SECONDS),
        )
        for chore, seconds in chores:
            if time.monotonic() - done.get(chore, float("-inf")) < seconds:
                continue
            try:
                await chore(hub)
                done[chore] = time.monotonic()
            except Exception as error:
                hub.heartbeat.last_error = f"{type(error).__name__}: {error}"
                logger.warning("Housekeeping failed, it tries again: %s", error)
        await asyncio.sleep(1.0)


async def write_traffic(hub: LiveHub) -> None:
    """Store what was noted since the last time; while somebody watches, what was counted in each second too."""
    await hub.thread.run(hub.traffic.write, hub.traffic.take(), hub.using)
    hub.tally.watch(hub.traffic.watched)
    if seconds := hub.tally.take_seconds():
        await hub.thread.run(hub.tally.write_seconds, seconds, hub.using)


async def write_counts(hub: LiveHub) -> None:
    """Store what was counted in this minute."""
    await hub.thread.run(hub.tally.write_minute, hub.tally.take_fresh(), hub.using)


async def write_attendance(hub: LiveHub) -> None:
    """Store who came, went and hears something else."""
    if hub.traffic.watched:
        hub.attendance.look_at_queues(hub.sockets())
    while changes := hub.attendance.take():
        rows = hub.attendance.rows(changes, hub.core.cursor)
        try:
            await hub.thread.run(hub.attendance.write, rows, hub.using)
        except BaseException:
            hub.attendance.give_back(changes)
            raise


async def beat(hub: LiveHub) -> None:
    """Renew this process's row."""
    await hub.thread.run(hub.heartbeat.beat, nodes.describe(hub.core, hub.registry), hub.using)


async def sweep(hub: LiveHub) -> None:
    """Delete what is older than the retention."""
    await hub.thread.run(retention.sweep, hub.using)


async def revalidate_all(hub: LiveHub) -> None:
    """Check all rights again, for changes that no event tells of."""
    sockets = hub.sockets()
    for start in range(0, len(sockets), REVALIDATE_SLICE):
        await hub.revalidate(sockets[start : start + REVALIDATE_SLICE])


async def watch_readers(hub: LiveHub) -> None:
    """End readers that stopped reading, also while the database does not answer."""
    while True:
        for socket in hub.sockets():
            if socket.is_stuck(time.monotonic()):
                socket.overflow()
        await asyncio.sleep(1.0)
