"""Explanations of a write without an event of its own: sent in bulk, still a trigger's mark, or not captured."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta

from django.db.models import QuerySet
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from declbind.bindings import Binding
from declbind.console import bulk, unseen
from declbind.console.shown import shown
from declbind.console.stored import read_json
from declbind.console.times import format_distance, format_time
from declbind.console.writers import describe_writer
from declbind.core.frames import EVERY_GROUP
from declbind.models import Event
from declbind.outbound.triggers.tables import table_models

from .answer import Answer, likely
from .case import Case
from .causes import Cause
from .certainty import Certainty
from .delivery import explain_event
from .events import groups_of, offset_of
from .question import NEAR, WINDOW
from .standing import explain_off_period
from .stored_row import says_it_is_there

#: The number of bulk events, and of marks, that are examined.
MAX_BULKS, MAX_MARKS = 200, 1_000
OR_IN_BULK = _(
    "A bulk event holds no rows, so this row may have been one of them. Name the offset of the bulk event, or compare "
    "the row with what the client holds after its snapshot."
)


def explain_missed_write(case: Case) -> Iterator[Answer]:
    """Yield that the row was written since its last event: if it differs from it, or if it is gone."""
    latest = case.latest
    if latest is None or case.binding is None:
        return
    if case.row is not None:
        comparison = case.comparison
        if comparison is None or not comparison.names:
            return
        text = gettext("What is stored is not what was announced last: %(fields)s.")
        text %= {"fields": ", ".join(comparison.names)}
        is_sure = comparison.is_sure
    elif says_it_is_there(latest, case.definitions):
        text, is_sure = gettext("The row is gone, and the log does not say so."), True
    else:
        return
    if _has_newer(case, latest):
        return
    evidence = (
        (gettext("the last change announced"), latest.created_at),
        (gettext("by"), describe_writer(latest.actor, latest.origin)),
    )
    answers = list(explain_uncaptured(case.binding, text, evidence, case.using))
    if not is_sure:
        unsure = gettext(
            "The data is made by code or by another definition than before, which may explain the difference."
        )
        answers = [answer.weaken(unsure) for answer in answers]
    if case.at is not None and latest.created_at - case.at > NEAR:
        later = gettext("This write came after the change of %(time)s, and so after the time asked.")
        later %= {"time": format_time(latest.created_at)}
        answers = [answer.weaken(later) for answer in answers]
    yield from explain_alternatives(case, answers, latest)


def explain_alternatives(case: Case, answers: list[Answer], latest: Event | None) -> Iterator[Answer]:
    """Yield answers that a write left no event, and what else may explain that: a bulk event, or a disabled binding."""
    off = explain_off_period(case)
    if off is not None:
        doubt = gettext("It depends on whether the binding was in force.")
        answers = [off, *(answer.weaken(doubt) for answer in answers)]
    is_waiting = any(answer.cause is Cause.NOT_SEQUENCED for answer in answers)
    told = None if is_waiting or case.is_named else _find_bulk_of_row(case, latest)
    if told is None:
        yield from answers
        return
    in_bulk = explain_bulk(case, told, is_named=False)
    answers = [answer.weaken(str(OR_IN_BULK)) for answer in answers]
    is_far = case.at is not None and abs(told.created_at - case.at) > NEAR
    yield from (*answers, *in_bulk) if is_far else (*in_bulk, *answers)


def _has_newer(case: Case, latest: Event) -> bool:
    """Return whether the row was announced between the read of its last event and that of the row."""
    newest = shown(Event, case.using).filter(stream=latest.stream, object_pk=latest.object_pk, pk__gt=latest.pk)
    return newest.exists()


def _find_bulk_of_row(case: Case, latest: Event | None) -> Event | None:
    """Return the bulk event that may have been for the row: after its own last event, to one of its groups."""
    groups = [*case.groups, *(group for group, _ in groups_of(latest))] if latest is not None else case.groups
    stream, using = case.question.stream, case.using
    near = find_bulk(stream, groups, using, after=latest, at=case.at, window=WINDOW)
    # The time may be wrong, and any later bulk event explains that the row differs from its own last event.
    return near if near is not None or latest is None else find_bulk(stream, groups, using, after=latest)


def find_bulk(
    stream: str,
    groups: Collection[str],
    using: str,
    *,
    after: Event | None,
    at: datetime | None = None,
    window: timedelta = WINDOW,
) -> Event | None:
    """Return the bulk event for one of the groups, after an event of the row: nearest to a time, or last.

    The rows of a bulk event are not stored. A row that was written and is in such a group may well be one of them.
    """
    events: QuerySet[Event] = shown(Event, using).filter(stream=stream, kind=Event.BULK)
    if at is not None:
        events = events.filter(created_at__range=(at - window, at + window))
    if after is not None:
        events = events.filter(pk__gt=after.pk)
    found = [event for event in events.order_by("-pk")[:MAX_BULKS] if _tells(event, groups)]
    if at is None:
        return found[0] if found else None
    asked = at
    return min(found, key=lambda event: abs(event.created_at - asked), default=None)


def _tells(event: Event, groups: Collection[str]) -> bool:
    told = {group for group, _ in groups_of(event)}
    return any(bulk.is_concerned(group, told) for group in groups)


def explain_bulk(case: Case, event: Event, *, is_named: bool) -> list[Answer]:
    """Return that a row was part of a bulk event, and what became of the event for each connection."""
    told = [group for group, _ in groups_of(event)]
    is_every = EVERY_GROUP in told
    distance: tuple[tuple[str, object], ...] = ()
    if case.at is not None:
        distance = ((gettext("distance from the time asked"), format_distance(event.created_at - case.at)),)
    evidence = (
        (gettext("written"), event.created_at),
        *distance,
        (gettext("groups asked"), gettext("every one") if is_every else len(told)),
        (gettext("by"), describe_writer(event.actor, event.origin)),
    )
    # Raising the limit does not help if it is not known which rows were written.
    advice = gettext("Nothing, if the client takes a snapshot after a `resync`.") if is_every else ""
    answer = Answer(Cause.BULK_RESYNC, _describe_bulk(event, is_every=is_every), evidence, advice=advice)
    question = case.question
    answers = [answer, *explain_event(event, question.user, question.connection, case.binding, case.using)]
    return answers if is_named else [each.weaken(str(OR_IN_BULK)) for each in answers]


def _describe_bulk(event: Event, *, is_every: bool) -> str:
    offset = offset_of(event)
    if is_every:
        text = (
            gettext(
                "The rows written at %(time)s could not be sent row by row: every group of the stream was asked to "
                "take a snapshot."
            )
            if offset is None
            else gettext(
                "The rows written at %(time)s could not be sent row by row: every group of the stream was asked to "
                "take a snapshot, at offset %(offset)s."
            )
        )
    else:
        text = (
            gettext(
                "More than %(limit)s rows were written by one call at %(time)s: its groups were asked to take a "
                "snapshot."
            )
            if offset is None
            else gettext(
                "More than %(limit)s rows were written by one call at %(time)s: its groups were asked to take a "
                "snapshot, at offset %(offset)s."
            )
        )
    return text % {"limit": bulk.limit(), "time": format_time(event.created_at), "offset": offset}


def explain_uncaptured(
    binding: type[Binding], text: str, evidence: tuple[tuple[str, object], ...], using: str, settle: str = ""
) -> Iterator[Answer]:
    """Yield why a write has no event at all: its mark is waiting, or the binding does not capture such writes.

    With ``settle``, it is only likely that there was such a write.
    """
    waiting = _count_marks(binding, using)
    if waiting:
        yield likely(
            Cause.NOT_SEQUENCED,
            gettext("Triggers have marked writes to its tables that have no events yet, perhaps this one."),
            gettext("Wait until the marks are numbered, and ask again."),
            (gettext("notes that wait"), waiting),
        )
    gaps = unseen.find_gaps(binding, using)
    if not gaps:
        unknown = gettext("No uncaptured write is known, so it was written before the binding or its triggers existed.")
        text = f"{text} {unknown}"
    faults = [gap for gap in gaps if gap.is_fault]
    answer = Answer(
        Cause.NOT_CAPTURED,
        text,
        (*evidence, *((gettext("not seen"), gap.text) for gap in faults or gaps)),
        advice=" ".join(dict.fromkeys(gap.action for gap in faults or gaps)),
    )
    if waiting:
        answer = answer.weaken(gettext("Wait until the marks are numbered, and ask again."))
    yield answer.weaken(settle, Certainty.LIKELY) if settle else answer


def _count_marks(binding: type[Binding], using: str) -> int:
    """Return how many marks of the binding's tables are waiting."""
    if not unseen.wants_triggers(binding):
        return 0
    tables = {model._meta.db_table for model in table_models(binding.model_class())}
    marks = shown(Event, using).filter(kind=Event.MARK).order_by("pk").values_list("data", flat=True)
    noted = (read_json(data) for data in marks[:MAX_MARKS])
    return sum(isinstance(note, dict) and note.get("table") in tables for note in noted)
