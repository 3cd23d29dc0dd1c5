"""The periodic work of a hub, beside reading the log.

It stores traffic, connections and metrics, renews the heartbeat, deletes old rows, checks permissions, and closes stuck
or unused sockets.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Protocol

from declbind.conf import settings
from declbind.core.hub import Hub
from declbind.outbound import relay, retention
from declbind.registry import BindingRegistry

from . import nodes
from .connection_log import ConnectionLog
from .metrics import Metrics
from .session_ends import SessionEnds
from .threads import HubThread
from .traffic import TrafficLog

if TYPE_CHECKING:
    from .socket import Socket

logger = logging.getLogger("declbind")

#: How many sockets are checked in one call. The pump uses the same thread and must not wait long.
REVALIDATE_SLICE = 50
#: Batches of old events that are deleted, or whose values are removed, in one sweep.
TRIM_BATCHES = 30


class HousekeptHub(Protocol):
    """The parts of a hub that its housekeeping uses."""

    core: Hub
    registry: BindingRegistry
    using: str
    thread: HubThread
    heartbeat: nodes.Heartbeat
    traffic: TrafficLog
    connection_log: ConnectionLog
    metrics: Metrics
    session_ends: SessionEnds

    def sockets(self) -> list[Socket]:
        """Return the open sockets."""

    async def revalidate(self, sockets: Collection[Socket]) -> None:
        """Check the permissions of sockets, and end what is no longer allowed."""


Task = Callable[[HousekeptHub], Awaitable[None]]


async def run_housekeeping(hub: HousekeptHub) -> None:
    """Run each task at its interval until cancelled. A task that fails is retried and does not stop the others."""
    done: dict[Task, float] = {revalidate_all: time.monotonic()}
    while True:
        tasks: tuple[tuple[Task, float], ...] = (
            # The heartbeat comes first, because a process without one is considered dead, and its rows are deleted or
            # closed.
            (beat, settings.HEARTBEAT_SECONDS),
            (end_sessions, 0.0),
            (write_traffic, 0.0),
            (write_connections, 0.0),
            (write_counts, settings.HEARTBEAT_SECONDS),
            (sweep, relay.TRIM_SECONDS),
            (revalidate_all, settings.REVALIDATE_SECONDS),
        )
        for task, seconds in tasks:
            if time.monotonic() - done.get(task, float("-inf")) < seconds:
                continue
            try:
                await task(hub)
                done[task] = time.monotonic()
                hub.heartbeat.forget_fault(task.__name__)
            except Exception as error:
                hub.heartbeat.note_fault(task.__name__, error)
                logger.warning("Housekeeping failed and is retried: %s", error)
        await asyncio.sleep(1.0)


async def write_traffic(hub: HousekeptHub) -> None:
    """Store the traffic since the last call and, while an operator watches, the metrics of each second."""
    await hub.thread.run(hub.traffic.write, hub.traffic.take(), hub.using)
    hub.metrics.watch(hub.traffic.watched)
    if seconds := hub.metrics.take_seconds():
        await hub.thread.run(hub.metrics.write_seconds, seconds, hub.using)


async def write_counts(hub: HousekeptHub) -> None:
    """Store the metrics of this minute."""
    await hub.thread.run(hub.metrics.write_minute, hub.metrics.take_fresh(), hub.using)


async def write_connections(hub: HousekeptHub) -> None:
    """Store the connections that were opened, were closed, or changed their subscriptions."""
    if hub.traffic.watched:
        hub.connection_log.record_queues(hub.sockets())
    while changes := hub.connection_log.take():
        rows = hub.connection_log.rows(changes, hub.core.cursor)
        try:
            await hub.thread.run(hub.connection_log.write, rows, hub.using)
        except BaseException:
            hub.connection_log.give_back(changes)
            raise


async def beat(hub: HousekeptHub) -> None:
    """Renew the heartbeat row of this process."""
    await hub.thread.run(hub.heartbeat.beat, nodes.describe(hub.core, hub.registry, hub.traffic.dropped), hub.using)


async def sweep(hub: HousekeptHub) -> None:
    """Delete rows that are older than the retention, and remove values whose binding has a shorter retention."""
    await hub.thread.run(retention.sweep, hub.using)
    # Events may arrive faster than one batch per sweep. Between two batches the thread can read the log.
    for _ in range(TRIM_BATCHES):
        if not await hub.thread.run(retention.trim_batch, hub.using):
            break


async def end_sessions(hub: HousekeptHub) -> None:
    """Check the permissions of sockets whose session has expired."""
    over = await hub.session_ends.find_over(hub.sockets(), hub.thread, time.monotonic())
    for start in range(0, len(over), REVALIDATE_SLICE):
        await hub.revalidate(over[start : start + REVALIDATE_SLICE])


async def revalidate_all(hub: HousekeptHub) -> None:
    """Check the permissions of all sockets, to find changes without an event."""
    sockets = hub.sockets()
    for start in range(0, len(sockets), REVALIDATE_SLICE):
        await hub.revalidate(sockets[start : start + REVALIDATE_SLICE])


def end_unused(hub: HousekeptHub) -> None:
    """Close each socket that has been idle for too long or whose reader is stuck."""
    for socket in hub.sockets():
        if socket.is_stuck(time.monotonic()):
            socket.overflow()
        elif socket.is_idle(time.monotonic()):
            socket.time_out()


async def watch_readers(hub: HousekeptHub) -> None:
    """Call ``end_unused`` regularly. Needs no database."""
    while True:
        end_unused(hub)
        await asyncio.sleep(1.0)
