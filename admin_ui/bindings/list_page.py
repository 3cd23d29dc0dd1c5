"""The list of bindings: those of the database, of files and of classes, with their validation and use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.core.paginator import InvalidPage
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from admin_ui.bindings import cells, elsewhere, filters
from admin_ui.bindings.listing import Surroundings, find_streams, load_surroundings, models_to_begin_with
from admin_ui.bindings.summary import Summary, summarise_record
from admin_ui.common import screen
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

    pk: int | None
    stream: str
    model: str
    summary: Summary
    last_revision: BindingRevision | None
    drift: Drift | None
    surroundings: Surroundings


class BindingChangeList(ChangeList):
    """The change list of all bindings: rows of the database, and between them those of files and classes.

    The latter are records that are not stored, which have no key. The page's rows are validated, and their last
    revisions and drift are loaded in one query.
    """

    #: The bindings of files and classes that match the search and the filters.
    others: list[Summary]
    #: The number of rows of the database on all pages.
    stored_count: int

    def get_results(self, request: HttpRequest) -> None:
        """Load the page. Takes two queries, one for the order of all rows and one for those of the page."""
        self.others = filters.pass_through(elsewhere.load_elsewhere(), request)
        found: list[tuple[str, int | Summary]] = [
            (stream, pk) for pk, stream in self.queryset.values_list("pk", "stream")
        ]
        self.stored_count = len(found)
        found += [(summary.stream or summary.where, summary) for summary in self.others]
        ordering = [str(name) for name in self.get_ordering(request, self.queryset)]
        found.sort(key=lambda item: item[0], reverse="-stream" in ordering)
        items: Any = found
        paginator = self.model_admin.get_paginator(request, items, self.list_per_page)
        self.paginator, self.result_count, self.show_full_result_count = paginator, len(found), False
        self.full_result_count = None if self.query or self.has_active_filters else len(found)
        self.show_admin_actions = bool(self.stored_count)
        self.can_show_all = len(found) <= self.list_max_show_all
        self.multi_page = len(found) > self.list_per_page
        part = found
        if self.multi_page and not (self.show_all and self.can_show_all):
            try:
                part = list(paginator.page(self.page_num).object_list)
            except InvalidPage as error:
                raise IncorrectLookupParameters from error
        self.result_list = self._load(request, [item for _, item in part])

    def _load(self, request: HttpRequest, part: Sequence[int | Summary]) -> list[Any]:
        stored: Mapping[Any, Any] = self.queryset.in_bulk([item for item in part if not isinstance(item, Summary)])
        reserved = record_validation.reserved_streams()
        documents = {record.stream: record.definition() for record in stored.values()}
        revisions, drifts = load_latest(database_alias(), documents)
        loaded: list[Any] = []
        for item in part:
            record: Any
            if isinstance(item, Summary):
                record = BindingRecord(stream=item.stream, model=item.model_text)
                record.summary = item
            elif item in stored:
                record = stored[item]
                record.summary = summarise_record(record, reserved)
            else:
                continue
            record.last_revision = revisions.get(record.stream) if record.pk else None
            record.drift = drifts.get(record.stream) if record.pk else None
            record.surroundings = load_surroundings(self.model_admin, request)
            loaded.append(record)
        return loaded


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
        context = {
            "title": "Bindings",
            "spread": load_surroundings(self, request).spread,
            "invalid": invalid,
            "missing": len(load_surroundings(self, request).faults),
            "doctor_url": screen.page_url(self, "doctor") if screen.may_examine(self, request) else "",
            "may_see_nodes": self.admin_site.is_registered(Node) and request.user.has_perm("declbind.view_node"),
            "begin_with": models_to_begin_with(),
            "console_pages": screen.console_pages(self, request),
            "elsewhere_total": len(everything),
            **(extra_context or {}),
        }
        response = super().changelist_view(request, context)
        shown = getattr(response, "context_data", None) or {}
        if isinstance(found := shown.get("cl"), BindingChangeList):
            # Only rows of the database can be selected.
            count = sum(record.pk is not None for record in found.result_list)
            shown["selection_note"] = f"0 of {count} selected"
            shown["selection_note_all"] = f"All {found.stored_count} selected"
            shown["selectable_count"] = count
        return response

    @admin.display(description=mark_safe('<input type="checkbox" id="action-toggle">'))
    def action_checkbox(self, obj: Any) -> SafeString:
        """Return the checkbox of a row; bindings of files and classes have none, because no action applies to them."""
        return super().action_checkbox(obj) if obj.pk is not None else mark_safe("&nbsp;")

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
        if record.pk is None:
            return cells.name_cell(record.summary, screen.page_url(self, "elsewhere", record.summary.where))
        return cells.name_cell(record.summary, record.surroundings.overview_url(self, record.pk), model=record.model)

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
        """Return the author and the time of the last change, or the place where a deployment changes it."""
        if record.pk is None:
            return format_html('<span class="declbind-where">{}</span>', record.summary.where)
        return cells.changed_cell(record.last_revision, screen.page_url(self, "history", record.pk))

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
