"""Explanations of a write without an event in the log: sent in bulk, still a trigger's mark, or not captured."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta

from django.db.models import QuerySet

from declbind.bindings import Binding
from declbind.console import bulk, unseen
from declbind.console.shown import shown
from declbind.console.stored import read_json
from declbind.console.writers import describe_writer
from declbind.core.frames import EVERY_GROUP
from declbind.models import Event
from declbind.outbound.triggers.tables import table_models

from .causes import Answer, Cause
from .delivery import explain_event, groups_of, offset_of

#: The number of bulk events, and of marks, that are examined.
MAX_BULKS, MAX_MARKS = 200, 1_000


def find_bulk(
    stream: str, groups: Collection[str], using: str, *, after: Event | None, at: datetime | None, window: timedelta
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
    concerned = {group for group, _ in groups_of(event)}
    return any(bulk.is_concerned(group, concerned) for group in groups)


def explain_bulk(event: Event, user: str, connection: str, binding: type[Binding] | None, using: str) -> list[Answer]:
    """Return that a row was part of a bulk event, and what became of the event for each connection."""
    groups = [group for group, _ in groups_of(event)]
    is_every = EVERY_GROUP in groups
    offset = offset_of(event)
    number = f", at offset {offset}" if offset is not None else ""
    text = (
        f"The rows written at {event.created_at:%H:%M:%S} could not be sent row by row: every group of the stream was "
        f"asked to take a snapshot{number}."
        if is_every
        else f"More than {bulk.limit()} rows were written by one call at {event.created_at:%H:%M:%S}: its groups were "
        f"asked to take a snapshot{number}."
    )
    evidence = (
        ("written", event.created_at),
        ("groups asked", "every one" if is_every else len(groups)),
        ("by", describe_writer(event.actor, event.origin)),
    )
    # Raising the limit does not help if it is not known which rows were written.
    advice = "Nothing, if the client takes a snapshot after a `resync`." if is_every else ""
    answer = Answer(Cause.BULK_RESYNC, text, evidence, advice=advice)
    return [answer, *explain_event(event, user, connection, binding, using)]


def explain_uncaptured(
    binding: type[Binding], text: str, evidence: tuple[tuple[str, object], ...], using: str
) -> Iterator[Answer]:
    """Yield why a write has no event at all: its mark is waiting, or the binding does not capture such writes."""
    waiting = _count_marks(binding, using)
    if waiting:
        yield Answer(
            Cause.NOT_SEQUENCED,
            "Triggers have marked writes to its tables that have no events yet, perhaps this one.",
            (("notes that wait", waiting),),
        )
    gaps = unseen.find_gaps(binding, using)
    if not gaps:
        text = f"{text} No uncaptured write is known, so it was written before the binding or its triggers existed."
    faults = [gap for gap in gaps if gap.is_fault]
    yield Answer(
        Cause.NOT_CAPTURED,
        text,
        (*evidence, *(("not seen", gap.text) for gap in faults or gaps)),
        advice=" ".join(dict.fromkeys(gap.action for gap in faults or gaps)),
    )


def _count_marks(binding: type[Binding], using: str) -> int:
    """Return how many marks of the binding's tables are waiting."""
    if not unseen.wants_triggers(binding):
        return 0
    tables = {model._meta.db_table for model in table_models(binding.model_class())}
    marks = shown(Event, using).filter(kind=Event.MARK).order_by("pk").values_list("data", flat=True)
    noted = (read_json(data) for data in marks[:MAX_MARKS])
    return sum(isinstance(note, dict) and note.get("table") in tables for note in noted)
