"""The page of the processes that serve sockets: the configuration and the lag of each."""

from __future__ import annotations

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _

from admin_ui.common import screen
from admin_ui.common.ages import describe_age
from admin_ui.common.screen import RecordAdmin
from declbind.console.processes import load_processes
from declbind.console.shown import sees_all
from declbind.registry import database_alias


def urls(model_admin: RecordAdmin, prefix: str) -> list[URLPattern]:
    """Return the address of the page."""

    def show(request: HttpRequest) -> HttpResponse:
        return processes_view(model_admin, request)

    return [path("processes/", model_admin.admin_site.admin_view(show), name=f"{prefix}_processes")]


def processes_view(model_admin: screen.RecordAdmin, request: HttpRequest) -> HttpResponse:
    """Show all processes, live ones first."""
    if not (sees_all() and request.user.has_perm("declbind.view_node")):
        raise PermissionDenied
    found = load_processes(database_alias())
    return screen.render_page(
        model_admin,
        request,
        "processes.html",
        _("Processes"),
        found=found,
        rows=[
            (process, describe_age(process.started_at), describe_age(process.seen_at)) for process in found.processes
        ],
        may_see_bindings=model_admin.has_view_permission(request),
    )
