"""The standing of a binding at a time: unknown, invalid, disabled, or closed for outbound frames."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from declbind.console.times import format_time
from declbind.core.wording import suggest
from declbind.models import BindingRevision
from declbind.registry import get_registry
from declbind.sources.code import find_unbound, name_of
from declbind.sources.unimported import find_unimported

from .answer import Answer, likely
from .case import Case
from .causes import Cause
from .certainty import Certainty
from .definitions import is_in_force
from .question import WINDOW

EDGE = _("Name the time more exactly: the binding was edited within two minutes of it.")


def explain_standing(case: Case) -> Iterator[Answer]:
    """Yield why the binding could not send anything at the time in question; nothing if it could."""
    question = case.question
    entry = get_registry().entry(question.stream)
    if entry is None:
        yield from _explain_unknown(case)
    elif entry.problems:
        problems = " ".join(str(problem) for problem in entry.problems[:3])
        text = gettext("It is invalid: %(problems)s") % {"problems": problems}
        yield Answer(Cause.NOT_IN_FORCE, text, ((gettext("defined in"), entry.where),))
    elif case.at is not None and case.definitions.revisions:
        yield from _explain_past(case)
    elif case.binding is None:
        evidence = ((gettext("defined in"), entry.where),)
        yield Answer(Cause.NOT_IN_FORCE, gettext("It is disabled now."), evidence)
    elif not case.binding.spec().outbound:
        text = gettext("Its direction is %(direction)r.") % {"direction": case.binding.spec().direction}
        yield Answer(Cause.CLOSED_DIRECTION, text)


def explain_off_period(case: Case) -> Answer | None:
    """Return that the binding was off at some time since the row's last event."""
    since = case.latest.created_at if case.latest is not None else None
    found = case.definitions.off_since(since)
    if found is None or (case.latest is None and not _was_ever_on(case)):
        return None
    began, ended = found
    if ended is not None:
        text = gettext("It was not in force from %(begin)s until %(end)s, after the row's last event.") % {
            "begin": format_time(began.created_at),
            "end": format_time(ended.created_at),
        }
        advice = gettext("Save the row again, now that the binding is in force.")
    else:
        text = gettext("It was not in force from %(begin)s, after the row's last event.")
        text %= {"begin": format_time(began.created_at)}
        advice = ""
    settle = gettext("Name the time of the write.")
    return likely(Cause.NOT_IN_FORCE, text, settle, *_about(began), advice=advice)


def _was_ever_on(case: Case) -> bool:
    return any(map(is_in_force, case.definitions.revisions))


def _explain_unknown(case: Case) -> Iterator[Answer]:
    question = case.question
    removed = next((revision for revision in case.definitions.revisions if revision.definition is None), None)
    if removed is not None:
        evidence = ((gettext("removed at"), removed.created_at), (gettext("by"), removed.author_name))
        text = gettext("There is no binding %(stream)r. It was removed.") % {"stream": question.stream}
        yield Answer(Cause.NO_BINDING, text, evidence)
        return
    for found in find_unimported():
        if found.stream == question.stream:
            text = gettext("%(class)s defines it, and this process has not imported %(module)s.") % {
                "class": f"{found.module}.{found.name}",
                "module": found.module,
            }
            advice = gettext("Move the class into the module bindings.py of an installed app, or import it there.")
            yield Answer(Cause.NO_BINDING, text, advice=advice)
            return
    for cls, reason in find_unbound():
        if getattr(cls, "stream", "") == question.stream:
            text = gettext("%(class)s defines it and is not in force, because %(reason)s.")
            yield Answer(Cause.NO_BINDING, text % {"class": name_of(cls), "reason": reason})
            return
    near = suggest(question.stream, [entry.stream for entry in get_registry().entries])
    text = gettext("There is no binding %(stream)r.") % {"stream": question.stream}
    yield Answer(Cause.NO_BINDING, f"{text}{near}")


def _explain_past(case: Case) -> Iterator[Answer]:
    """Judge the record by its revisions: as it was at the time in question."""
    at, definitions = case.at, case.definitions
    assert at is not None
    then = definitions.at(at)
    edges = definitions.edges_near(at - WINDOW, at + WINDOW)
    answer: Answer | None = None
    if then is None:
        if definitions.are_whole:
            first = definitions.revisions[-1]
            answer = likely(
                Cause.NOT_IN_FORCE,
                gettext("The record of the binding did not exist at that time."),
                gettext("Whether a file or a class defined the stream before."),
                *_about(first),
            )
    elif not is_in_force(then):
        text = (
            gettext("It was removed at that time.")
            if then.definition is None
            else gettext("It was disabled at that time.")
        )
        answer = Answer(Cause.NOT_IN_FORCE, text, _about(then))
    elif (then.definition or {}).get("direction", "both") == "inbound":
        text = gettext("Its direction was 'inbound' at that time.")
        answer = Answer(Cause.CLOSED_DIRECTION, text, _about(then))
    if answer is not None:
        is_edge = any(_differs(edge, then) for edge in edges if edge is not then) or (then in edges and len(edges) > 0)
        yield answer.weaken(str(EDGE)) if is_edge else answer
    elif any(not is_in_force(edge) for edge in edges):
        off = next(edge for edge in edges if not is_in_force(edge))
        text = gettext("It was disabled at %(time)s.") % {"time": format_time(off.created_at)}
        yield likely(Cause.NOT_IN_FORCE, text, str(EDGE), *_about(off))


def _differs(one: BindingRevision, other: BindingRevision | None) -> bool:
    return other is None or is_in_force(one) != is_in_force(other)


def _about(revision: BindingRevision) -> tuple[tuple[str, object], ...]:
    by = ((gettext("by"), revision.author_name),) if revision.author_name else ()
    version = (gettext("configuration version"), revision.version)
    return (gettext("since"), revision.created_at), version, *by


def is_certain(answer: Answer) -> bool:
    """Return whether an answer is certain."""
    return answer.certainty is Certainty.CERTAIN
