"""Take the values out of events: those of a stream with a retention of its own, and those that somebody has erased.

An emptied event keeps its place, so offsets have no gap, and replays that come across it have their client take a
snapshot. Groups are emptied too, because a template may have put a value of the row into a name.
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
#: How many events one call looks at for each length of retention, and how many are emptied by one statement.
BATCH, STATEMENT = 1_000, 200

_EVERYBODY = json.dumps([[EVERY_GROUP, RESYNC]])
#: The streams that keep values for so many seconds, in one epoch of the log of a database.
_Walk = tuple[str, str, int, frozenset[str]]
#: The offset that each walk has come to. A process that begins anew finds nothing left to do there.
_reached: dict[_Walk, int] = {}


def empty(events: models.QuerySet[Event], kind: str) -> int:
    """Take values, keys and groups out of events, which become of this kind; return how many there were."""
    return events.update(kind=kind, changes=_EVERYBODY, data="{}", object_pk="null")


def short_retentions() -> dict[str, int]:
    """Return, by stream, for how many seconds values are kept where that is shorter than the settings say."""
    found: dict[str, int] = {}
    for entry in current_registry().entries:
        # One that is switched off may have values in the log, too.
        seconds = entry.binding.spec().retention if entry.binding is not None and not entry.problems else None
        if seconds is not None and seconds < settings.RETENTION_SECONDS:
            found[entry.stream] = seconds
    return found


def expire_values(using: str) -> int:
    """Take out one batch of values of each stream that keeps them for less long; return how many events were passed.

    Only numbered events, in the order of their offsets. The processes learn in the same transaction what to forget.
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
    """Return the offset up to which all events are older, and of those with values the offsets with their streams."""
    using, _, seconds, streams = walk
    column = offset_column(using)
    too_old = timezone.now() - timedelta(seconds=seconds)
    rows = Event.objects.using(using).filter(**{f"{column}__gt": after}).order_by(column)
    last = after
    found: dict[int, str] = {}
    for offset, at, stream, kind in rows.values_list(column, "created_at", "stream", "kind")[:BATCH]:
        # The order of times may differ from that of offsets by the length of a transaction: what follows waits for it.
        # A note of a trigger becomes events, which nobody has read yet.
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
        # The last offset of each stream is the one that stays.
        reached = {stream: offset for offset, stream in found.items()}
        log.append_control({"type": "expired", "streams": reached}, using)
