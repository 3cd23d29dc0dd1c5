"""Processes that run other code or an older configuration than the rest, with and without sockets.

Processes with sockets have a heartbeat. Every other process is known by the events that it has made: each carries the
process, the digest of its code, and the version of its configuration. A process without either is not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from declbind.code_digest import digest_code
from declbind.conf import settings
from declbind.console.processes import Processes, load_processes
from declbind.console.shown import shown
from declbind.console.times import format_time
from declbind.console.writers import describe_writer
from declbind.models import BindingRevision, Event
from declbind.registry import get_registry

from .answer import Answer, cannot_tell, likely
from .case import Case
from .causes import Cause
from .certainty import Certainty
from .events import groups_of, offset_of
from .stored_row import data_names

#: The number of events and of revisions that are read.
MAX_EVENTS, MAX_REVISIONS = 2_000, 500
#: The least time after an edit from which a process that has not read it counts as old.
PATIENCE = timedelta(seconds=10)
RESTART = _("Restart that process, and save the row again.")
REPEAT = _("Whether this process wrote the row. Restart it, and repeat the write.")


@dataclass(frozen=True)
class Age:
    """What is other about the process that made an event, and how sure it is that others were ahead of it then."""

    text: str
    certainty: Certainty
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

    def _was_there(self, event: Event) -> Certainty:
        """Return how sure it is that the expected code was deployed before an event was made."""
        if self.first is not None and self.first < event.pk:
            return Certainty.CERTAIN
        starts = [process.started_at for process in self.processes.live if process.code == self.code]
        return Certainty.LIKELY if min(starts, default=event.created_at) < event.created_at else Certainty.CANNOT_TELL

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
            return Age(text % words, Certainty.CERTAIN, is_version=True)
        if event.code == self.code:
            return None
        text = (
            gettext("with other models, files or binding classes than the processes that serve sockets")
            if self.processes.usual_code
            else gettext("with other models, files or binding classes than the process that answers this")
        )
        return Age(text, self._was_there(event))

    def _is_later(self, version: int, event: Event) -> bool:
        """Return whether the log has an edit after an event, which the clocks of two hosts may show the other way."""
        edits = Event.objects.using(self.using).filter(kind=Event.CONTROL, version=version, pk__gt=event.pk)
        return edits.exists()


def explain_old_processes(present: Present) -> Iterator[Answer]:
    """Yield the live processes whose bindings or code are not those of the others."""
    for process in present.processes.live:
        if process.fault:
            yield likely(
                Cause.OLD_CODE,
                gettext("Process %(process)s %(fault)s.") % {"process": process.name, "fault": process.fault},
                gettext("Whether this process wrote the row, or served the user."),
                (gettext("running since"), process.started_at),
                (gettext("configuration version"), process.version),
                (gettext("hash of its bindings"), process.digest),
            )


def explain_old_writers(present: Present) -> Iterator[Answer]:
    """Yield the processes that have lately made events with other code, or with an older configuration.

    They may serve no sockets, such as a worker of a task queue.
    """
    served = {process.name for process in present.processes.live if process.fault}
    made: dict[str, Event] = {}
    for event in shown(Event, present.using).exclude(code="").order_by("-pk")[:MAX_EVENTS]:
        made.setdefault(event.process, event)
    for name, event in made.items():
        age = present.judge(event)
        if age is None or name in served:
            continue
        cause = Cause.OLD_VERSION if age.is_version else Cause.OLD_CODE
        text = gettext("Process %(process)s made its last event, at %(time)s, %(how)s.") % {
            "process": _name(event),
            "time": format_time(event.created_at),
            "how": age.text,
        }
        evidence = ((gettext("stream of that event"), event.stream), (gettext("offset"), offset_of(event)))
        if age.certainty is not Certainty.CANNOT_TELL:
            yield likely(cause, text, str(REPEAT), *evidence, advice=str(RESTART))
        else:
            missing = gettext("When the present code was deployed, and whether this process still runs.")
            yield cannot_tell(cause, text, missing, *evidence, advice=str(RESTART))


def explain_maker(case: Case, event: Event, present: Present) -> Answer | None:
    """Return that the process that made an event gave it other groups or fields than present code would give it."""
    age = present.judge(event)
    if age is None or case.binding is None or event.kind != Event.ROW:
        return None
    groups = {group for group, action in groups_of(event) if action != "delete"}
    named, present_names = data_names(case.binding, case.row, event, case.using)
    differs: list[tuple[str, object]] = []
    # Only then do the row's present groups say which ones it had.
    if groups and case.is_unchanged and groups != set(case.groups):
        differs.append((gettext("groups it went to"), sorted(groups)))
        differs.append((gettext("groups it has now"), sorted(case.groups)))
    if named is not None and present_names is not None and named != present_names:
        differs.append((gettext("fields it has"), sorted(named)))
        differs.append((gettext("fields it would have now"), sorted(present_names)))
    if not differs:
        return None
    cause = Cause.OLD_VERSION if age.is_version else Cause.OLD_CODE
    text = gettext("The event was made by process %(process)s %(how)s.")
    answer = Answer(
        cause,
        text % {"process": _name(event), "how": age.text},
        (*differs, (gettext("offset"), offset_of(event))),
        advice=str(RESTART),
    )
    if age.certainty is not Certainty.CERTAIN:
        return answer.weaken(gettext("When the present code was deployed."), age.certainty)
    if case.binding.runs_code():
        return answer.weaken(
            gettext("Code of the binding makes its groups and fields, and may depend on more than the row.")
        )
    return answer


def _name(event: Event) -> str:
    writer = describe_writer("", event.origin)
    return f"{event.process or gettext('unknown')} ({writer})"
