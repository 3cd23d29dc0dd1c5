"""What the pages beside the list and the form have in common."""

from __future__ import annotations

from typing import Any, Protocol

from django.contrib.admin import AdminSite
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models.options import Options
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse

from declbind.models import BindingRecord


class RecordAdmin(Protocol):
    """The part of ``BindingRecordAdmin`` that pages use."""

    admin_site: AdminSite
    opts: Options[BindingRecord]

    def has_view_permission(self, request: HttpRequest, obj: BindingRecord | None = None) -> bool:
        """Tell whether the user may look at bindings."""
        ...

    def has_change_permission(self, request: HttpRequest, obj: BindingRecord | None = None) -> bool:
        """Tell whether the user may change this record."""
        ...

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may add records."""
        ...


def page_url(model_admin: RecordAdmin, page: str, *args: Any) -> str:
    """Return the address of one of the admin's pages, on the site that it is registered on."""
    name = f"admin:{model_admin.opts.app_label}_{model_admin.opts.model_name}_{page}"
    return reverse(name, args=args, current_app=model_admin.admin_site.name)


def render_page(
    model_admin: RecordAdmin, request: HttpRequest, template: str, title: str, status: int = 200, **context: Any
) -> TemplateResponse:
    """Answer with a page in the admin's frame."""
    request.current_app = model_admin.admin_site.name
    everything = {**model_admin.admin_site.each_context(request), "opts": model_admin.opts, "title": title, **context}
    return TemplateResponse(request, f"declbind_admin/{template}", everything, status=status)


def may_watch(user: Any) -> bool:
    """Tell whether the user may see live traffic."""
    return bool(user.has_perm("declbind.view_traffic"))


def note_in_log(request: HttpRequest, subject: str, message: str) -> None:
    """Leave an entry in the admin's log for what has no row of its own."""
    LogEntry.objects.create(
        user_id=str(request.user.pk),
        content_type_id=ContentType.objects.get_for_model(BindingRecord).pk,
        object_repr=subject[:200],
        action_flag=CHANGE,
        change_message=message,
    )
