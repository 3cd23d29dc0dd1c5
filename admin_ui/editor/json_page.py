"""The page for editing a whole record as JSON text."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import router, transaction
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    JsonResponse,
    QueryDict,
)
from django.template.loader import render_to_string
from django.urls import URLPattern, path
from django.utils.translation import gettext as _

from admin_ui.common import documents, screen
from admin_ui.common.phrases import split_problem
from admin_ui.common.screen import RecordAdmin
from admin_ui.editor.changes import Change, build_change, is_ticked
from admin_ui.editor.form import is_only_disabled
from admin_ui.editor.places import place_problems
from declbind import record_validation
from declbind.console import openings
from declbind.core import schema
from declbind.core.errors import ConfigError, Problem
from declbind.models import BindingRecord, editing


def urls(model_admin: RecordAdmin, prefix: str) -> list[URLPattern]:
    """Return the addresses of the page, for a new record and for a stored one."""

    def show(request: HttpRequest, object_id: str | None = None) -> HttpResponse:
        return JsonPage(model_admin, request).answer(object_id)

    def check(request: HttpRequest) -> HttpResponse:
        return check_view(model_admin, request)

    view = model_admin.admin_site.admin_view(show)
    return [
        path("json-problems/", model_admin.admin_site.admin_view(check), name=f"{prefix}_json_problems"),
        path("add/json/", view, name=f"{prefix}_add_json"),
        path("<path:object_id>/json/", view, name=f"{prefix}_json"),
    ]


def check_view(model_admin: RecordAdmin, request: HttpRequest) -> HttpResponse:
    """Return the problems of a text, as HTML in JSON, while it is typed. Stores nothing."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    if not (model_admin.has_add_permission(request) or model_admin.has_change_permission(request)):
        raise PermissionDenied
    text = request.POST.get("document", "")
    try:
        problems: Iterable[Problem] = record_validation.validate_document(documents.parse_record(text))[1]
    except ConfigError as error:
        problems = error.problems
    context = {"placed": place_problems(problems, text) if text.strip() else (), "may_edit": True}
    html = render_to_string("declbind_admin/found.html", context, request)
    return JsonResponse({"html": html}, headers={"Cache-Control": "no-store"})


