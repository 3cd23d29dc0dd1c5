"""Times as operators read them: one format, in the site's time zone, which is named."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext


def format_time(moment: datetime) -> str:
    """Return a time such as ``2026-05-17 14:01:03 CEST``; without ``USE_TZ`` no zone is known, and none is named."""
    local = timezone.localtime(moment) if timezone.is_aware(moment) else moment
    return f"{local:%Y-%m-%d %H:%M:%S} {local.tzname() or ''}".strip()


def parse_time(text: str) -> datetime | None:
    """Parse a moment as operators write it, in the site's time zone unless it names another; ``None`` if it is none.

    A time alone means today. The format of ``format_time`` is read too.
    """
    if len(text) <= 8:
        today = timezone.localdate() if settings.USE_TZ else timezone.now().date()
        text = f"{today.isoformat()} {text}"
    words, _, zone = text.rpartition(" ")
    if words and zone.isalpha():
        if zone not in ("UTC", timezone.localtime().tzname() if settings.USE_TZ else ""):
            return None
        text = f"{words}+00:00" if zone == "UTC" else words
    try:
        found = parse_datetime(text)
    except ValueError:
        return None
    if found is None or not 1900 <= found.year <= 2900:
        # Nothing was written then, and near the ends of the calendar the time window would overflow.
        return None
    if settings.USE_TZ:
        return timezone.make_aware(found) if timezone.is_naive(found) else found
    return timezone.make_naive(found) if timezone.is_aware(found) else found


def format_distance(distance: timedelta) -> str:
    """Return the time between two moments, such as ``0.3 s``, ``40 s`` or ``1 h 5 min``."""
    seconds = abs(distance.total_seconds())
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    hours, left = divmod(minutes, 60)
    if hours >= 48:
        return gettext("%(count)s days") % {"count": hours // 24}
    return f"{hours} h {left} min" if hours else f"{minutes} min"


def show_value(value: object) -> str:
    """Return the value of an evidence as text; a time is in the format of all times."""
    return format_time(value) if isinstance(value, datetime) else str(value)
