"""The page that asks for confirmation before fields are sent that were added after the record was stored."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import router, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.translation import gettext as _

from admin_ui.common import documents, screen
from admin_ui.common.screen import RecordAdmin
from admin_ui.editor.changes import build_change, is_ticked
from admin_ui.editor.confirm import Proposal, confirm_page, digest_of
from declbind.console import openings
from declbind.models import BindingRecord, editing


def urls(model_admin: RecordAdmin, prefix: str) -> list[URLPattern]:
    """Return the address of the page, for each record."""

    def show(request: HttpRequest, object_id: str) -> HttpResponse:
        return accept_view(model_admin, request, object_id)

    view = model_admin.admin_site.admin_view(show)
    return [path("<path:object_id>/accept/", view, name=f"{prefix}_accept")]


def accept_view(model_admin: RecordAdmin, request: HttpRequest, object_id: str) -> HttpResponse:
    """Show what accepting the new fields opens, or accept them. The row stays locked from the check to the change."""
    using = router.db_for_write(BindingRecord)
    with transaction.atomic(using=using):
        record = _load(model_admin, request, object_id)
        before, held = record.definition(), record.held()
        back = screen.page_url(model_admin, "change", record.pk)
        if not held:
            messages.info(request, _("The binding {name} has no new fields to accept.").format(name=record))
            return HttpResponseRedirect(back)
        change = build_change(before, before, held, held)
        problems = openings.missing_permissions(request.user, before, before, held=held, accepted=held)
        proposal = Proposal(record.stream, change, problems)
        # Only the fields that were on the page are stored, not fields that were added meanwhile.
        shown = documents.canonical([documents.fingerprint(before), held])
        is_asked = request.method == "POST"
        if (
            not is_asked
            or problems
            or request.POST.get("shown") != shown
            or not is_ticked(_sent(request), _tick(proposal))
        ):
            return confirm_page(
                model_admin,
                request,
                _("Accept new fields of {stream}").format(stream=record.stream),
                [proposal],
                button=_("Send {fields}").format(fields=", ".join(held)),
                hidden={"shown": shown},
                back=back,
                intro=_(
                    "{model} got these fields after the binding was stored. They are not sent yet. To leave "
                    "them out for good, name the fields to send, or exclude them."
                ).format(model=record.model),
                asked=is_asked,
            )
        try:
            note = _("Accepted the new fields {fields}.").format(fields=", ".join(held))
            with editing(author=request.user, note=note):
                record.accept(held).save(using=using)
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
            return HttpResponseRedirect(back)
        model_admin.log_change(request, record, change.text)
        messages.success(request, _("The binding {name} {change}.").format(name=record, change=change.text))
        return HttpResponseRedirect(back)


def _load(model_admin: RecordAdmin, request: HttpRequest, object_id: str) -> BindingRecord:
    record = screen.find_record(model_admin, request, object_id)
    if not model_admin.has_change_permission(request, record):
        raise PermissionDenied
    return record


def _sent(request: HttpRequest) -> dict[str, str]:
    return {name: str(value) for name, value in request.POST.dict().items()}


def _tick(proposal: Proposal) -> str:
    return digest_of([proposal])
