"""Times as operators read them: one format, in the site's time zone, which is named."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone


def format_time(moment: datetime) -> str:
    """Return a time such as ``2026-05-17 14:01:03 CEST``; without ``USE_TZ`` no zone is known, and none is named."""
    local = timezone.localtime(moment) if timezone.is_aware(moment) else moment
    return f"{local:%Y-%m-%d %H:%M:%S} {local.tzname() or ''}".strip()


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
        return f"{hours // 24} days"
    return f"{hours} h {left} min" if hours else f"{minutes} min"


def show_value(value: object) -> str:
    """Return the value of an evidence as text; a time is in the format of all times."""
    return format_time(value) if isinstance(value, datetime) else str(value)
