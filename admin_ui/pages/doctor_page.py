"""The page of the doctor: everything that is examined, its meaning, and how to fix problems."""

from __future__ import annotations

import time

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from admin_ui.common import screen
from admin_ui.common.phrases import StrOrPromise
from admin_ui.common.screen import RecordAdmin
from declbind.console import doctor
from declbind.console.finding import Level
from declbind.registry import database_alias

#: The time limit of an examination, so that the page always responds; the command has no limit.
LIMIT_SECONDS = 10.0
#: The names of the levels here, worst first: the heading of the group, the end of its CSS class, and the word
#: beside each finding.
LEVELS: tuple[tuple[Level, StrOrPromise, str, StrOrPromise], ...] = (
    ("bad", gettext_lazy("To fix"), "bad", gettext_lazy("bad")),
    ("note", gettext_lazy("Worth knowing"), "note", gettext_lazy("note")),
    ("ok", gettext_lazy("Well"), "well", gettext_lazy("well")),
)


def urls(model_admin: RecordAdmin, prefix: str) -> list[URLPattern]:
    """Return the address of the page."""

    def show(request: HttpRequest) -> HttpResponse:
        return doctor_view(model_admin, request)

    return [path("doctor/", model_admin.admin_site.admin_view(show), name=f"{prefix}_doctor")]


def doctor_view(model_admin: screen.RecordAdmin, request: HttpRequest) -> HttpResponse:
    """Run the examination, and show the findings, worst first."""
    if not screen.may_examine(model_admin, request):
        raise PermissionDenied
    began = time.monotonic()
    findings = doctor.examine(database_alias(), LIMIT_SECONDS)
    groups = [
        (heading, word, label, [finding for finding in findings if finding.level == level])
        for level, heading, word, label in LEVELS
    ]
    return screen.render_page(
        model_admin,
        request,
        "doctor.html",
        _("Doctor"),
        groups=[group for group in groups if group[3]],
        bad=sum(finding.level == "bad" for finding in findings),
        total=len(findings),
        at=timezone.now(),
        seconds=time.monotonic() - began,
        may_see_bindings=model_admin.has_view_permission(request),
    )
