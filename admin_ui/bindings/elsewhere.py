"""Pages for the bindings that files and classes define, and copies of them."""

from __future__ import annotations

from collections.abc import Mapping

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from admin_ui.bindings.binding_page import describe_use
from admin_ui.bindings.sight import load_sight
from admin_ui.bindings.summary import Summary, summarise_entry
from admin_ui.common import documents, screen
from admin_ui.common.screen import RecordAdmin
from admin_ui.editor.proposals import free_stream, taken_streams
from declbind.registry import get_registry
from declbind.sources.files import load_files


def urls(model_admin: RecordAdmin, prefix: str) -> list[URLPattern]:
    """Return the address of the page."""

    def show(request: HttpRequest, where: str) -> TemplateResponse:
        return elsewhere_view(model_admin, request, where)

    return [path("defined/<path:where>/", model_admin.admin_site.admin_view(show), name=f"{prefix}_elsewhere")]


def load_elsewhere() -> list[Summary]:
    """Return the bindings of files and classes, including invalid ones. Makes no query."""
    return [summarise_entry(entry) for entry in get_registry().entries if entry.source != "database"]


def find_elsewhere(where: str) -> Summary | None:
    """Return the binding that is defined at a place."""
    return next((summary for summary in load_elsewhere() if summary.where == where), None)


def load_document(summary: Summary) -> dict[str, object] | None:
    """Return the record as JSON. An invalid one is read from its file; None if even that is impossible."""
    if summary.spec is not None:
        return summary.document
    found = (item.document for item in load_files() if item.where == summary.where and item.document is not None)
    document: Mapping[str, object] | None = next(found, None)
    return dict(document) if document is not None else None


def elsewhere_view(model_admin: screen.RecordAdmin, request: HttpRequest, where: str) -> TemplateResponse:
    """Show one binding that a file or a class defines."""
    if not model_admin.has_view_permission(request):
        raise PermissionDenied
    summary = find_elsewhere(where)
    if summary is None:
        raise Http404(f"No binding is defined at {where}.")
    document = load_document(summary)
    may_copy = model_admin.has_add_permission(request) and summary.spec is not None
    return screen.render_page(
        model_admin,
        request,
        "elsewhere.html",
        summary.stream or summary.where,
        summary=summary,
        tab="elsewhere",
        sight=load_sight(summary.stream, summary.where),
        document=documents.dump(document) if document is not None else "",
        **describe_use(model_admin, request, summary),
        copy_url=screen.page_url(model_admin, "add") if may_copy else "",
    )


def copied_values(where: str) -> dict[str, object] | None:
    """Return the initial record for a copy of the binding at ``where``: disabled, under a free name."""
    summary = find_elsewhere(where)
    if summary is None or summary.spec is None:
        return None
    name = free_stream(summary.stream, "-copy", taken_streams())
    return {**summary.document, "stream": name, "enabled": False}
