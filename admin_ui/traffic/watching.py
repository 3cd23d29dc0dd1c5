"""The lease of a viewer on the traffic of all processes, and the admin's log entries about watching."""

from __future__ import annotations

import hashlib
from datetime import timedelta

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.http import HttpRequest
from django.utils import timezone

from declbind import tenancy
from declbind.django_types import Operator
from declbind.models import BindingRecord, Watch
from declbind.registry import database_alias

#: The time after the last request of its page at which a watch ends.
LEASE_SECONDS = 30
#: A poll writes only if less than this is left of the lease: once in ten seconds, not at every poll.
RENEW_SECONDS = 20
SUBJECT = "Live traffic"
STARTED, STOPPED = "Started watching.", "Stopped watching."
LAPSED = "Stopped watching: the page sent no more requests."


def watch_page(request: HttpRequest) -> None:
    """Lease the traffic to the user of a request, unless another site made the browser send it.

    A watch costs each process work and is logged in the user's name, so a link or an image on a foreign page must
    not start one. Browsers report the origin of a request in ``Sec-Fetch-Site`` (W3C, Fetch Metadata Request
    Headers).
    """
    if request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin"):
        renew_watch(request.user)


def renew_watch(user: Operator) -> None:
    """Lease the traffic to this user's pages for another 30 s, and log it if the user had no lease."""
    now = timezone.now()
    held = Watch.objects.filter(viewer=_viewer(user)).first()
    if held is not None and held.until > now + timedelta(seconds=RENEW_SECONDS):
        return
    Watch.objects.update_or_create(viewer=_viewer(user), defaults={"until": now + timedelta(seconds=LEASE_SECONDS)})
    Watch.objects.filter(until__lt=now - timedelta(seconds=LEASE_SECONDS)).delete()
    if held is None or held.until < now:
        if _last_note(user) == STARTED:
            _note(user, LAPSED)
        _note(user, STARTED)


def end_watch(user: Operator) -> None:
    """End the lease because the page is left. Another page of the same user renews it by itself."""
    ended, _ = Watch.objects.filter(viewer=_viewer(user), until__gt=timezone.now()).delete()
    if ended:
        _note(user, STOPPED)


def _viewer(user: Operator) -> str:
    # The same user key means another user in each tenant.
    viewer = f"admin:{tenancy.owner_key(get_user_model(), str(user.pk), database_alias())}"
    return viewer if len(viewer) <= 64 else hashlib.sha256(viewer.encode()).hexdigest()


def _last_note(user: Operator) -> str:
    notes = LogEntry.objects.filter(
        user_id=str(user.pk), object_repr=SUBJECT, change_message__in=(STARTED, STOPPED, LAPSED)
    )
    return notes.order_by("-action_time", "-pk").values_list("change_message", flat=True).first() or ""


def _note(user: Operator, message: str) -> None:
    LogEntry.objects.create(
        user_id=str(user.pk),
        content_type_id=ContentType.objects.get_for_model(BindingRecord).pk,
        object_repr=SUBJECT,
        action_flag=CHANGE,
        change_message=message,
    )
