"""Rollback to a revision: a new edit, validated like any other, also if the record was removed since."""

from __future__ import annotations

from collections.abc import Mapping

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import router, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from admin_ui.common import documents, screen
from admin_ui.common.screen import RecordAdmin
from admin_ui.editor.changes import Change, build_change, is_ticked
from admin_ui.editor.confirm import Proposal, confirm_page, digest_of
from admin_ui.editor.form import is_only_disabled
from admin_ui.editor.json_page import as_problems
from declbind.console import openings
from declbind.console.history import find_held, roll_back
from declbind.core.errors import Problem
from declbind.core.spec import KEYS
from declbind.models import BindingRecord, BindingRevision

MOVED = gettext_lazy(
    "The binding was changed since this page was made. Nothing is stored: review what it would change now."
)


def urls(model_admin: RecordAdmin, prefix: str) -> list[URLPattern]:
    """Return the address of the page, for each revision."""

    def show(request: HttpRequest, revision_id: int) -> HttpResponse:
        return RollbackPage(model_admin, request, revision_id).answer()

    view = model_admin.admin_site.admin_view(show)
    return [path("rollback/<int:revision_id>/", view, name=f"{prefix}_rollback")]


def rollback_url(site_name: str, revision: BindingRevision) -> str:
    """Return the address of the page on an admin site; empty where bindings are not on that site."""
    try:
        return reverse("admin:declbind_bindingrecord_rollback", args=[revision.pk], current_app=site_name)
    except NoReverseMatch:
        return ""


def rollback_text(revision: BindingRevision, exists: bool) -> str:
    """Return the name of the button for a revision of a binding that exists or was removed."""
    words = _("Roll back to version {version}") if exists else _("Restore to version {version}")
    return words.format(version=revision.version)


class RollbackPage:
    """The handling of one request for the page: show what the rollback would change, or carry it out."""

    def __init__(self, model_admin: RecordAdmin, request: HttpRequest, revision_id: int) -> None:
        self.admin = model_admin
        self.request = request
        self.revision_id = revision_id

    def answer(self) -> HttpResponse:
        """Show or store. The row stays locked from the check to the change."""
        with transaction.atomic(using=router.db_for_write(BindingRecord)):
            revision = BindingRevision.objects.filter(pk=self.revision_id).first()
            if revision is None or not isinstance(revision.definition, Mapping):
                raise Http404("There is no such revision, or the binding was removed in it.")
            record = self._load(revision.stream)
            before = record.definition() if record.pk else {}
            target = {key: value for key, value in revision.definition.items() if key in KEYS}
            is_same = documents.canonical(before) == documents.canonical(target)
            only_disables = is_only_disabled(before, target)
            held, accepted = find_held(revision, record)
            problems = [] if only_disables else self._judge(record, before, target)
            if not only_disables:
                user = self.request.user
                problems += openings.missing_permissions(user, before, target, held=held, accepted=accepted)
            proposal = Proposal(
                revision.stream,
                build_change(before or None, target, held, accepted) if not is_same else Change(),
                problems,
                documents.diff(before or None, target),
            )
            if self.request.method != "POST":
                return self._show(revision, record, before, proposal)
            if self.request.POST.get("opened_with", "") != documents.fingerprint(before):
                messages.error(self.request, MOVED)
                return self._show(revision, record, before, proposal)
            if problems:
                return self._show(revision, record, before, proposal)
            if not only_disables and not is_ticked(self.request.POST.dict(), digest_of([proposal])):
                return self._show(revision, record, before, proposal, asked=True)
            return self._store(revision, record, before, proposal)

    def _load(self, stream: str) -> BindingRecord:
        rows = self.admin.get_queryset(self.request)
        if self.request.method == "POST":
            rows = rows.select_for_update()
        record: BindingRecord | None = rows.filter(stream=stream).first()
        if record is None:
            if not self.admin.has_add_permission(self.request):
                raise PermissionDenied
            return BindingRecord()
        if not self.admin.has_change_permission(self.request, record):
            raise PermissionDenied
        return record

    def _judge(self, record: BindingRecord, before: documents.Document, target: documents.Document) -> list[Problem]:
        candidate = BindingRecord(pk=record.pk).assign(target)
        candidate._state.adding = record.pk is None
        problems: list[Problem] = []
        try:
            candidate.full_clean()
        except ValidationError as error:
            problems = list(as_problems(error))
        return problems

    def _show(
        self,
        revision: BindingRevision,
        record: BindingRecord,
        before: documents.Document,
        proposal: Proposal,
        *,
        asked: bool = False,
    ) -> HttpResponse:
        title = _("Roll back {stream} to version {version}") if before else _("Restore {stream} to version {version}")
        back = screen.page_url(self.admin, "change", record.pk) if before else screen.page_url(self.admin, "changelist")
        return confirm_page(
            self.admin,
            self.request,
            title.format(stream=revision.stream, version=revision.version),
            [proposal],
            button=rollback_text(revision, bool(before)),
            hidden={"opened_with": documents.fingerprint(before)},
            back=back,
            intro=_describe(revision),
            asked=asked,
        )

    def _store(
        self,
        revision: BindingRevision,
        record: BindingRecord,
        before: documents.Document,
        proposal: Proposal,
    ) -> HttpResponse:
        note = _("Rolled back to version {version}").format(version=revision.version)
        stored = roll_back(revision, router.db_for_write(BindingRecord), self.request.user, note)
        if stored is None:
            messages.info(self.request, _("The binding {name} is unchanged; nothing was stored.").format(name=record))
            return HttpResponseRedirect(screen.page_url(self.admin, "change", record.pk))
        record = stored
        text = f"{note}: {proposal.change.text}"
        if before:
            self.admin.log_change(self.request, record, text)
        else:
            self.admin.log_addition(self.request, record, text)
        done = _("The binding {name} was rolled back to version {version}: {change}.")
        messages.success(self.request, done.format(name=record, version=revision.version, change=proposal.change.text))
        return HttpResponseRedirect(screen.page_url(self.admin, "change", record.pk))


def _describe(revision: BindingRevision) -> str:
    """Return who made a revision, and why."""
    if revision.author_name and revision.note:
        words = _("Version {version} was made by {author}, with the note: {note}.")
    elif revision.author_name:
        words = _("Version {version} was made by {author}.")
    elif revision.note:
        words = _("Version {version} was made by somebody not known, with the note: {note}.")
    else:
        words = _("Version {version} was made by somebody not known.")
    return words.format(version=revision.version, author=revision.author_name, note=revision.note)
