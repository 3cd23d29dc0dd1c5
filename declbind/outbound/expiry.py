"""Removal of values from stored events: from streams with a retention of their own, and on erasure.

An emptied event keeps its offset, so there is no gap, and a client whose replay includes it is made to take a snapshot.
Group names are removed too, because a template may have put a value of the row into a name.
"""

from __future__ import annotations

import json
from datetime import timedelta

from django.db import models, transaction
from django.utils import timezone

from declbind.conf import settings
from declbind.core.frames import EVERY_GROUP, RESYNC
from declbind.models import Event
from declbind.registry import current_registry

from . import log
from .history import offset_column

#: The kinds of event that hold values of a row.
WITH_VALUES = (Event.ROW, Event.GONE, Event.PAYLOAD)
#: How many events one call examines for each length of retention, and how many one statement empties.
BATCH, STATEMENT = 1_000, 200

_EVERYBODY = json.dumps([[EVERY_GROUP, RESYNC]])
#: A pass over the log: database, epoch, retention in seconds, and the streams with that retention.
_Walk = tuple[str, str, int, frozenset[str]]
#: The offset that each pass has reached. A restarted process begins again and finds earlier events already emptied.
_reached: dict[_Walk, int] = {}


def empty(events: models.QuerySet[Event], kind: str) -> int:
    """Remove values, keys and groups from events, and set their kind; return the number of events."""
    return events.update(kind=kind, changes=_EVERYBODY, data="{}", object_pk="null")


def short_retentions() -> dict[str, int]:
    """Return the seconds for which streams keep values, only for those with a shorter retention than the settings."""
    found: dict[str, int] = {}
    for entry in current_registry().entries:
        # A disabled binding may have values in the log, too.
        seconds = entry.binding.spec().retention if entry.binding is not None and not entry.problems else None
        if seconds is not None and seconds < settings.RETENTION_SECONDS:
            found[entry.stream] = seconds
    return found


def expire_values(using: str) -> int:
    """Empty one batch of expired events for each length of retention; return how many events were examined.

    Only numbered events are examined, in the order of their offsets. The same transaction appends control events that
    make other processes drop the values from memory.
    """
    by_seconds: dict[int, set[str]] = {}
    for stream, seconds in short_retentions().items():
        by_seconds.setdefault(seconds, set()).add(stream)
    if not by_seconds:
        _reached.clear()
        return 0
    head = log.load_head(using)
    walks: list[_Walk] = [(using, head.epoch, seconds, frozenset(streams)) for seconds, streams in by_seconds.items()]
    for walk in _reached.keys() - set(walks):
        _reached.pop(walk, None)
    passed = 0
    for walk in walks:
        after = max(_reached.get(walk, 0), head.min_offset - 1)
        last, found = _find_old(walk, after)
        if found:
            _expire(found, using)
        passed += last - after
        _reached[walk] = last
    return passed


def _find_old(walk: _Walk, after: int) -> tuple[int, dict[int, str]]:
    """Return the offset up to which all events have expired, and the streams of those with values, by offset."""
    using, _, seconds, streams = walk
    column = offset_column(using)
    too_old = timezone.now() - timedelta(seconds=seconds)
    rows = Event.objects.using(using).filter(**{f"{column}__gt": after}).order_by(column)
    last = after
    found: dict[int, str] = {}
    for offset, at, stream, kind in rows.values_list(column, "created_at", "stream", "kind")[:BATCH]:
        # Times may be out of order by the length of a transaction, so the pass stops at the first event that has not
        # expired. It also stops at a trigger's mark, whose events no process has read yet.
        if at >= too_old or kind == Event.MARK:
            break
        last = offset
        if stream in streams and kind in WITH_VALUES:
            found[offset] = stream
    return last, found


def _expire(found: dict[int, str], using: str) -> None:
    column, offsets = offset_column(using), list(found)
    with transaction.atomic(using=using):
        for start in range(0, len(offsets), STATEMENT):
            some = {f"{column}__in": offsets[start : start + STATEMENT]}
            empty(Event.objects.using(using).filter(**some, kind__in=WITH_VALUES), Event.EXPIRED)
        # The last offset of each stream overwrites the earlier ones.
        reached = {stream: offset for offset, stream in found.items()}
        log.append_control({"type": "expired", "streams": reached}, using)
