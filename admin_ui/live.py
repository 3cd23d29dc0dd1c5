"""The live page: frames going out and requests coming in, with their outcome."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.template.loader import render_to_string
from django.urls import URLPattern, path
from django.utils import timezone

from admin_ui import pages, traffic
from admin_ui.nodes import load_spread
from declbind.models import Watch
from declbind.registry import get_registry

#: A watch ends this long after its page was last heard of.
LEASE_SECONDS = 30
#: A poll writes only when the lease has less left: once in ten seconds, not with every look.
RENEW_SECONDS = 20
POLL_MILLISECONDS = 1000


def guarded(model_admin: Any, view: Callable[..., HttpResponse], *, answers_json: bool = False) -> Callable[..., Any]:
    """Let only staff with ``declbind.view_traffic`` in: 403 for others; who is not logged in may do so, on a page."""

    def show(request: HttpRequest) -> HttpResponse:
        return view(model_admin, request)

    wrapped = model_admin.admin_site.admin_view(show)

    def guard(request: HttpRequest) -> HttpResponse:
        allowed = model_admin.admin_site.has_permission(request) and pages.may_watch(request.user)
        if not allowed and answers_json:
            return JsonResponse({"error": "denied"}, status=403)
        if not allowed and request.user.is_authenticated:
            raise PermissionDenied
        response: HttpResponse = wrapped(request)
        return response

    return guard


def urls(model_admin: Any, prefix: str) -> list[URLPattern]:
    """Return the addresses of the page and of its polls."""
    return [
        path("live/", guarded(model_admin, live_view), name=f"{prefix}_live"),
        path("live/rows/", guarded(model_admin, rows_view, answers_json=True), name=f"{prefix}_live_rows"),
    ]


def live_view(model_admin: Any, request: HttpRequest) -> HttpResponse:
    """Show the newest rows; works without JavaScript, which only keeps the page going."""
    if renew_watch(request.user):
        pages.note_in_log(request, "Live traffic", "Started watching.")
    wanted = read_wanted(request)
    page = traffic.load_page(wanted)
    streams = sorted(get_registry().by_stream)
    return pages.render_page(
        model_admin,
        request,
        "live.html",
        "Live traffic",
        rows=page.rows,
        cursor=page.cursor,
        wanted=wanted,
        streams=streams if not wanted.stream or wanted.stream in streams else [wanted.stream, *streams],
        spread=load_spread(),
        max_rows=traffic.MAX_ROWS,
        poll_url=pages.page_url(model_admin, "live_rows"),
        poll_milliseconds=POLL_MILLISECONDS,
        may_see_bindings=model_admin.has_view_permission(request),
        refresh_url=f"?{_filters(request).urlencode()}",
    )


def rows_view(model_admin: Any, request: HttpRequest) -> HttpResponse:
    """Answer a poll: the rows after ``cursor`` as HTML, oldest first, each with its key; renews the watch."""
    cursor = traffic.Cursor.parse(request.GET.get("cursor", ""))
    if cursor is None:
        return JsonResponse({"error": "expected cursor=epoch:offset:number"}, status=400)
    renew_watch(request.user)
    page = traffic.load_page(read_wanted(request), cursor)
    rows = [
        {"key": row.key, "html": render_to_string("declbind_admin/live_row.html", {"row": row})}
        for row in reversed(page.rows)
    ]
    return JsonResponse(
        {"rows": rows, "cursor": str(page.cursor), "skipped": page.skipped, "reset": page.is_reset},
        headers={"Cache-Control": "no-store"},
    )


def read_wanted(request: HttpRequest) -> traffic.Wanted:
    """Read the filters from the address."""
    return traffic.Wanted(
        stream=request.GET.get("stream", "").strip()[:64],
        text=request.GET.get("q", "").strip()[:200],
        only_problems=request.GET.get("only") == "problems",
        models=traffic.readable_models(request.user),
    )


def renew_watch(user: Any) -> bool:
    """Lease the traffic to this user's page for another 30 s; tell whether nobody had it in this user's name."""
    now = timezone.now()
    viewer = f"admin:{user.pk}"
    if len(viewer) > 64:
        viewer = hashlib.sha256(viewer.encode()).hexdigest()
    until = now + timedelta(seconds=LEASE_SECONDS)
    held = Watch.objects.filter(viewer=viewer).first()
    if held is not None and held.until > now + timedelta(seconds=RENEW_SECONDS):
        return False
    Watch.objects.update_or_create(viewer=viewer, defaults={"until": until})
    Watch.objects.filter(until__lt=now - timedelta(seconds=LEASE_SECONDS)).delete()
    return held is None or held.until < now


def _filters(request: HttpRequest) -> QueryDict:
    return request.GET
