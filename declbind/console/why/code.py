"""Answers about processes that run other code or an older configuration than the rest."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from declbind.console.old_code import Present, describe_old_writer, name_writer
from declbind.models import Event

from .answer import Answer, cannot_tell, likely
from .case import Case
from .causes import Cause
from .certainty import Certainty
from .events import groups_of, offset_of
from .stored_row import data_names

RESTART = _("Restart that process, and save the row again.")
REPEAT = _("Whether this process wrote the row. Restart it, and repeat the write.")


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
    for event, age in present.find_old_writers():
        cause = Cause.OLD_VERSION if age.is_version else Cause.OLD_CODE
        text = describe_old_writer(event, age)
        evidence = ((gettext("stream of that event"), event.stream), (gettext("offset"), offset_of(event)))
        if age.is_sure is not None:
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
        text % {"process": name_writer(event), "how": age.text},
        (*differs, (gettext("offset"), offset_of(event))),
        advice=str(RESTART),
    )
    if not age.is_sure:
        certainty = Certainty.CANNOT_TELL if age.is_sure is None else Certainty.LIKELY
        return answer.weaken(gettext("When the present code was deployed."), certainty)
    if case.binding.runs_code():
        return answer.weaken(
            gettext("Code of the binding makes its groups and fields, and may depend on more than the row.")
        )
    return answer
