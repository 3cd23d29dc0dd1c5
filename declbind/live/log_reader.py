"""The reads of the log and of the configuration that a hub makes in its own thread, with one database connection."""

from __future__ import annotations

import datetime as dt
import json
import logging
from dataclasses import dataclass
from typing import Any

from django.db import connections
from django.utils import timezone

from declbind import growth
from declbind import registry as registries
from declbind.core.hub import LogEvent
from declbind.english import as_english
from declbind.models import Event
from declbind.outbound import history, log, open_writes, relay, sessions
from declbind.outbound.head_lock import NumberingBlockedError

from . import changes

logger = logging.getLogger("declbind")

READ_BATCH = 1_000


@dataclass(frozen=True)
class Tick:
    """The result of one read of the log."""

    head: log.HeadState
    events: list[LogEvent]
    registry: registries.BindingRegistry
    #: Why waiting events could not be numbered.
    blocked: Exception | None = None

    def is_whole(self, cursor: int) -> bool:
        """Return whether no event is missing between the cursor and the last event read, except trimmed ones."""
        if not self.head.is_whole:
            return False
        if not self.events or self.head.min_offset - 1 > cursor:
            return True
        return self.events[0].offset == cursor + 1 and self.events[-1].offset == cursor + len(self.events)


class LogReader:
    """The log reader of one hub. Every method blocks on the database and must run in the hub's thread."""

    def __init__(self, using: str) -> None:
        self.using = using
        #: The database connection that was checked last.
        self._connection: Any = None

    def first_look(self) -> tuple[Tick, list[tuple[dict[str, Any], int, bool]]]:
        """Return the end of the log and the edits in it.

        An edit is a tuple of its content, its version, and whether all writers use it by now.
        """
        if growth.store_missing(self.using):
            logger.info("The fields that definitions in files and classes may send were stored.")
        registries.check_version(force=True)
        self._check_connection()
        blocked = self._number()
        head = log.load_head(self.using)
        if not head.is_whole:
            head = self.renew_epoch(head.epoch)
        oldest = timezone.now() - changes.grace() - dt.timedelta(seconds=open_writes.oldest_seconds(self.using))
        controls = Event.objects.using(self.using).filter(kind=Event.CONTROL).order_by("id")
        # All edits in the log are needed, because a transaction that is open for longer than the grace period may
        # commit outdated events.
        edits = [
            (content, version, at < oldest)
            for data, version, at in controls.values_list("data", "version", "created_at")
            if (content := json.loads(data)).get("type") == "config"
        ]
        return Tick(head, [], registries.get_registry(), blocked), edits

    def look(self, cursor: int) -> Tick:
        """Number waiting events, and return the events after the cursor."""
        registries.check_version()
        self._check_connection()
        look = log.look(cursor, READ_BATCH, self.using)
        blocked = None
        if look.has_waiting:
            blocked = self._number()
            look = log.look(cursor, READ_BATCH, self.using)
        return Tick(look.head, look.events, registries.get_registry(), blocked)

    def _number(self) -> Exception | None:
        """Number waiting events; return why that is impossible now. Events that have numbers can be read anyway."""
        try:
            relay.run_once(self.using)
        except NumberingBlockedError as error:
            text = sessions.describe_holders(self.using)
            return NumberingBlockedError(as_english(text)) if text else error
        return None

    def _check_connection(self) -> None:
        """Check whether a new database connection leads to the same tables as the previous one."""
        connection = connections[self.using]
        connection.ensure_connection()
        if connection.connection is not self._connection:
            history.check_incarnation(self.using)
            self._connection = connection.connection

    def renew_epoch(self, epoch: str) -> log.HeadState:
        """Begin a new epoch, unless ``epoch`` is no longer the current one; return the head."""
        history.renew_epoch(self.using, epoch)
        return log.load_head(self.using)

    def newest_registry(self) -> registries.BindingRegistry:
        """Return the registry in force at this moment."""
        registries.check_version(force=True)
        return registries.get_registry()
