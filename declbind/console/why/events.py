"""The events of a row: the one in question, and its neighbours in time."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet
from django.utils.translation import gettext

from declbind import value_validation
from declbind.bindings import Binding
from declbind.console.shown import shown
from declbind.console.stored import read_changes
from declbind.console.times import format_time
from declbind.models import Event
from declbind.outbound import history
from declbind.serializers import encode_key

from .question import WINDOW, Question


@dataclass(frozen=True)
class Neighbours:
    """The last event of a row at or before a time, the first one after it, and its last one of all."""

    before: Event | None = None
    after: Event | None = None
    latest: Event | None = None

    def nearest(self, at: datetime) -> Event | None:
        """Return the nearer one, if it is within ``WINDOW``."""
        near = [event for event in (self.before, self.after) if event is not None]
        found = min(near, key=lambda event: abs(event.created_at - at), default=None)
        return found if found is not None and abs(found.created_at - at) <= WINDOW else None


def offset_of(event: Event) -> int | None:
    """Return an event's offset, or ``None`` if it has none yet."""
    return event.seq if history.needs_sequencer(event._state.db or "default") else event.pk


def groups_of(event: Event) -> list[tuple[str, str]]:
    """Return the groups of an event with the action for each."""
    return list(read_changes(event.changes))


def describe_place(event: Event) -> str:
    """Return the offset and the time of an event on one line."""
    offset = offset_of(event)
    number = gettext("no number yet") if offset is None else gettext("offset %(offset)s") % {"offset": offset}
    return f"{number}, {format_time(event.created_at)}"


def describe_event(event: Event) -> str:
    """Return the offset, the time and the groups of an event on one line."""
    text = gettext("%(action)s to %(group)s")
    groups = (text % {"action": action, "group": group} for group, action in groups_of(event)[:6])
    return f"{describe_place(event)}, {', '.join(groups)}"


def events_of(stream: str, using: str) -> QuerySet[Event]:
    """Return the events of a stream that readers get."""
    return shown(Event, using).filter(stream=stream).exclude(kind__in=(Event.CONTROL, Event.MARK))


def keys_of(row: str, binding: type[Binding] | None) -> set[str]:
    """Return the forms in which the log may hold a typed key."""
    keys = {json.dumps(row)}
    if binding is not None:
        try:
            key = binding.model_class()._meta.pk
            keys.add(encode_key(value_validation.coerce(key, row), key))
        except ValueError:
            pass
    elif row.lstrip("-").isdigit():
        keys.add(row)
    return keys


def find_neighbours(stream: str, keys: Collection[str], at: datetime | None, using: str) -> Neighbours:
    """Return the events of a row around a time; without a time only the last one. Takes one to three queries."""
    events = events_of(stream, using).filter(object_pk__in=keys).order_by("-pk")
    latest = events.first()
    if at is None or latest is None:
        return Neighbours(latest=latest)
    before = events.filter(created_at__lte=at).first()
    after = events.filter(created_at__gt=at).order_by("pk").first()
    return Neighbours(before, after, latest)


def find_event(question: Question, binding: type[Binding] | None, using: str) -> Event | None:
    """Return the change in question: the one at the offset, the nearest to the time, or the row's last one."""
    if question.offset is not None:
        column = history.offset_column(using)
        return events_of(question.stream, using).filter(**{column: question.offset}).first()
    found = find_neighbours(question.stream, keys_of(question.row, binding), question.at, using)
    return found.latest if question.at is None else found.nearest(question.at)


def find_latest(stream: str, keys: Collection[str], using: str) -> Event | None:
    """Return the last event of a row; ``keys`` are the forms in which the log may hold its key."""
    return events_of(stream, using).filter(object_pk__in=keys).order_by("-pk").first()


def oldest_kept(using: str) -> Event | None:
    """Return the oldest event of the log."""
    return shown(Event, using).order_by(history.offset_column(using)).first()


def offset_at(moment: datetime, using: str) -> int:
    """Return the offset that the log had reached at a moment."""
    column = history.offset_column(using)
    rows = Event.objects.using(using).filter(created_at__lte=moment, **{f"{column}__isnull": False})
    return rows.order_by(f"-{column}").values_list(column, flat=True).first() or 0
