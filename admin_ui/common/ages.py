"""The time since a moment, in words that are translated without ``django.contrib.humanize`` among the apps."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import ngettext


def describe_age(moment: datetime) -> str:
    """Return how long ago a moment was, such as "5 seconds ago" or "2 hours, 3 minutes ago"."""
    now = timezone.now()
    seconds = int((now - moment).total_seconds())
    if seconds < 1:
        return _("now")
    if seconds < 60:
        return ngettext("{number} second ago", "{number} seconds ago", seconds).format(number=seconds)
    return _("{duration} ago").format(duration=timesince(moment, now))
