"""Processes that run other code or an older configuration than the rest, with and without sockets.

Processes with sockets have a heartbeat. Every other process is known by the events that it has made: each carries the
process, the digest of its code, and the version of its configuration. A process without either is not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from django.utils import timezone
from django.utils.translation import gettext

from declbind.code_digest import digest_code
from declbind.conf import settings
from declbind.models import BindingRevision, Event
from declbind.registry import get_registry

from .processes import Processes, load_processes
from .shown import shown
from .times import format_time
from .writers import describe_origin

#: The number of events and of revisions that are read.
MAX_EVENTS, MAX_REVISIONS = 2_000, 500
#: The least time after an edit from which a process that has not read it counts as old.
PATIENCE = timedelta(seconds=10)
#: For this long after the first event of the expected code, processes may still be restarted one after the other.
DEPLOYMENT = timedelta(minutes=5)
#: A process that has made no event for this long may have ended.
RECENT = timedelta(minutes=10)


@dataclass(frozen=True)
class Age:
    """What is other about the process that made an event, and whether others were ahead of it then."""

    text: str
    #: ``None`` if it cannot be told.
    is_sure: bool | None
    is_version: bool = False


@dataclass(frozen=True)
class Present:
    """The code and the configuration that processes are expected to run."""

    using: str
    processes: Processes

    @classmethod
    def load(cls, using: str) -> Present:
        """Load the live processes."""
        return cls(using, load_processes(using))

    @cached_property
    def code(self) -> str:
        """The digest of the code that most processes with sockets run, else that of this process."""
        return self.processes.usual_code or digest_code(get_registry())

    @cached_property
    def first(self) -> int | None:
        """The id of the first event that the expected code made. The order of the log needs no equal clocks."""
        made = Event.objects.using(self.using).filter(code=self.code)
        return made.order_by("pk").values_list("pk", flat=True).first()

    def _was_there(self, event: Event) -> bool | None:
        """Return whether it is sure or likely that the expected code was there before an event; ``None`` if unknown."""
        if self.first is not None and self.first < event.pk:
            return True
        starts = [process.started_at for process in self.processes.live if process.code == self.code]
        return False if min(starts, default=event.created_at) < event.created_at else None

    @cached_property
    def versions(self) -> list[tuple[datetime, int]]:
        """The times of the edits of the configuration with their versions, newest first."""
        rows = BindingRevision.objects.using(self.using).order_by("-id").values_list("created_at", "version")
        return list(rows[:MAX_REVISIONS])

    def judge(self, event: Event) -> Age | None:
        """Return what is other about the process that made an event, ``None`` if nothing is known to be."""
        if not event.code:
            return None
        patience = max(PATIENCE, timedelta(seconds=3 * settings.VERSION_CHECK_SECONDS))
        edit = next((one for one in self.versions if one[0] <= event.created_at - patience), None)
        if edit is not None and event.version < edit[1] and not self._is_later(edit[1], event):
            text = gettext(
                "with version %(old)s of the configuration, although %(new)s had been in force since %(time)s"
            )
            words = {"old": event.version, "new": edit[1], "time": format_time(edit[0])}
            return Age(text % words, True, is_version=True)
        if event.code == self.code:
            return None
        text = (
            gettext("with other models, files or binding classes than the processes that serve sockets")
            if self.processes.usual_code
            else gettext("with other models, files or binding classes than the process that answers this")
        )
        return Age(text, self._was_there(event))

    def should_have_ended(self, event: Event, age: Age) -> bool:
        """Return whether a process made an event lately, although the others had been restarted long before."""
        if not age.is_sure or timezone.now() - event.created_at > RECENT:
            return False
        if age.is_version:
            return True
        first = Event.objects.using(self.using).filter(pk=self.first or 0).first()
        return first is not None and event.created_at - first.created_at > DEPLOYMENT

    def _is_later(self, version: int, event: Event) -> bool:
        """Return whether the log has an edit after an event, which the clocks of two hosts may show the other way."""
        edits = Event.objects.using(self.using).filter(kind=Event.CONTROL, version=version, pk__gt=event.pk)
        return edits.exists()

    def find_old_writers(self) -> Iterator[tuple[Event, Age]]:
        """Yield the last events of processes that have lately made one with other code, or an older configuration.

        Processes with sockets are left out if their heartbeat shows the same.
        """
        served = {process.name for process in self.processes.live if process.fault}
        made: dict[str, Event] = {}
        events = shown(Event, self.using).exclude(code="").defer("data", "changes")
        for event in events.order_by("-pk")[:MAX_EVENTS]:
            made.setdefault(event.process, event)
        for name, event in made.items():
            age = self.judge(event)
            if age is not None and name not in served:
                yield event, age


def describe_old_writer(event: Event, age: Age) -> str:
    """Return what is known about the process that made an event, as a sentence."""
    return gettext("Process %(process)s made its last event, at %(time)s, %(how)s.") % {
        "process": name_writer(event),
        "time": format_time(event.created_at),
        "how": age.text,
    }


def name_writer(event: Event) -> str:
    """Return the process that made an event, with its program."""
    return f"{event.process or gettext('unknown')} ({describe_origin(event.origin) or gettext('not known')})"