class JsonPage:
    """The handling of one request for the page; ``record`` is new if a record is added by its text."""

    def __init__(self, model_admin: RecordAdmin, request: HttpRequest) -> None:
        self.admin = model_admin
        self.request = request

    def answer(self, object_id: str | None) -> HttpResponse:
        """Show the record, or store the submitted text. The row stays locked from the check to the change."""
        with transaction.atomic(using=router.db_for_write(BindingRecord)):
            record = self._load(object_id)
            may_edit = (
                self.admin.has_change_permission(self.request, record)
                if record.pk
                else self.admin.has_add_permission(self.request)
            )
            if not may_edit and not (record.pk and self.admin.has_view_permission(self.request, record)):
                raise PermissionDenied
            before = record.definition() if record.pk else {}
            if self.request.method != "POST":
                text = documents.dump(before) if before else ""
                return self._show(record, before, text, may_edit=may_edit, problems=record.problems() if before else ())
            if not may_edit:
                raise PermissionDenied
            text = self.request.POST.get("document", "")
            return (self._as_form if "_as_form" in self.request.POST else self._store)(record, before, text)

    def show_unsaved(
        self, record: BindingRecord, before: documents.Document, document: documents.Document
    ) -> HttpResponse:
        """Show the content of a form, with the version that it was opened with. Nothing is stored."""
        text, problems = documents.dump(document), record_validation.validate_document(document)[1]
        return self._show(record, before, text, problems=problems, opened_with=self._opened_with())

    def _as_form(self, record: BindingRecord, before: documents.Document, text: str) -> HttpResponse:
        """Show the text in the form, which can hold any content in the shape of a record."""
        try:
            document = documents.parse_record(text)
            problems = schema.problems(document)
        except ConfigError as error:
            problems = list(error.problems)
        if problems:
            return self._show(record, before, text, problems=problems, opened_with=self._opened_with())
        carried = {"note": self.request.POST.get("note", ""), "opened_with": self._opened_with()}
        return self._show_form(record, documents.normalise(document), carried)

    def _show_form(
        self, record: BindingRecord, document: documents.Document, carried: Mapping[str, str]
    ) -> HttpResponse:
        """Show the form with the unsaved content of this page, and its additional values. Nothing is stored."""
        shown: Any = copy.copy(self.request)
        shown.method, shown.POST = "GET", QueryDict()
        shown.declbind_unsaved = document, carried
        object_id = str(record.pk) if record.pk else None
        address = screen.page_url(self.admin, "change", object_id) if object_id else screen.page_url(self.admin, "add")
        return self.admin.changeform_view(shown, object_id, address)

    def _opened_with(self) -> str:
        # Switching the view does not reload what is stored, so a conflict is still detected on saving.
        return self.request.POST.get("opened_with", "")

    def _load(self, object_id: str | None) -> BindingRecord:
        if object_id is None:
            return BindingRecord()
        return screen.find_record(self.admin, self.request, object_id)

    def _store(self, record: BindingRecord, before: documents.Document, text: str) -> HttpResponse:
        try:
            document = documents.parse_record(text)
        except ConfigError as error:
            return self._show(record, before, text, problems=error.problems)
        if before and self.request.POST.get("opened_with", "") != documents.fingerprint(before):
            lines = documents.diff(before, document)
            return self._show(record, before, text, theirs=documents.dump(before), diff=lines)
        held = record.held() if before else []
        problems, only_disabled = self._judge(record, before, document)
        if problems:
            return self._show(record, before, text, problems=problems)
        if before and documents.canonical(record.definition()) == documents.canonical(before):
            messages.info(self.request, _("The binding {name} is unchanged; nothing was stored.").format(name=record))
            return self._leave(record)
        change = build_change(before or None, record.definition(), held)
        if not only_disabled and not is_ticked(self.request.POST.dict(), change.digest):
            return self._show(record, before, text, change=change)
        with editing(author=self.request.user, note=self.request.POST.get("note", "")[:500]):
            record.save(update_fields=["enabled"] if only_disabled else None)
        if before:
            self.admin.log_change(self.request, record, change.text)
        else:
            self.admin.log_addition(self.request, record, change.text)
        done = _("The binding {name} was stored: {change}.").format(name=record, change=change.text)
        messages.success(self.request, done)
        return self._leave(record)

    def _judge(
        self, record: BindingRecord, before: documents.Document, document: documents.Document
    ) -> tuple[list[Problem], bool]:
        """Load the document into the record.

        Returns:
            The record's problems, and whether the edit only disables the record.
        """
        plain = {key: value for key, value in document.items() if key != "$schema"}
        if is_only_disabled(before, plain) and not documents.has_repeats(document):
            record.enabled = False
            return [], True
        # The document itself is validated, because the record could not hold its unknown keys.
        _, problems = record_validation.validate_document(document)
        held = record.held() if before else []
        if not problems:
            record.assign(plain)
            try:
                record.full_clean()
            except ValidationError as error:
                problems = list(as_problems(error))
        return [*problems, *openings.missing_permissions(self.request.user, before, plain, held=held)], False

    def _leave(self, record: BindingRecord) -> HttpResponse:
        if "_continue" in self.request.POST:
            return HttpResponseRedirect(screen.page_url(self.admin, "json", record.pk))
        return HttpResponseRedirect(screen.page_url(self.admin, "changelist"))

    def _show(
        self,
        record: BindingRecord,
        before: documents.Document,
        text: str,
        *,
        may_edit: bool = True,
        problems: Iterable[Problem] = (),
        theirs: str = "",
        diff: Iterable[documents.DiffLine] = (),
        change: Change | None = None,
        opened_with: str | None = None,
    ) -> HttpResponse:
        # The page of a failed form carries the version that is stored now: after a conflict it shows both versions.
        stored_with = documents.fingerprint(before) if before else ""
        action = screen.page_url(self.admin, "json", record.pk) if before else screen.page_url(self.admin, "add_json")
        return screen.render_page(
            self.admin,
            self.request,
            "json.html",
            _("{stream} as JSON").format(stream=before["stream"]) if before else _("Add a binding as JSON"),
            original=record if before else None,
            stream=before.get("stream", ""),
            text=text,
            rows=min(40, max(12, text.count("\n") + 3)),
            opened_with=stored_with if opened_with is None else opened_with,
            action=action,
            check_url=screen.page_url(self.admin, "json_problems"),
            change=change,
            digest=change.digest if change else "",
            note=self.request.POST.get("note", ""),
            may_edit=may_edit,
            placed=place_problems(problems, text),
            theirs=theirs,
            diff=list(diff),
        )


def as_problems(error: ValidationError) -> Iterable[Problem]:
    """Yield the problems of the record's ``full_clean``, each at its path."""
    for key, errors in error.update_error_dict({}).items():
        yield from (split_problem(key, text) for item in errors for text in item.messages)
