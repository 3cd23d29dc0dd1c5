"""The import page: it takes a file or a text of records, shows the changes, and then makes exactly these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.functional import cached_property
from django.utils.translation import gettext as _

from admin_ui.bindings.review import Move, Review, Row
from admin_ui.common import screen
from admin_ui.common.screen import RecordAdmin
from declbind import record_validation
from declbind.console import openings
from declbind.console.consequences import consequences
from declbind.console.history import load_edits_since
from declbind.console.plan import Plan, PlannedChange, carry_out, plan_items
from declbind.core.errors import ConfigError
from declbind.core.schema import parse_documents
from declbind.models import BindingRecord
from declbind.registry import database_alias
from declbind.sources import SourceItem
from declbind.sources.files import load_text

MAX_BYTES = 1 << 20
#: More than anyone can review on a page; the command accepts any number.
MAX_RECORDS = 2000


def urls(model_admin: RecordAdmin, prefix: str) -> list[URLPattern]:
    """Return the address of the page."""

    def show(request: HttpRequest) -> HttpResponse:
        return ImportPage(model_admin, request).answer()

    return [path("import/", model_admin.admin_site.admin_view(show), name=f"{prefix}_import")]


class ImportPage:
    """The handling of one request for the page."""

    def __init__(self, model_admin: RecordAdmin, request: HttpRequest) -> None:
        self.admin = model_admin
        self.request = request
        self.using = database_alias()

    def answer(self) -> HttpResponse:
        """Return the empty form, the review of the submitted records, or the result of applying them."""
        edits = (self.admin.has_add_permission, self.admin.has_change_permission, self.admin.has_delete_permission)
        # The review shows what is stored now.
        if not self.admin.has_view_permission(self.request) or not any(may(self.request) for may in edits):
            raise PermissionDenied
        if self.request.method != "POST":
            return self._show()
        try:
            text, source = self._read()
            items = self._parse(text, source)
        except ConfigError as error:
            return self._show(refusals=[problem.message for problem in error.problems])
        if "_apply" in self.request.POST:
            return self._apply(text, source, items)
        return self._show(text, source, review=self._review(items))

    @property
    def prune(self) -> bool:
        """Return whether stored records that the text does not name are to be removed."""
        return "prune" in self.request.POST

    @cached_property
    def note(self) -> str:
        """Return the reason, for the revisions."""
        return self.request.POST.get("note", "").strip()[:500]

    def _read(self) -> tuple[str, str]:
        """Return the text and its name.

        Raises:
            ConfigError: There is no text, or it is too long or not in UTF-8.
        """
        upload = self.request.FILES.get("file")
        text = self.request.POST.get("text", "")
        if upload is None:
            if not text.strip():
                raise ConfigError(_("Choose a file, or paste a text."))
            if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
                raise ConfigError(_("Expected a text of at most {limit} MiB, got more.").format(limit=MAX_BYTES >> 20))
            return text, self.request.POST.get("source", "").strip()[:150] or _("pasted text")
        name = str(upload.name)[-150:]
        if text.strip():
            raise ConfigError(_("Expected a file or a text, got both. Remove one of them."))
        if (upload.size or 0) > MAX_BYTES:
            words = _("Expected a file of at most {limit} MiB, got {name} with {size} bytes.")
            raise ConfigError(words.format(limit=MAX_BYTES >> 20, name=name, size=upload.size))
        try:
            # An editor on Windows may have put a byte order mark at the beginning.
            return upload.read().decode("utf-8-sig"), name
        except UnicodeDecodeError as error:
            words = _("Expected a JSON file in UTF-8, got {name}, which is not: {error}.")
            raise ConfigError(words.format(name=name, error=error)) from error

    def _parse(self, text: str, source: str) -> list[SourceItem]:
        count = len(parse_documents(text, source))
        if count > MAX_RECORDS:
            words = _(
                "Expected at most {limit} records, got {number} in {source}. "
                "`manage.py declbind apply` takes any number."
            )
            raise ConfigError(words.format(limit=MAX_RECORDS, number=count, source=source))
        return load_text(text, source)

    def _review(self, items: Sequence[SourceItem]) -> Review:
        review = Review(plan_items(items, self.using, self.prune), ())
        shown = [change for change in review.sound if change.action != "keep"]
        records = {record.stream: record for record in self._records([change.stream for change in shown])}
        reserved = record_validation.reserved_streams()
        rows = [
            Row(
                change,
                consequences(change.before, change.after, in_force=change.stream not in reserved, held=change.held),
                self._denial(change, records.get(change.stream)),
            )
            for change in shown
        ]
        return replace(review, rows=rows)

    def _records(self, streams: Sequence[str]) -> QuerySet[BindingRecord]:
        records: QuerySet[BindingRecord] = BindingRecord.objects.using(self.using).filter(stream__in=streams)
        return records

    def _denial(self, change: PlannedChange, record: BindingRecord | None) -> str:
        if change.action == "remove":
            may_delete = self.admin.has_delete_permission(self.request, record)
            return "" if may_delete else _("You may not remove this binding.")
        if change.action == "add" and not self.admin.has_add_permission(self.request):
            return _("You may not add bindings.")
        if change.action == "change" and not self.admin.has_change_permission(self.request, record):
            return _("You may not change this binding.")
        problems = openings.missing_permissions(self.request.user, change.before, change.after, held=change.held)
        return " ".join(problem.message for problem in problems)

    def _apply(self, text: str, source: str, items: Sequence[SourceItem]) -> HttpResponse:
        """Apply the reviewed plan in one transaction, or show why that is impossible, with a new review."""
        try:
            with transaction.atomic(using=self.using):
                review = self._review(items)
                refusals, moves = self._obstacles(review)
                if not refusals:
                    done = self._carry_out(review.plan, source)
                    words = _("{counts}: done. The configuration is at version {version}.")
                    messages.success(self.request, words.format(counts=review.counts, version=done))
                    return HttpResponseRedirect(screen.page_url(self.admin, "changelist"))
        except ConfigError as error:
            refusals, moves = [str(problem.message) for problem in error.problems], []
            review = self._review(items)
        return self._show(text, source, review=review, refusals=refusals, moves=moves)

    def _obstacles(self, review: Review) -> tuple[list[str], list[Move]]:
        if review.plan.digest != self.request.POST.get("plan", ""):
            version = self.request.POST.get("version", "")
            same = (self.request.POST.get("generation"), version) == (review.plan.generation, str(review.plan.version))
            if same or not (version.isascii() and version.isdigit()) or len(version) > 18:
                return [
                    _("The text or the choice to remove bindings was changed after the review. Nothing was stored.")
                ], []
            moves = [Move(step) for step in load_edits_since(int(version), self.using)]
            return [_("Another user changed the configuration after the review. Nothing was stored.")], moves
        if not review.may_apply:
            return [_("Nothing was stored.")], []
        if review.widens and "confirm_widening" not in self.request.POST:
            return [_("Confirm that it gives more access than before, or do not apply it. Nothing was stored.")], []
        return [], []

    def _carry_out(self, made: Plan, source: str) -> int:
        gone = [change.stream for change in made.edits if change.after is None]
        if gone:
            self.admin.log_deletions(self.request, self._records(gone))
        version = carry_out(made, self.using, author=self.request.user, note=self.note).version
        changes = {change.stream: change for change in made.edits if change.after is not None}
        for record in self._records(list(changes)):
            change = changes[record.stream]
            if change.before is None:
                self.admin.log_addition(self.request, record, _("Imported from {source}.").format(source=source))
            else:
                keys = ", ".join(key for key, _, _ in change.differences)
                words = _("Imported from {source}, which changed {keys}.")
                self.admin.log_change(self.request, record, words.format(source=source, keys=keys))
        return version

    def _show(
        self,
        text: str | None = None,
        source: str = "",
        *,
        review: Review | None = None,
        refusals: Sequence[str] = (),
        moves: Sequence[Move] = (),
    ) -> HttpResponse:
        return screen.render_page(
            self.admin,
            self.request,
            "import.html",
            _("Review the import") if review else _("Import bindings"),
            text=self.request.POST.get("text", "") if text is None else text,
            source=source,
            review=review,
            refusals=refusals,
            moves=moves,
            prune=self.prune,
            note=self.note,
            may_remove=self.admin.has_delete_permission(self.request),
        )
