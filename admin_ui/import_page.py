"""The page that takes a file or a text of records, shows what it would change, and then does exactly that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.functional import cached_property

from admin_ui import documents, pages
from declbind.console.history import Step, load_edits_since
from declbind.console.plan import Change, Plan, carry_out, plan_items
from declbind.core.errors import ConfigError
from declbind.core.schema import parse_documents
from declbind.models import BindingRecord
from declbind.registry import database_alias
from declbind.sources import SourceItem
from declbind.sources.files import load_text

MAX_BYTES = 1 << 20
#: More than anybody reads through; the command takes any number.
MAX_RECORDS = 2000
SHOWN_FAULTS = 100
PASTED = "pasted text"


def urls(model_admin: Any, prefix: str) -> list[URLPattern]:
    """Return the address of the page."""

    def show(request: HttpRequest) -> HttpResponse:
        return ImportPage(model_admin, request).answer()

    return [path("import/", model_admin.admin_site.admin_view(show), name=f"{prefix}_import")]


@dataclass(frozen=True)
class Consequence:
    """One thing that a change means, in words; ``widens`` tells whether somebody may get or do more by it."""

    sign: str
    text: str
    widens: bool = False


def tell_consequences(change: Change) -> Sequence[Consequence]:
    """Say what a change means. Whatever may open something counts as opening it."""
    if change.after is None:
        return (Consequence("-", "is removed; to clients the stream no longer exists"),)
    if change.before is None:
        return (Consequence("+", "is a new binding", widens=True),)
    keys = {key for key, _, _ in change.differences}
    if change.after.get("enabled") is False and keys <= {"enabled", "description"}:
        return (Consequence("-", "is switched off"),) if "enabled" in keys else ()
    return (Consequence("~", f"changes {', '.join(sorted(keys))}", widens=bool(keys - {"description"})),)


@dataclass(frozen=True)
class Row:
    """One change of a plan as the page shows it; ``denial`` says why this user may not make it, "" where they may."""

    change: Change
    consequences: Sequence[Consequence]
    denial: str

    @property
    def keys(self) -> list[tuple[str, str, str]]:
        """Return (key, old, new) as texts, "" for a value that is not given."""
        return [(key, _dump(old), _dump(new)) for key, old, new in self.change.differences]


def _dump(value: Any) -> str:
    return "" if value is None else documents.dump(value)


def _printable(text: str) -> str:
    """Return a text that a page can hold: a faulty record may contain half a surrogate pair."""
    return text.encode(errors="backslashreplace").decode()


@dataclass(frozen=True)
class Review:
    """A plan, made readable for one user."""

    plan: Plan
    rows: Sequence[Row]

    @property
    def counts(self) -> str:
        """Say how much of each kind there is."""
        made = self.plan
        return (
            f"{made.count('add')} to add, {made.count('change')} to change, {made.count('remove')} to remove, "
            f"{made.count('keep')} unchanged"
        )

    @property
    def unchanged(self) -> list[str]:
        """Return the streams that say the same already."""
        return [_printable(change.stream) for change in self.plan.changes if change.action == "keep"]

    @property
    def faults(self) -> list[tuple[str, str, str]]:
        """Return place, path and message of the first problems."""
        return [
            (fault.where, _printable(fault.problem.path), _printable(fault.problem.message))
            for fault in self.plan.faults[:SHOWN_FAULTS]
        ]

    @property
    def more_faults(self) -> int:
        """How many problems are not shown."""
        return max(0, len(self.plan.faults) - SHOWN_FAULTS)

    @property
    def is_denied(self) -> bool:
        """Whether this user may not make some change."""
        return any(row.denial for row in self.rows)

    @property
    def widens(self) -> bool:
        """Whether some change opens something."""
        return any(consequence.widens for row in self.rows for consequence in row.consequences)

    @property
    def may_apply(self) -> bool:
        """Whether there is something to do, and nothing against it."""
        return bool(self.plan.edits) and not self.plan.faults and not self.is_denied


class ImportPage:
    """Answer one request for the page."""

    def __init__(self, model_admin: Any, request: HttpRequest) -> None:
        self.admin = model_admin
        self.request = request
        self.using = database_alias()

    def answer(self) -> HttpResponse:
        """Show the empty form, the review of what was sent, or do what was reviewed."""
        allowed = (self.admin.has_add_permission, self.admin.has_change_permission, self.admin.has_delete_permission)
        if not any(may(self.request) for may in allowed):
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
        """Whether stored records that the text does not name are to go."""
        return "prune" in self.request.POST

    @cached_property
    def note(self) -> str:
        """Why, for the revisions."""
        return self.request.POST.get("note", "").strip()[:500]

    def _read(self) -> tuple[str, str]:
        """Return the text and what to call it; raises ``ConfigError``."""
        upload = self.request.FILES.get("file")
        text = self.request.POST.get("text", "")
        if upload is None:
            if not text.strip():
                raise ConfigError("Choose a file, or paste a text.")
            if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
                raise ConfigError(f"Expected a text of at most {MAX_BYTES >> 20} MiB, got more.")
            return text, self.request.POST.get("source", "").strip()[:150] or PASTED
        name = str(upload.name)[-150:]
        if text.strip():
            raise ConfigError("Expected a file or a text, got both. Remove one of them.")
        if (upload.size or 0) > MAX_BYTES:
            raise ConfigError(f"Expected a file of at most {MAX_BYTES >> 20} MiB, got {name} with {upload.size} bytes.")
        try:
            # An editor on Windows may have put a byte order mark at the beginning.
            return upload.read().decode("utf-8-sig"), name
        except UnicodeDecodeError as error:
            raise ConfigError(f"Expected a JSON file in UTF-8, got {name}, which is not: {error}.") from error

    def _parse(self, text: str, source: str) -> list[SourceItem]:
        count = len(parse_documents(text, source))
        if count > MAX_RECORDS:
            raise ConfigError(
                f"Expected at most {MAX_RECORDS} records, got {count} in {source}. "
                "`manage.py declbind apply` takes any number."
            )
        return load_text(text, source)

    def _review(self, items: Sequence[SourceItem]) -> Review:
        made = plan_items(items, self.using, self.prune)
        # What a faulty record would change is not shown beside its problems: it will not be this.
        faulty = {fault.stream for fault in made.faults}
        shown = [change for change in made.edits if change.stream not in faulty]
        records = {record.stream: record for record in self._records([change.stream for change in shown])}
        rows = [
            Row(change, tell_consequences(change), self._denial(change, records.get(change.stream))) for change in shown
        ]
        return Review(made, rows)

    def _records(self, streams: Sequence[str]) -> Any:
        return BindingRecord.objects.using(self.using).filter(stream__in=streams)

    def _denial(self, change: Change, record: BindingRecord | None) -> str:
        if change.action == "remove":
            return "" if self.admin.has_delete_permission(self.request, record) else "You may not remove this binding."
        if change.action == "add" and not self.admin.has_add_permission(self.request):
            return "You may not add bindings."
        if change.action == "change" and not self.admin.has_change_permission(self.request, record):
            return "You may not change this binding."
        problem = documents.sensitive_problem(self.request.user, change.before or {}, change.after or {})
        return problem.message if problem else ""

    def _apply(self, text: str, source: str, items: Sequence[SourceItem]) -> HttpResponse:
        """Do what was reviewed, in one transaction, or show why not and what it would be now."""
        try:
            with transaction.atomic(using=self.using):
                review = self._review(items)
                refusals, moves = self._obstacles(review)
                if not refusals:
                    done = self._carry_out(review.plan, source)
                    messages.success(self.request, f"{review.counts}: done. The configuration is at version {done}.")
                    return HttpResponseRedirect(self._way_back())
        except ConfigError as error:
            refusals, moves = [str(problem.message) for problem in error.problems], []
            review = self._review(items)
        return self._show(text, source, review=review, refusals=refusals, moves=moves)

    def _obstacles(self, review: Review) -> tuple[list[str], list[Step]]:
        if review.plan.digest != self.request.POST.get("plan", ""):
            version = self.request.POST.get("version", "")
            same = (self.request.POST.get("generation"), version) == (review.plan.generation, str(review.plan.version))
            if same or not version.isdigit() or len(version) > 18:
                return ["The text or the tick for removing is not what was reviewed. Nothing was stored."], []
            moves = load_edits_since(int(version), self.using)
            return ["Somebody changed the configuration since this was reviewed. Nothing was stored."], moves
        if not review.may_apply:
            return ["Nothing was stored."], []
        if review.widens and "confirm_widening" not in self.request.POST:
            return ["Tick that access may widen by this, or do not apply it. Nothing was stored."], []
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
                self.admin.log_addition(self.request, record, f"Imported from {source}.")
            else:
                keys = ", ".join(key for key, _, _ in change.differences)
                self.admin.log_change(self.request, record, f"Imported from {source}, which changed {keys}.")
        return version

    def _way_back(self) -> str:
        may_look = self.admin.has_view_permission(self.request)
        return pages.page_url(self.admin, "changelist" if may_look else "import")

    def _show(
        self,
        text: str | None = None,
        source: str = "",
        *,
        review: Review | None = None,
        refusals: Sequence[str] = (),
        moves: Sequence[Step] = (),
    ) -> HttpResponse:
        return pages.render_page(
            self.admin,
            self.request,
            "import.html",
            "Review the import" if review else "Import bindings",
            text=self.request.POST.get("text", "") if text is None else text,
            source=source,
            review=review,
            refusals=refusals,
            moves=moves,
            prune=self.prune,
            note=self.note,
            may_remove=self.admin.has_delete_permission(self.request),
            may_see_bindings=self.admin.has_view_permission(self.request),
        )
