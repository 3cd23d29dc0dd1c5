"""The standing of a binding at a time: unknown, invalid, disabled, or closed for outbound frames."""

from __future__ import annotations

from collections.abc import Iterator

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

EDGE = "Name the time more exactly: the binding was edited within two minutes of it."


def explain_standing(case: Case) -> Iterator[Answer]:
    """Yield why the binding could not send anything at the time in question; nothing if it could."""
    question = case.question
    entry = get_registry().entry(question.stream)
    if entry is None:
        yield from _explain_unknown(case)
    elif entry.problems:
        text = " ".join(str(problem) for problem in entry.problems[:3])
        yield Answer(Cause.NOT_IN_FORCE, f"It is invalid: {text}", (("defined in", entry.where),))
    elif case.at is not None and case.definitions.revisions:
        yield from _explain_past(case)
    elif case.binding is None:
        yield Answer(Cause.NOT_IN_FORCE, "It is disabled now.", (("defined in", entry.where),))
    elif not case.binding.spec().outbound:
        yield Answer(Cause.CLOSED_DIRECTION, f"Its direction is {case.binding.spec().direction!r}.")


def explain_off_period(case: Case) -> Answer | None:
    """Return that the binding was off at some time since the row's last event."""
    since = case.latest.created_at if case.latest is not None else None
    found = case.definitions.off_since(since)
    if found is None or (case.latest is None and not _was_ever_on(case)):
        return None
    began, ended = found
    until = f" until {format_time(ended.created_at)}" if ended is not None else ""
    return likely(
        Cause.NOT_IN_FORCE,
        f"It was not in force from {format_time(began.created_at)}{until}, after the row's last event.",
        "Name the time of the write.",
        *_about(began),
        advice="Save the row again, now that the binding is in force." if ended is not None else "",
    )


def _was_ever_on(case: Case) -> bool:
    return any(map(is_in_force, case.definitions.revisions))


def _explain_unknown(case: Case) -> Iterator[Answer]:
    question = case.question
    removed = next((revision for revision in case.definitions.revisions if revision.definition is None), None)
    if removed is not None:
        evidence = (("removed at", removed.created_at), ("by", removed.author_name))
        yield Answer(Cause.NO_BINDING, f"There is no binding {question.stream!r}. It was removed.", evidence)
        return
    for found in find_unimported():
        if found.stream == question.stream:
            yield Answer(
                Cause.NO_BINDING,
                f"{found.module}.{found.name} defines it, and this process has not imported {found.module}.",
                advice="Move the class into the module bindings.py of an installed app, or import it there.",
            )
            return
    for cls, reason in find_unbound():
        if getattr(cls, "stream", "") == question.stream:
            yield Answer(Cause.NO_BINDING, f"{name_of(cls)} defines it and is not in force, because {reason}.")
            return
    near = suggest(question.stream, [entry.stream for entry in get_registry().entries])
    yield Answer(Cause.NO_BINDING, f"There is no binding {question.stream!r}.{near}")


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
                "The record of the binding did not exist at that time.",
                "Whether a file or a class defined the stream before.",
                *_about(first),
            )
    elif not is_in_force(then):
        gone = "removed" if then.definition is None else "disabled"
        answer = Answer(Cause.NOT_IN_FORCE, f"It was {gone} at that time.", _about(then))
    elif (then.definition or {}).get("direction", "both") == "inbound":
        answer = Answer(Cause.CLOSED_DIRECTION, "Its direction was 'inbound' at that time.", _about(then))
    if answer is not None:
        is_edge = any(_differs(edge, then) for edge in edges if edge is not then) or (then in edges and len(edges) > 0)
        yield answer.weaken(EDGE) if is_edge else answer
    elif any(not is_in_force(edge) for edge in edges):
        off = next(edge for edge in edges if not is_in_force(edge))
        yield likely(Cause.NOT_IN_FORCE, f"It was disabled at {format_time(off.created_at)}.", EDGE, *_about(off))


def _differs(one: BindingRevision, other: BindingRevision | None) -> bool:
    return other is None or is_in_force(one) != is_in_force(other)


def _about(revision: BindingRevision) -> tuple[tuple[str, object], ...]:
    by = (("by", revision.author_name),) if revision.author_name else ()
    return ("since", revision.created_at), ("configuration version", revision.version), *by


def is_certain(answer: Answer) -> bool:
    """Return whether an answer is certain."""
    return answer.certainty is Certainty.CERTAIN
