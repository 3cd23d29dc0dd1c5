"""Clocks of hosts that differ, so that the times of changes, connections and edits cannot be compared."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from declbind.console.shown import shown
from declbind.console.times import format_distance, format_time
from declbind.models import Event, Node

from .answer import Answer, likely
from .case import Case
from .causes import Cause
from .events import offset_of

#: A difference that does not come from the clocks: writes take time, and heartbeats are stored late.
TOLERANCE = timedelta(seconds=5)
#: Causes whose evidence compares times of several hosts.
BY_TIME = frozenset(
    {
        Cause.NOBODY_SUBSCRIBED, Cause.NOT_CONNECTED, Cause.NOT_SUBSCRIBED, Cause.NOT_IN_FORCE, Cause.CLOSED_DIRECTION,
        Cause.REVOKED, Cause.KICKED, Cause.TOO_SLOW, Cause.OVER_LIMIT, Cause.PROCESS_LOST, Cause.PROCESS_BEHIND,
        Cause.ORIGIN, Cause.REFUSED, Cause.EXPIRED,
    }
)  # fmt: skip
SETTLE = _("Name the offset of the change, which needs no clock.")


def explain_clocks(case: Case) -> Answer | None:
    """Return that the clocks of two hosts differ, as far as the row's last change or a heartbeat shows it."""
    now = timezone.now()
    event = case.event or case.latest
    earlier = _find_earlier(case, event)
    if event is not None and event.created_at - now > TOLERANCE:
        text = gettext(
            "The change of %(time)s lies %(distance)s ahead of the clock here. It was made by process %(process)s."
        )
        distance = format_distance(event.created_at - now)
        return _answer(text % {**_words(event), "distance": distance}, event)
    if event is not None and earlier is not None:
        text = gettext(
            "The change of %(time)s by process %(process)s comes after one of %(earlier)s by process %(other)s in the "
            "log."
        )
        other = {"earlier": format_time(earlier.created_at), "other": _words(earlier)["process"]}
        return _answer(text % {**_words(event), **other}, event)
    ahead = Node.objects.using(case.using).filter(seen_at__gt=now + TOLERANCE).order_by("-seen_at").first()
    if ahead is None:
        return None
    text = gettext("The clock of process %(process)s is %(distance)s ahead of the clock here.")
    words = {"process": ahead, "distance": format_distance(ahead.seen_at - now)}
    return likely(Cause.CLOCKS, text % words, str(SETTLE))


def _words(event: Event) -> dict[str, str]:
    return {"time": format_time(event.created_at), "process": event.process or gettext("unknown")}


def _find_earlier(case: Case, event: Event | None) -> Event | None:
    """Return the event before another one in the log, if its time is a later one."""
    if event is None:
        return None
    before = shown(Event, case.using).filter(pk__lt=event.pk, kind__in=(Event.ROW, Event.GONE)).order_by("-pk").first()
    if before is None or before.created_at - event.created_at <= TOLERANCE:
        return None
    return before


def _answer(text: str, event: Event) -> Answer:
    at = (gettext("time of the change"), event.created_at)
    return likely(Cause.CLOCKS, text, str(SETTLE), at, (gettext("offset"), offset_of(event)))


def weaken_by_clocks(answers: list[Answer], clocks: Answer | None) -> list[Answer]:
    """Return answers, those that compare times weakened if clocks differ, and with the answer about the clocks."""
    if clocks is None:
        return answers
    found = [
        answer.weaken(gettext("The clocks of the hosts differ.")) if answer.cause in BY_TIME else answer
        for answer in answers
    ]
    has_sent = any(answer.cause is Cause.SENT for answer in found)
    return [*found, clocks] if has_sent else [clocks, *found]
