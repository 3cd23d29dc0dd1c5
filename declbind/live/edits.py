"""The effect of edits on open sockets: which events are outdated, and when clients are sent a ``resync``.

All writers use an edit within ``changes.grace()``. If a stream then shows more than before, its subscribers are sent a
``resync``, because rows may have been written without an event. A transaction that wrote during the grace period may
stay open for longer, and its rows are in no snapshot until it ends. The hub therefore waits for the end of these
transactions, which one process records in the log, and all hubs send a second ``resync``.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import random
from collections.abc import Callable, Collection, Mapping
from typing import Any, ParamSpec, Protocol, TypeVar

from django.db import DatabaseError, transaction

from declbind.core.hub import Hub, LogEvent, Subscription
from declbind.models import Configuration, Event
from declbind.outbound import log, open_writes
from declbind.registry import BindingRegistry

from . import changes
from .threads import HubThread

logger = logging.getLogger("declbind")

#: The shortest time between two checks whether a transaction that was open across an edit has ended. The actual time is
#: random, up to four times as long. InnoDB refreshes its list of transactions only after 0.1 s without a query for it.
LOOK_SECONDS = 1.0

P = ParamSpec("P")
T = TypeVar("T")


class EditedHub(Protocol):
    """The parts of a hub that edits use."""

    loop: asyncio.AbstractEventLoop
    core: Hub
    registry: BindingRegistry
    using: str
    thread: HubThread

    def resync(self, subscription: Subscription, reason: str) -> None:
        """Send a subscriber a ``resync``."""


class Edits:
    """The edits of one hub. Belongs to its event loop."""

    def __init__(self, hub: EditedHub) -> None:
        self._hub = hub
        #: By stream, the version of the last edit that changed its groups or data. Older events are not delivered.
        self._floors: dict[str, int] = {}
        #: Streams with a scheduled ``resync``, and its timer.
        self._due: dict[str, asyncio.TimerHandle] = {}
        #: Streams with edits across which transactions may still be open, and the task that waits for their end.
        self._followed: set[str] = set()
        self._follower: asyncio.Task[None] | None = None

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The tasks and timers that the hub cancels when it stops."""
        return [self._follower] if self._follower is not None else []

    def note(self, content: Mapping[str, Any], version: int) -> list[str]:
        """Record an edit; return the streams that show more than before."""
        streams = [stream for stream, (old, new) in content.get("changes", {}).items() if changes.shows_more(old, new)]
        for stream in streams:
            self._floors[stream] = max(self._floors.get(stream, 0), version)
        return streams

    def follow(self, streams: Collection[str]) -> None:
        """Send the subscribers of streams a ``resync`` once all writers use an edit."""
        if not streams:
            return
        grace = changes.grace().total_seconds()
        for stream in streams:
            self.resync_in(stream, grace)
        self._followed.update(streams)
        if self._follower is not None:
            # Transactions that are open across the earlier edit are open across this one, too.
            self._follower.cancel()
        # An empty context: the task outlives the request that may have started the hub.
        self._follower = self._hub.loop.create_task(self._await_writers(grace), context=contextvars.Context())

    def is_in_force(self, event: LogEvent) -> bool:
        """Return whether an event was made under rules that still hold."""
        return event.version >= self._floors.get(event.stream, 0)

    def forget(self) -> None:
        """Forget which events are outdated, because the database has another configuration history."""
        self._floors.clear()

    def outdate_all(self) -> None:
        """Treat all events from before the present configuration as outdated, because edits may have been missed."""
        self._floors = dict.fromkeys(self._hub.registry.by_stream, self._hub.registry.version)

    def resync_in(self, stream: str, seconds: float) -> None:
        """Schedule one ``resync`` for the subscribers of a stream, in ``seconds`` or at a later scheduled time."""
        due = self._due.pop(stream, None)
        at = self._hub.loop.time() + seconds
        if due is not None:
            due.cancel()
            at = max(at, due.when())
        self._due[stream] = self._hub.loop.call_at(at, self._resync_due, stream, context=contextvars.Context())

    def _resync_due(self, stream: str) -> None:
        self._due.pop(stream, None)
        self.resync(stream)

    def resync(self, stream: str) -> None:
        """Send ``resync`` to the subscribers of a stream now. A scheduled ``resync`` is still sent."""
        for subscription in self._hub.core.subscriptions(stream):
            self._hub.resync(subscription, "config")

    async def _await_writers(self, grace: float) -> None:
        # Half of the grace period is the longest time between two version checks. Later writes use the new rules.
        await asyncio.sleep(grace / 2)
        moment = await self._ask(open_writes.present_moment, self._hub.using)
        if moment is None:
            return
        await asyncio.sleep(grace / 2)
        was_open = False
        while await self._are_open(moment):
            was_open = True
            await asyncio.sleep(random.uniform(LOOK_SECONDS, 4 * LOOK_SECONDS))
        if was_open:
            await self._ask(note_end, sorted(self._followed), self._hub.registry.version, self._hub.using)
        self._followed.clear()

    async def _are_open(self, moment: str) -> bool:
        try:
            return await self._hub.thread.run(open_writes.are_open, moment, self._hub.using)
        except DatabaseError as error:
            _warn(error)
            # While the database is unavailable, the transactions count as open.
            return True

    async def _ask(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in the hub's thread; retry while the database fails."""
        while True:
            try:
                return await self._hub.thread.run(function, *args, **kwargs)
            except DatabaseError as error:
                _warn(error)
                await asyncio.sleep(LOOK_SECONDS)


def _warn(error: Exception) -> None:
    logger.warning("Transactions that may be open across an edit are not known: %s", error)


def note_end(streams: list[str], version: int, using: str) -> None:
    """Record in the log that the transactions open across an edit have ended, unless another process has done so."""
    content = {"type": "written", "version": version, "streams": streams}
    with transaction.atomic(using=using):
        # The lock makes processes run this one after the other.
        Configuration.objects.using(using).select_for_update().filter(pk=1).first()
        edit = Event.objects.using(using).filter(kind=Event.CONTROL, version=version).order_by("id").first()
        since = edit.pk if edit is not None else 0
        if not Event.objects.using(using).filter(pk__gt=since, kind=Event.CONTROL, data=json.dumps(content)).exists():
            log.append_control(content, using, version=version)
