"""The page that is shown when the database fails: what happened, what to do, and the form to submit again."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

from django.db import Error as DatabaseFailure
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver
from django.utils.translation import gettext as _

from admin_ui.common import screen
from admin_ui.common.screen import RecordAdmin
from declbind.console.database_fault import DatabaseFault, describe_fault, failed_alias
from declbind.registry import database_alias

logger = logging.getLogger("declbind")

#: Faults that pass by themselves, or once the database is available again. The others are conflicts or mistakes.
PASSING = frozenset({"collision", "locked", "timeout", "unreachable", "read-only", "full"})


Pattern = TypeVar("Pattern", bound=URLPattern | URLResolver)


def report_faults(model_admin: RecordAdmin, patterns: Iterable[Pattern]) -> list[Pattern]:
    """Make each page show an explanation instead of an internal error if the database fails.

    Asynchronous views are left unchanged, because they answer with a stream.
    """
    return [_reporting(model_admin, pattern) for pattern in patterns]


def _reporting(model_admin: RecordAdmin, pattern: Pattern) -> Pattern:
    if isinstance(pattern, URLPattern) and not inspect.iscoroutinefunction(pattern.callback):
        pattern.callback = _reporting_view(model_admin, pattern.callback)
    return pattern


def _reporting_view(model_admin: RecordAdmin, view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    @functools.wraps(view)
    def report(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except DatabaseFailure as error:
            if not _is_staff(model_admin, request):
                raise
            logger.exception("The page %s failed.", request.path)
            return _show(model_admin, request, describe_fault(error, failed_alias(error, database_alias())))

    return report


def _is_staff(model_admin: RecordAdmin, request: HttpRequest) -> bool:
    """Return whether the user may read the text, which names the database; false if that cannot be determined."""
    try:
        return bool(model_admin.admin_site.has_permission(request))
    except DatabaseFailure:
        return False


def _show(model_admin: RecordAdmin, request: HttpRequest, fault: DatabaseFault) -> HttpResponse:
    status = 503 if fault.kind in PASSING else 500
    is_edit = request.method == "POST"
    outcome = fault.outcome if is_edit else ""
    sent = [
        (name, value)
        for name, values in request.POST.lists()
        for value in values
        if name != "csrfmiddlewaretoken" and isinstance(value, str)
    ]
    try:
        page = screen.render_page(
            model_admin,
            request,
            "database_fault.html",
            _("The database cannot do this now") if status == 503 else _("The database refused"),
            status=status,
            fault=fault,
            outcome=outcome,
            # A file has to be selected again.
            sent=sent if is_edit and not request.FILES else [],
            address=request.get_full_path(),
        )
        return page.render()
    except DatabaseFailure:
        # The frame of the page makes queries too.
        return HttpResponse(f"{fault} {outcome}".strip(), status=status, content_type="text/plain; charset=utf-8")
