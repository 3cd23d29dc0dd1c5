"""The actions for selected bindings in the list."""

from __future__ import annotations

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import router, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from admin_ui.bindings.export_page import download
from admin_ui.bindings.summary import summarise_record
from admin_ui.common import screen
from admin_ui.common.phrases import describe_place, plain_message
from admin_ui.editor.changes import build_change, is_ticked
from admin_ui.editor.confirm import Proposal, confirm_page, digest_of
from declbind import record_validation
from declbind.console import openings
from declbind.core.errors import Problem
from declbind.models import BindingRecord, editing


class RecordActions(admin.ModelAdmin):  # type: ignore[type-arg]
    """The actions of ``BindingRecordAdmin``."""

    actions = ("enable", "disable", "export", "check_again")

    @admin.action(description=gettext_lazy("Enable selected bindings"), permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[BindingRecord]) -> HttpResponse | None:
        """Enable bindings after the user has confirmed what that opens. Invalid bindings are reported instead."""
        proposals = []
        for record in queryset.exclude(enabled=True):
            before, held = record.definition(), record.held()
            record.enabled = True
            after = record.definition()
            problems = record.problems() or openings.missing_permissions(request.user, before, after, held=held)
            if problems:
                self.message_user(request, " ".join(_words(record, problem) for problem in problems), messages.ERROR)
            else:
                proposals.append(Proposal(record.stream, build_change(before, after, held)))
        if proposals and not is_ticked(request.POST.dict(), digest_of(proposals)):
            return confirm_page(
                self,
                request,
                _("Enable bindings"),
                proposals,
                button=_("Enable"),
                hidden={
                    "action": "enable",
                    "asked": "yes",
                    "_selected_action": [str(pk) for pk in queryset.values_list("pk", flat=True)],
                },
                back=screen.page_url(self, "changelist"),
                asked="asked" in request.POST,
            )
        self._switch(request, queryset.filter(stream__in=[proposal.stream for proposal in proposals]), True)
        return None

    @admin.action(description=gettext_lazy("Disable selected bindings"), permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[BindingRecord]) -> None:
        """Disable bindings, including invalid ones."""
        self._switch(request, queryset, False)

    def _switch(self, request: HttpRequest, queryset: QuerySet[BindingRecord], enabled: bool) -> None:
        done, using = 0, router.db_for_write(BindingRecord)
        for chosen in queryset.exclude(enabled=enabled):
            try:
                with editing(author=request.user), transaction.atomic(using=using):
                    record = BindingRecord.objects.using(using).select_for_update().filter(pk=chosen.pk).first()
                    if record is None:
                        continue
                    before, held = record.definition(), record.held()
                    record.enabled = enabled
                    # Another user may have edited it since it was read.
                    missing = openings.missing_permissions(request.user, before, record.definition(), held=held)
                    if missing:
                        raise ValidationError([problem.message for problem in missing])
                    record.save(update_fields=["enabled"])
                    self.log_change(request, record, build_change(before, record.definition(), held).text)
            except ValidationError as error:
                self.message_user(request, " ".join(error.messages), messages.ERROR)
            else:
                done += 1
        words = (
            ngettext("{number} binding enabled.", "{number} bindings enabled.", done)
            if enabled
            else ngettext("{number} binding disabled.", "{number} bindings disabled.", done)
        )
        self.message_user(request, words.format(number=done), messages.SUCCESS)

    @admin.action(description=gettext_lazy("Export selected bindings as JSON"), permissions=["view"])
    def export(self, request: HttpRequest, queryset: QuerySet[BindingRecord]) -> HttpResponse:
        """Download a file of the selected records."""
        return download(record.definition() for record in queryset)

    @admin.action(description=gettext_lazy("Check selected bindings"), permissions=["view"])
    def check_again(self, request: HttpRequest, queryset: QuerySet[BindingRecord]) -> None:
        """Validate bindings again and report the result."""
        reserved = record_validation.reserved_streams()
        fine = []
        for record in queryset.order_by("stream"):
            summary = summarise_record(record, reserved)
            for problem in summary.problems:
                self.message_user(request, _words(record, problem), messages.ERROR)
            for problem in summary.warnings:
                self.message_user(request, _words(record, problem), messages.WARNING)
            if not summary.problems:
                fine.append(record.stream)
        if fine:
            words = _("No problems: {streams}.").format(streams=", ".join(fine))
            self.message_user(request, words, messages.SUCCESS)


def _words(record: BindingRecord, problem: Problem) -> str:
    """Return a problem with the stream and the name of the input."""
    name = _("Binding {stream}").format(stream=repr(record.stream))
    return ": ".join(filter(None, (name, describe_place(problem.path), plain_message(problem))))
