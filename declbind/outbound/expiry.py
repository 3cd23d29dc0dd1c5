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
#: How many events one sweep looks at for each stream.
BATCH = 1_000

_EVERYBODY = json.dumps([[EVERY_GROUP, RESYNC]])
#: By database, epoch, stream and seconds, the offset up to which a stream's values have been taken out. Another process
#: that begins anew finds nothing left to do there.
_reached: dict[tuple[str, str, str, int], int] = {}


def empty(events: models.QuerySet[Event], kind: str) -> int:
    """Take values, keys and groups out of events, which become of this kind; return how many there were."""
    return events.update(kind=kind, changes=_EVERYBODY, data="{}", object_pk="null")


def short_retentions() -> dict[str, int]:
    """Return, by stream, for how many seconds values are kept where that is shorter than the settings say."""
    found: dict[str, int] = {}
    for stream, binding in current_registry().by_stream.items():
        seconds = binding.spec().retention
        if seconds is not None and seconds < settings.RETENTION_SECONDS:
            found[stream] = seconds
    return found


def expire_values(using: str) -> int:
    """Take out one batch of values of each stream that keeps them for less long; return how many events were passed.

    Only numbered events, in the order of their offsets. The processes learn in the same transaction what to forget.
    """
    retentions = short_retentions()
    if not retentions:
        return 0
    head = log.load_head(using)
    wanted = {(using, head.epoch, stream, seconds): stream for stream, seconds in retentions.items()}
    for key in _reached.keys() - wanted.keys():
        _reached.pop(key, None)
    passed = 0
    for key, stream in wanted.items():
        after = max(_reached.get(key, 0), head.min_offset - 1)
        last, old = _find_old(stream, retentions[stream], after, using)
        if old:
            _expire(stream, old, using)
        if last > after:
            passed += last - after
        _reached[key] = max(last, after)
    return passed


def _find_old(stream: str, seconds: int, after: int, using: str) -> tuple[int, list[int]]:
    """Return the offset up to which all events are older, and those of the stream among them that have values."""
    column = offset_column(using)
    too_old = timezone.now() - timedelta(seconds=seconds)
    rows = Event.objects.using(using).filter(**{f"{column}__gt": after}).order_by(column)
    last, found = after, []
    for offset, at, of, kind in rows.values_list(column, "created_at", "stream", "kind")[:BATCH]:
        # The order of times may differ from that of offsets by the length of a transaction: what follows waits for it.
        # A note of a trigger becomes events, which nobody has read yet.
        if at >= too_old or kind == Event.MARK:
            break
        last = offset
        if of == stream and kind in WITH_VALUES:
            found.append(offset)
    return last, found


def _expire(stream: str, offsets: list[int], using: str) -> None:
    column = offset_column(using)
    with transaction.atomic(using=using):
        for start in range(0, len(offsets), 200):
            some = offsets[start : start + 200]
            empty(
                Event.objects.using(using).filter(**{f"{column}__in": some}, stream=stream, kind__in=WITH_VALUES),
                Event.EXPIRED,
            )
        log.append_control({"type": "expired", "streams": {stream: offsets[-1]}}, using)
