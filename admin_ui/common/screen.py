"""What all pages other than the list and the form have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from django.contrib.admin import ModelAdmin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from declbind.console.shown import sees_all
from declbind.django_types import Operator
from declbind.models import BindingRecord

#: The context of a template.
Context: TypeAlias = dict[str, Any]
#: The admin of the records, which the pages belong to.
RecordAdmin: TypeAlias = "ModelAdmin[BindingRecord]"


def page_url(model_admin: RecordAdmin, page: str, *args: object) -> str:
    """Return the address of one of the admin's pages, on the site that it is registered on."""
    name = f"admin:{model_admin.opts.app_label}_{model_admin.opts.model_name}_{page}"
    return reverse(name, args=args, current_app=model_admin.admin_site.name)


@dataclass(frozen=True)
class ConsolePage:
    """One entry of the console's own navigation."""

    label: str
    url: str
    is_current: bool
    #: The name of the page in no language, such as "LiveTraffic".
    name: str = ""


def console_pages(model_admin: RecordAdmin, request: HttpRequest) -> list[ConsolePage]:
    """Return the pages that the viewer may open, for the navigation on all of them."""
    user = request.user
    may_see = model_admin.has_view_permission(request)
    offered = (
        (gettext_noop("Bindings"), "changelist", may_see),
        (gettext_noop("Live traffic"), "live", may_watch(user)),
        (gettext_noop("Why?"), "why", may_watch(user)),
        (gettext_noop("Try it"), "try", may_see),
        (gettext_noop("Connections"), "connections", user.has_perm("declbind.view_connection")),
        (gettext_noop("Processes"), "processes", sees_all() and user.has_perm("declbind.view_node")),
        (
            gettext_noop("Doctor"),
            "doctor",
            sees_all() and (may_watch(user) or model_admin.has_change_permission(request)),
        ),
    )
    found = []
    for label, page, is_allowed in offered:
        if is_allowed:
            url = page_url(model_admin, page)
            name = label.title().replace(" ", "").rstrip("?")
            found.append(ConsolePage(_(label), url, url == request.path, name))
    return found


def local(moment: datetime) -> datetime:
    """Return a moment in the viewer's time zone; without ``USE_TZ`` moments are in the project's zone already."""
    return timezone.localtime(moment) if timezone.is_aware(moment) else moment


class Page(TemplateResponse):
    """A page that may quote a client's input: half a surrogate pair, which UTF-8 cannot encode, is escaped."""

    def make_bytes(self, value: object) -> bytes:
        """Encode the page."""
        return value.encode(self.charset, "backslashreplace") if isinstance(value, str) else super().make_bytes(value)


def read_text(sent: Mapping[str, object], name: str, length: int = 200) -> str:
    """Return a field of an address or a form, shortened, and without NUL, which PostgreSQL does not accept."""
    return str(sent.get(name, "")).replace("\0", "").strip()[:length]


def render_page(
    model_admin: RecordAdmin, request: HttpRequest, template: str, title: str, status: int = 200, **context: Any
) -> TemplateResponse:
    """Return a page in the admin's frame."""
    request.current_app = model_admin.admin_site.name
    everything = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": title,
        "console_pages": console_pages(model_admin, request),
        **context,
    }
    return Page(request, f"declbind_admin/{template}", everything, status=status)


def find_record(model_admin: RecordAdmin, request: HttpRequest, object_id: str | int) -> BindingRecord:
    """Return a record that the user may see. A POST request locks its row.

    Raises:
        Http404: There is none with this key.
    """
    rows = model_admin.get_queryset(request)
    if request.method == "POST":
        rows = rows.select_for_update()
    try:
        record: BindingRecord | None = rows.filter(pk=object_id).first()
    except (ValueError, ValidationError):
        record = None
    if record is None:
        raise Http404("There is no such binding. Perhaps it was deleted.")
    return record


def may_watch(user: Operator) -> bool:
    """Return whether the user may see live traffic."""
    return bool(user.has_perm("declbind.view_traffic"))


def may_view_connections(user: Operator) -> bool:
    """Return whether a user may see the connections."""
    return bool(user.has_perm("declbind.view_connection"))


def may_examine(model_admin: RecordAdmin, request: HttpRequest) -> bool:
    """Return whether the user may examine: permission to watch, or to change what may be the problem."""
    may_see = may_watch(request.user) or model_admin.has_change_permission(request)
    return sees_all() and may_see


def note_in_log(request: HttpRequest, subject: str, message: str) -> None:
    """Add an entry to the admin's log for an action on something without a row of its own."""
    LogEntry.objects.create(
        user_id=str(request.user.pk),
        content_type_id=ContentType.objects.get_for_model(BindingRecord).pk,
        object_repr=subject[:200],
        action_flag=CHANGE,
        change_message=message,
    )
