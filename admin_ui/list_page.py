"""The list of bindings: those of the database with validation and use, then those of files and classes."""

from __future__ import annotations

from typing import Any, Protocol

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString

from admin_ui import cells, elsewhere, filters, pages
from admin_ui.doctor_page import may_examine
from admin_ui.listing import Surroundings, find_streams, load_surroundings, models_to_begin_with
from admin_ui.summary import Summary, summarise_record
from declbind import record_validation
from declbind.console.overview import Drift, load_latest
from declbind.models import BindingRecord, BindingRevision, Node
from declbind.registry import database_alias

#: The lookups that an address may narrow the list by.
LOOKUPS = {
    *(item.parameter_name for item in filters.FILTERS),
    *(f"{name}{end}" for name in ("id", "stream", "model", "enabled", "direction") for end in ("", "__exact")),
}
MAX_SEARCH = 200


class ListedRecord(Protocol):
    """A record of the page, with the data of its row, which the change list adds."""

    pk: int
    stream: str
    model: str
    summary: Summary
    last_revision: BindingRevision | None
    drift: Drift | None
    surroundings: Surroundings


class BindingChangeList(ChangeList):
    """The change list, which validates the page's rows and loads their last revisions and drift in one query."""

    def get_filters_params(self, params: dict[str, object] | None = None) -> dict[str, object]:
        """Leave out the parameters of the bindings below the list, which Django would take for unknown filters."""
        found: dict[str, object] = super().get_filters_params(params)
        found.pop(elsewhere.PART, None)
        return found

    def get_results(self, request: HttpRequest) -> None:
        """Load the page."""
        super().get_results(request)
        records: list[Any] = list(self.result_list)
        reserved = record_validation.reserved_streams()
        revisions, drifts = load_latest(database_alias(), {record.stream: record.definition() for record in records})
        for record in records:
            record.summary = summarise_record(record, reserved)
            record.last_revision = revisions.get(record.stream)
            record.drift = drifts.get(record.stream)
            record.surroundings = load_surroundings(self.model_admin, request)
        self.result_list = records


class ListPage(admin.ModelAdmin):  # type: ignore[type-arg]
    """The list's part of ``BindingRecordAdmin``."""

    list_display = ("state", "name", "sent", "who", "traffic", "changed")
    #: The cell has its own link; a link around all of it would have too long a name.
    list_display_links = None
    list_filter = filters.FILTERS
    search_fields = ("stream", "model", "description", "fields", "exclude", "groups")
    change_list_template = "declbind_admin/change_list.html"
    show_full_result_count = False

    def get_changelist(self, request: HttpRequest, **kwargs: object) -> type[ChangeList]:
        """Return the change list that validates its rows."""
        return BindingChangeList

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponse:
        """Add the headline and the bindings of files and classes."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        everything = elsewhere.load_elsewhere()
        invalid = len(filters.invalid_streams("database")) + sum(bool(summary.problems) for summary in everything)
        part = elsewhere.show_part(filters.pass_through(everything, request), request)
        context = {
            "spread": load_surroundings(self, request).spread,
            "invalid": invalid,
            "missing": len(load_surroundings(self, request).faults),
            "doctor_url": pages.page_url(self, "doctor") if may_examine(self, request) else "",
            "may_see_nodes": self.admin_site.is_registered(Node) and request.user.has_perm("declbind.view_node"),
            "begin_with": models_to_begin_with(),
            "console_pages": pages.console_pages(self, request),
            "elsewhere": [self._row(request, summary) for summary in part],
            "elsewhere_part": part,
            "elsewhere_total": len(everything),
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    def _row(self, request: HttpRequest, summary: Summary) -> dict[str, object]:
        return {
            "summary": summary,
            "state": cells.state_cell(
                summary,
                faults=load_surroundings(self, request).faults.get(summary.stream, ()),
                withheld=load_surroundings(self, request).withheld.get(summary.stream, ""),
            ),
            "name": cells.name_cell(summary, pages.page_url(self, "elsewhere", summary.where)),
            "sent": cells.sent_cell(summary),
            "who": cells.who_cell(summary),
            "traffic": self._traffic(load_surroundings(self, request), summary.stream),
        }

    @admin.display(description="State, source")
    def state(self, record: ListedRecord) -> SafeString:
        """Return the state (active, disabled or invalid) and the source."""
        return cells.state_cell(
            record.summary,
            record.drift,
            record.surroundings.faults.get(record.stream, ()),
            record.surroundings.withheld.get(record.stream, ""),
        )

    @admin.display(description="Stream, model", ordering="stream")
    def name(self, record: ListedRecord) -> SafeString:
        """Return the stream, its model and direction, its description and its problems."""
        return cells.name_cell(record.summary, record.surroundings.change_url(self, record.pk), model=record.model)

    @admin.display(description="Sent fields")
    def sent(self, record: ListedRecord) -> SafeString:
        """Return the number of sent fields."""
        return cells.sent_cell(record.summary)

    @admin.display(description="Who may")
    def who(self, record: ListedRecord) -> SafeString:
        """Return the users who may do each action."""
        return cells.who_cell(record.summary)

    @admin.display(description="Traffic")
    def traffic(self, record: ListedRecord) -> SafeString:
        """Return the current subscribers and rates."""
        return self._traffic(record.surroundings, record.stream)

    @staticmethod
    def _traffic(surroundings: Surroundings, stream: str) -> SafeString:
        return cells.traffic_cell(surroundings.usage_of(stream), stream, surroundings.links)

    @admin.display(description="Last changed")
    def changed(self, record: ListedRecord) -> SafeString:
        """Return the author and the time of the last change."""
        return cells.changed_cell(record.last_revision)

    def lookup_allowed(self, lookup: str, value: object, request: HttpRequest | None = None) -> bool:
        """Allow an address to narrow the list by whole values only: a pattern may be invalid or run for ever."""
        texts = [str(text) for text in (value if isinstance(value, list) else [value])]
        return lookup in LOOKUPS and not any("\0" in text or len(text) > MAX_SEARCH for text in texts)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[BindingRecord], search_term: str
    ) -> tuple[QuerySet[BindingRecord], bool]:
        """Search the text of the records, and the fields that "all fields" includes."""
        # SQLite does not accept longer patterns or more words.
        search_term = search_term[:MAX_SEARCH]
        found, has_duplicates = super().get_search_results(request, queryset, search_term)
        if search_term:
            found |= queryset.filter(stream__in=find_streams(search_term))
        return found, has_duplicates
