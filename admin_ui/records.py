"""The admin of binding records: the list, the form, the actions."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import router, transaction
from django.db.models import Max, QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path
from django.utils.safestring import SafeString

from admin_ui import cells, documents, elsewhere, filters, pages
from admin_ui.export_page import download
from admin_ui.form import FIELDSETS, BindingForm, form_values
from admin_ui.history import load_steps
from admin_ui.listing import Surroundings, find_streams, load_surroundings, models_to_begin_with
from admin_ui.screens import screen_urls
from admin_ui.summary import Summary, describe_fields, summarise_record
from declbind import judgement
from declbind.console.overview import load_drift
from declbind.models import BindingRecord, BindingRevision, Node, editing
from declbind.registry import database_alias

#: What an address may narrow the list by: the filters, and whole values of these columns.
LOOKUPS = {
    *(item.parameter_name for item in filters.FILTERS),
    *(f"{name}{end}" for name in ("id", "stream", "model", "enabled", "direction") for end in ("", "__exact")),
}
MAX_SEARCH = 200


class BindingChangeList(ChangeList):
    """Judge the rows of the page, find their last revisions and their drift: two queries for all of them."""

    def get_results(self, request: HttpRequest) -> None:
        """Load the page."""
        super().get_results(request)
        records: list[Any] = list(self.result_list)
        reserved = judgement.reserved_streams()
        latest = (
            BindingRevision.objects.filter(stream__in=[record.stream for record in records])
            .order_by()
            .values("stream")
            .annotate(last=Max("pk"))
            .values_list("last", flat=True)
        )
        revisions = {
            revision.stream: revision
            for revision in BindingRevision.objects.filter(pk__in=latest).select_related("author")
        }
        drifts = load_drift(database_alias(), {record.stream: record.definition() for record in records})
        for record in records:
            record.summary = summarise_record(record, reserved)
            record.last_revision = revisions.get(record.stream)
            record.drift = drifts.get(record.stream)
            record.surroundings = load_surroundings(self.model_admin, request)
        self.result_list = records


class BindingRecordAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """List all bindings, edit those of the database."""

    form = BindingForm
    list_display = ("state", "name", "sent", "who", "traffic", "changed")
    list_display_links = ("name",)
    list_filter = filters.FILTERS
    search_fields = ("stream", "model", "description", "fields", "exclude", "groups")
    actions = ("enable", "disable", "export", "check_again")
    change_list_template = "declbind_admin/change_list.html"
    change_form_template = "declbind_admin/change_form.html"
    save_on_top = False
    show_full_result_count = False

    class Media:
        css = {"all": ("declbind_admin/admin.css",)}

    # --- addresses ---------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        """Put the further pages before Django's own, whose last one takes any address."""
        fields = path(
            "model-fields/",
            self.admin_site.admin_view(self.model_fields_view),
            name=f"{self.opts.app_label}_{self.opts.model_name}_model_fields",
        )
        return [fields, *screen_urls(self), *super().get_urls()]

    def model_fields_view(self, request: HttpRequest) -> HttpResponse:
        """Answer with the fields of a model, for the form's script."""
        if not (self.has_add_permission(request) or self.has_change_permission(request)):
            raise PermissionDenied
        return JsonResponse({"fields": [vars(note) for note in describe_fields(request.GET.get("model", ""))]})

    # --- the list ----------------------------------------------------------------------------------------------------

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Use the list that judges its rows."""
        return BindingChangeList

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Add the head line and the bindings of files and classes."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        everything = elsewhere.load_elsewhere()
        invalid = len(filters.invalid_streams("database")) + sum(bool(summary.problems) for summary in everything)
        context = {
            "spread": load_surroundings(self, request).spread,
            "invalid": invalid,
            "may_see_nodes": self.admin_site.is_registered(Node) and request.user.has_perm("declbind.view_node"),
            "begin_with": models_to_begin_with(),
            "console_pages": pages.console_pages(self, request),
            "elsewhere": [self._row(request, summary) for summary in filters.pass_through(everything, request)],
            "elsewhere_total": len(everything),
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    def _row(self, request: HttpRequest, summary: Summary) -> dict[str, Any]:
        return {
            "summary": summary,
            "state": cells.state_cell(summary),
            "name": cells.name_cell(summary, pages.page_url(self, "elsewhere", summary.where)),
            "sent": cells.sent_cell(summary),
            "who": cells.who_cell(summary),
            "traffic": self._traffic(load_surroundings(self, request), summary.stream),
        }

    @admin.display(description="State, source")
    def state(self, record: Any) -> SafeString:
        """Active, disabled or invalid, and where it is defined."""
        return cells.state_cell(record.summary, record.drift)

    @admin.display(description="Stream, model", ordering="stream")
    def name(self, record: Any) -> SafeString:
        """The stream, its model and direction, what it is for, and what is wrong with it. The list makes the link."""
        return cells.name_cell(record.summary, model=record.model)

    @admin.display(description="Sent fields")
    def sent(self, record: Any) -> SafeString:
        """How many fields are sent."""
        return cells.sent_cell(record.summary)

    @admin.display(description="Who may")
    def who(self, record: Any) -> SafeString:
        """Who may do what."""
        return cells.who_cell(record.summary)

    @admin.display(description="Traffic")
    def traffic(self, record: Any) -> SafeString:
        """Who hears now, and how much goes out."""
        return self._traffic(record.surroundings, record.stream)

    @staticmethod
    def _traffic(surroundings: Surroundings, stream: str) -> SafeString:
        return cells.traffic_cell(surroundings.usage_of(stream), stream, surroundings.links)

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Let an address narrow the list by whole values alone: a pattern may be faulty, or take for ever."""
        texts = [str(text) for text in (value if isinstance(value, list) else [value])]
        return lookup in LOOKUPS and not any("\0" in text or len(text) > MAX_SEARCH for text in texts)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[BindingRecord], search_term: str
    ) -> tuple[QuerySet[BindingRecord], bool]:
        """Find by what the record says, and by the fields that "all fields" comes to."""
        # A longer pattern, or more words, is more than SQLite takes.
        search_term = search_term[:MAX_SEARCH]
        found, has_duplicates = super().get_search_results(request, queryset, search_term)
        if search_term:
            found |= queryset.filter(stream__in=find_streams(search_term))
        return found, has_duplicates

    @admin.display(description="Last changed")
    def changed(self, record: Any) -> SafeString:
        """By whom and when."""
        return cells.changed_cell(record.last_revision)

    # --- the form ----------------------------------------------------------------------------------------------------

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> BindingRecord | None:
        """Lock the row of a form that is sent, so that nobody changes it between its check and its save."""
        using = router.db_for_write(BindingRecord)
        if request.method == "POST" and transaction.get_connection(using).in_atomic_block and object_id.isdigit():
            self.get_queryset(request).using(using).select_for_update().filter(pk=object_id).first()
        return super().get_object(request, object_id, from_field)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Tell the form whose it is."""
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.user = request.user
        return form

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the sections; none for those who may only look, who get the record in words instead."""
        may_edit = self.has_change_permission(request, obj) if obj is not None else self.has_add_permission(request)
        return FIELDSETS if may_edit else ()

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Begin with a copy of a binding from elsewhere (``?copy=``), or with what the address names."""
        values = elsewhere.copied_values(request.GET["copy"]) if "copy" in request.GET else None
        if values is not None:
            return form_values(values)
        plain = ("stream", "model", "description")
        return {key: value for key, value in super().get_changeform_initial_data(request).items() if key in plain}

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        """Add what stands around the form: problems, both versions of a conflict, the model's fields, revisions."""
        form = context["adminform"].form
        may_edit = self.has_change_permission(request, obj) if obj is not None else self.has_add_permission(request)
        label = str(form["model"].value() or "") if "model" in form.fields else ""
        extra: dict[str, Any] = {
            "may_edit": may_edit,
            "notes": describe_fields(label),
            "notes_model": label,
            "notes_url": pages.page_url(self, "model_fields"),
            "copied_from": elsewhere.find_elsewhere(request.GET.get("copy", "")) if add else None,
        }
        if obj is not None:
            # The object itself may hold what a refused form said.
            stored = BindingRecord.objects.get(pk=obj.pk)
            summary = summarise_record(stored, judgement.reserved_streams())
            extra.update(summary=summary, document=documents.dump(stored.definition()), steps=load_steps(stored.stream))
            extra["json_url"] = pages.page_url(self, "json", obj.pk)
        if getattr(form, "theirs", None) is not None:
            extra["theirs"] = documents.dump(form.theirs)
            extra["diff"] = documents.diff(form.theirs, form.document)
        return super().render_change_form(request, {**context, **extra}, add, change, form_url, obj)

    def save_model(self, request: HttpRequest, obj: BindingRecord, form: Any, change: bool) -> None:
        """Store the record with its author and note; a form that says nothing new makes no revision."""
        if change and not form.is_changed:
            return
        with editing(author=request.user, note=form.cleaned_data.get("note", "")):
            obj.save(update_fields=["enabled"] if form.only_disables else None)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """There is nothing beside the record."""

    def delete_model(self, request: HttpRequest, obj: BindingRecord) -> None:
        """Delete a record in the user's name."""
        with editing(author=request.user):
            obj.delete()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[BindingRecord]) -> None:
        """Delete records in the user's name."""
        with editing(author=request.user), transaction.atomic():
            queryset.delete()

    # --- actions -----------------------------------------------------------------------------------------------------

    @admin.action(description="Enable selected bindings", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[BindingRecord]) -> None:
        """Switch on; one that has problems stays off and says which."""
        self._switch(request, queryset, True)

    @admin.action(description="Disable selected bindings", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[BindingRecord]) -> None:
        """Switch off, also one that went bad."""
        self._switch(request, queryset, False)

    def _switch(self, request: HttpRequest, queryset: QuerySet[BindingRecord], enabled: bool) -> None:
        done = 0
        for record in queryset.exclude(enabled=enabled):
            record.enabled = enabled
            try:
                with editing(author=request.user), transaction.atomic():
                    record.save(update_fields=["enabled"])
                    self.log_change(request, record, "Enabled." if enabled else "Disabled.")
            except ValidationError as error:
                self.message_user(request, " ".join(error.messages), messages.ERROR)
            else:
                done += 1
        word = "enabled" if enabled else "disabled"
        self.message_user(request, f"{done} binding{'' if done == 1 else 's'} {word}.", messages.SUCCESS)

    @admin.action(description="Export selected bindings as JSON", permissions=["view"])
    def export(self, request: HttpRequest, queryset: QuerySet[BindingRecord]) -> HttpResponse:
        """Download a file of the selected records."""
        return download(record.definition() for record in queryset)

    @admin.action(description="Check selected bindings", permissions=["view"])
    def check_again(self, request: HttpRequest, queryset: QuerySet[BindingRecord]) -> None:
        """Judge again and report."""
        reserved = judgement.reserved_streams()
        fine = []
        for record in queryset.order_by("stream"):
            summary = summarise_record(record, reserved)
            for problem in summary.problems:
                self.message_user(request, str(problem), messages.ERROR)
            for problem in summary.warnings:
                self.message_user(request, str(problem), messages.WARNING)
            if not summary.problems:
                fine.append(record.stream)
        if fine:
            self.message_user(request, f"No problems: {', '.join(fine)}.", messages.SUCCESS)
