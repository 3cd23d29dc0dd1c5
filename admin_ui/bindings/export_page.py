"""Download of the database's records as a file for import and ``manage.py declbind apply``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path

from admin_ui.common.screen import RecordAdmin
from declbind.console.export import FILE_NAME, format_export


def urls(model_admin: RecordAdmin, prefix: str) -> list[URLPattern]:
    """Return the address of the download."""

    def show(request: HttpRequest) -> HttpResponse:
        return export_view(model_admin, request)

    return [path("export/", model_admin.admin_site.admin_view(show), name=f"{prefix}_export")]


def export_view(model_admin: RecordAdmin, request: HttpRequest) -> HttpResponse:
    """Download all records that the user may see."""
    if not model_admin.has_view_permission(request):
        raise PermissionDenied
    return download(record.definition() for record in model_admin.get_queryset(request))


def download(records: Iterable[Mapping[str, object]]) -> HttpResponse:
    """Answer with a file of records: the same bytes that ``manage.py declbind export`` writes for them."""
    return HttpResponse(
        format_export(records),
        content_type="application/json; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{FILE_NAME}"'},
    )
