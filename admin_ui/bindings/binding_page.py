"""The pages of one binding beside its form: what is in force and who is subscribed, and what was changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from admin_ui.bindings.history import Step, load_steps
from admin_ui.bindings.listing import load_surroundings
from admin_ui.bindings.sight import load_sight
from admin_ui.bindings.snippets import build_snippets
from admin_ui.bindings.summary import Summary, summarise_record
from admin_ui.common import documents, screen
from admin_ui.editor.changes import Change, build_change
from admin_ui.editor.confirm import Proposal, digest_of
from admin_ui.editor.panel import count_subscribed
from declbind import record_validation
from declbind.console import connections
from declbind.console.history import find_held
from declbind.console.usage import Usage
from declbind.core.spec import KEYS
from declbind.models import BindingRecord
from declbind.registry import database_alias

#: The number of subscribers that a page names.
SHOWN_SUBSCRIBERS = 10


@dataclass(frozen=True)
class Earlier:
    """One edit, and what a return to the binding as it was then would change now."""

    step: Step
    change: Change
    digest: str
    is_current: bool

    @property
    def may_return(self) -> bool:
        """Whether there is a definition to return to that differs from the current one."""
        return self.step.revision.definition is not None and bool(self.change.items) and not self.is_current


def urls(model_admin: Any, prefix: str) -> list[URLPattern]:
    """Return the address of the overview. The history has Django's own address."""

    def show(request: HttpRequest, record_id: int) -> HttpResponse:
        return overview_view(model_admin, request, record_id)

    return [path("<int:record_id>/overview/", model_admin.admin_site.admin_view(show), name=f"{prefix}_overview")]


def overview_view(model_admin: Any, request: HttpRequest, record_id: int) -> HttpResponse:
    """Show one binding of the database: its settings in words, its subscribers, its traffic, its problems."""
    record = find_record(model_admin, request, record_id)
    summary = summarise_record(record, record_validation.reserved_streams())
    may_edit = model_admin.has_change_permission(request, record)
    earlier = load_earlier(record, 2)
    return screen.render_page(
        model_admin,
        request,
        "overview.html",
        record.stream,
        original=record,
        tab="overview",
        summary=summary,
        sight=load_sight(record.stream, summary.where),
        may_edit=may_edit,
        last=earlier[0].step if earlier else None,
        before=next((item for item in earlier[1:] if item.may_return), None),
        opened_with=documents.fingerprint(record.definition()),
        **describe_use(model_admin, request, summary),
    )


def describe_use(model_admin: Any, request: HttpRequest, summary: Summary) -> dict[str, Any]:
    """Return the subscribers, the traffic and the examples of a binding, for its page."""
    using, may_see = database_alias(), screen.may_view_connections(request.user)
    wanted = connections.Wanted(stream=summary.stream)
    found = connections.load_connections(wanted, using, size=SHOWN_SUBSCRIBERS) if may_see else None
    surroundings = load_surroundings(model_admin, request)
    return {
        "subscribed": found.total if found is not None else count_subscribed(summary.stream, using),
        "subscribers": found.rows if found is not None else (),
        "connections_url": surroundings.links.get("connections", ""),
        "live_url": surroundings.links.get("live", ""),
        "usage_text": _describe_usage(surroundings.usage_of(summary.stream)),
        "snippets": build_snippets(summary.spec) if summary.spec is not None else None,
    }


def _describe_usage(usage: Usage) -> str:
    """Return the traffic of the last minute in words."""
    sent = ngettext("{number} message sent", "{number} messages sent", usage.sent_per_minute)
    refused = ngettext("{number} request refused", "{number} requests refused", usage.refused_per_minute)
    return _("{sent} and {refused} in the last minute.").format(
        sent=sent.format(number=usage.sent_per_minute), refused=refused.format(number=usage.refused_per_minute)
    )


def history_view(model_admin: Any, request: HttpRequest, object_id: str) -> HttpResponse:
    """Show what was changed in one binding, by whom and why, and offer to return to each earlier version."""
    record = find_record(model_admin, request, object_id)
    return screen.render_page(
        model_admin,
        request,
        "history.html",
        _("History of {stream}").format(stream=record.stream),
        original=record,
        tab="history",
        earlier=load_earlier(record),
        may_edit=model_admin.has_change_permission(request, record),
        opened_with=documents.fingerprint(record.definition()),
    )


def find_record(model_admin: Any, request: HttpRequest, object_id: int | str) -> BindingRecord:
    """Return a record that the user may view.

    Raises:
        PermissionDenied: The user may not view it.
        Http404: There is no such record.
    """
    record: BindingRecord | None = model_admin.get_object(request, str(object_id))
    if not model_admin.has_view_permission(request, record):
        raise PermissionDenied
    if record is None:
        raise Http404("There is no such binding. Perhaps it was deleted.")
    return record


def load_earlier(record: BindingRecord, limit: int = 25) -> list[Earlier]:
    """Return the newest edits of a binding, newest first. Takes one query."""
    steps, before = load_steps(record.stream, limit), record.definition()
    return [_earlier(step, record, before, is_current=not number) for number, step in enumerate(steps)]


def _earlier(step: Step, record: BindingRecord, before: documents.Document, *, is_current: bool) -> Earlier:
    definition = step.revision.definition
    if is_current or not isinstance(definition, Mapping):
        return Earlier(step, Change(), "", is_current)
    target = {key: value for key, value in definition.items() if key in KEYS}
    held, accepted = find_held(step.revision, record)
    same = documents.canonical(before) == documents.canonical(target)
    change = Change() if same else build_change(before, target, held, accepted)
    return Earlier(step, change, digest_of([Proposal(record.stream, change)]), is_current)
