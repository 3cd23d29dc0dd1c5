"""The effect of edits on open sockets: which events are outdated, and when clients are sent a ``resync``.

All writers use an edit within ``changes.grace()``. If a stream then shows more than before, its subscribers are sent a
``resync``, because rows may have been written without an event. A transaction that wrote during the grace period may
stay open for longer, and its rows are in no snapshot until it ends. The hub therefore asks the database which
transactions are open, and then waits for their end. One process records the end in the log, and all hubs send a second
``resync``. The end is also recorded if a hub asked too late to know: a client may have taken a snapshot before, and
may resume from it at another process.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import random
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, ParamSpec, Protocol, TypeVar

from django.db import DatabaseError, transaction
from django.utils import timezone

from declbind.core.hub import Hub, LogEvent, Subscription
from declbind.models import Configuration, Event
from declbind.outbound import log, open_writes
from declbind.registry import BindingRegistry

from . import changes
from .threads import HubThread

logger = logging.getLogger("declbind")

#: The shortest time between two checks whether a transaction that was open across an edit has ended. The actual time is
#: random, up to four times as long.
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
        #: By stream, the version of the last edit that ``follow`` was told of.
        self._last: dict[str, int] = {}
        #: For each edit across which transactions may still be open, the task that waits for their end.
        self._followers: set[asyncio.Task[None]] = set()

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The tasks that the hub cancels when it stops."""
        return list(self._followers)

    def note(self, content: Mapping[str, Any], version: int) -> list[str]:
        """Record an edit; return the streams that show more than before."""
        streams = [stream for stream, (old, new) in content.get("changes", {}).items() if changes.shows_more(old, new)]
        for stream in streams:
            self._floors[stream] = max(self._floors.get(stream, 0), version)
        return streams

    def follow(self, streams: Collection[str], version: int) -> None:
        """Send the subscribers of streams a ``resync`` once all writers use an edit.

        Args:
            streams: The streams that show more than before the edit.
            version: The version of the edit.
        """
        if not streams:
            return
        self._last.update(dict.fromkeys(streams, version))
        # An empty context: the task outlives the request that may have started the hub.
        task = self._hub.loop.create_task(self._await_writers(sorted(streams), version), context=contextvars.Context())
        self._followers.add(task)
        task.add_done_callback(self._followers.discard)

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

    async def _await_writers(self, streams: list[str], version: int) -> None:
        loop, grace = self._hub.loop, changes.grace().total_seconds()
        deadline = loop.time() + grace
        # Half of the grace period is the longest time between two version checks. Later writes use the new rules.
        await asyncio.sleep(grace / 2)
        moment, is_late = await self._ask(find_moment, version, self._hub.using)
        await asyncio.sleep(max(0.0, deadline - loop.time()))
        # Transactions that are open across the earlier edit are open across a later one, too.
        streams = [stream for stream in streams if self._last[stream] == version]
        if not is_late:
            self._resync_all(streams)
        was_open = False
        while moment is not None and await self._are_open(moment):
            if is_late and not was_open:
                self._resync_all(streams)
            was_open = True
            await asyncio.sleep(random.uniform(LOOK_SECONDS, 4 * LOOK_SECONDS))
        if streams and (is_late or was_open):
            await self._ask(note_end, streams, version, self._hub.using)

    def _resync_all(self, streams: Iterable[str]) -> None:
        for stream in streams:
            self.resync(stream)

    async def _are_open(self, moment: str) -> bool:
        if await self._may_be_open(moment):
            return True
        pause = open_writes.outdated_seconds(self._hub.using)
        if not pause:
            return False
        await asyncio.sleep(random.uniform(1.5 * pause, 3 * pause))
        return await self._may_be_open(moment)

    async def _may_be_open(self, moment: str) -> bool:
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


def find_moment(version: int, using: str) -> tuple[str | None, bool]:
    """Return the present moment for ``open_writes.are_open``, and whether it is long after an edit.

    Replays from offsets within the grace period of an edit are refused (see ``replays.find_break``). If it is over,
    clients may resume from snapshots that are older than the moment, and lack rows that were written before the edit.
    """
    moment = open_writes.present_moment(using)
    if moment is None:
        return None, False
    edits = Event.objects.using(using).filter(kind=Event.CONTROL, version=version).order_by("id")
    at = edits.values_list("created_at", flat=True).first()
    return moment, at is None or timezone.now() - at > changes.grace()


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
