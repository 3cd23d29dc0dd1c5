"""The admin of binding records: the form and its saving. The list and its actions are in modules of their own."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.contrib.admin.models import LogEntry
from django.core.exceptions import PermissionDenied
from django.db import router, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path

from admin_ui.bindings import binding_page, elsewhere
from admin_ui.bindings.actions import RecordActions
from admin_ui.bindings.history import BindingRevisionAdmin
from admin_ui.bindings.list_page import ListPage
from admin_ui.bindings.sight import load_sight
from admin_ui.bindings.summary import describe_fields, describe_relations, summarise_record
from admin_ui.common import documents, screen
from admin_ui.common.faults import report_faults
from admin_ui.common.screen import Context
from admin_ui.editor.fields import describe_key
from admin_ui.editor.form import BindingForm, form_values
from admin_ui.editor.json_page import JsonPage
from admin_ui.editor.panel import build_panel
from admin_ui.editor.proposals import propose_stream
from admin_ui.editor.sections import EXISTING, FIELDSETS, build_sections
from admin_ui.menu import extend_menu
from admin_ui.pages.nodes import NodeAdmin
from admin_ui.screens import screen_urls
from declbind import record_validation
from declbind.console.shown import sees_all
from declbind.models import BindingRecord, editing

__all__ = ["BindingRecordAdmin", "BindingRevisionAdmin", "NodeAdmin"]

#: The form's scripts; each works without the others.
SCRIPTS = tuple(f"declbind_admin/{name}.js" for name in ("form", "picker", "relations", "builders", "panel"))


class BindingRecordAdmin(ListPage, RecordActions):
    """All bindings in a list, and the form for those of the database."""

    form = BindingForm
    change_form_template = "declbind_admin/change_form.html"
    delete_confirmation_template = "declbind_admin/delete.html"
    delete_selected_confirmation_template = "declbind_admin/delete_selected.html"
    save_on_top = False

    class Media:
        css = {"all": ("declbind_admin/admin.css",)}

    def __init__(self, model: type[BindingRecord], admin_site: AdminSite) -> None:
        super().__init__(model, admin_site)
        extend_menu(self, admin_site)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may add a binding.

        Bindings are the same for all tenants, so only operators who see all tenants may add one.
        """
        return sees_all() and super().has_add_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: BindingRecord | None = None) -> bool:
        """Like ``has_add_permission``."""
        return sees_all() and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: BindingRecord | None = None) -> bool:
        """Like ``has_add_permission``."""
        return sees_all() and super().has_delete_permission(request, obj)

    def get_urls(self) -> list[URLPattern]:
        """Return the addresses of all pages. Django's own come last, because the last of them matches any address."""
        fields = path(
            "model-fields/",
            self.admin_site.admin_view(self.model_fields_view),
            name=f"{self.opts.app_label}_{self.opts.model_name}_model_fields",
        )
        return report_faults(self, [fields, *screen_urls(self), *super().get_urls()])

    def model_fields_view(self, request: HttpRequest) -> HttpResponse:
        """Answer with the fields of a model, for the form's script."""
        if not (self.has_add_permission(request) or self.has_change_permission(request)):
            raise PermissionDenied
        label = request.GET.get("model", "")
        return JsonResponse(
            {
                "fields": [vars(note) for note in describe_fields(label)],
                "relations": [vars(note) for note in describe_relations(label)],
                "key": describe_key(label),
                "stream": propose_stream(label) if self.has_add_permission(request) else "",
            }
        )

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Context | None = None) -> HttpResponse:
        """Show the changes of a binding in words, in place of Django's list of log entries."""
        return binding_page.history_view(self, request, object_id)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> BindingRecord | None:
        """Lock the row of a submitted form, so that nobody changes it between its check and its save."""
        using = router.db_for_write(BindingRecord)
        if (
            request.method == "POST"
            and transaction.get_connection(using).in_atomic_block
            and object_id.isdecimal()
            and object_id.isascii()
        ):
            self.get_queryset(request).using(using).select_for_update().filter(pk=object_id).first()
        return super().get_object(request, object_id, from_field)

    def get_form(
        self, request: HttpRequest, obj: BindingRecord | None = None, change: bool = False, **kwargs: Any
    ) -> type[BindingForm]:
        """Return the form class for the current user."""
        form = super().get_form(request, obj, change=change, **kwargs)
        assert issubclass(form, BindingForm)
        form.user = request.user
        form.only_look = "_look" in request.POST or "_as_json" in request.POST
        form.unsaved, form.carried = getattr(request, "declbind_unsaved", (None, {}))
        return form

    def get_fieldsets(self, request: HttpRequest, obj: BindingRecord | None = None) -> Any:
        """Return the sections; none for users who may only view, for whom the record is shown in words."""
        may_edit = self.has_change_permission(request, obj) if obj is not None else self.has_add_permission(request)
        return (FIELDSETS if obj is None else EXISTING) if may_edit else ()

    def get_changeform_initial_data(self, request: HttpRequest) -> documents.Document:
        """Return a copy of a binding from elsewhere (``?copy=``), or the values in the address."""
        values = elsewhere.copied_values(request.GET["copy"]) if "copy" in request.GET else None
        if values is not None:
            return form_values(values)
        plain = ("stream", "model", "description")
        given = {key: value for key, value in super().get_changeform_initial_data(request).items() if key in plain}
        return {"stream": propose_stream(str(given["model"])), **given} if "model" in given else given

    def render_change_form(
        self,
        request: HttpRequest,
        context: Context,
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: BindingRecord | None = None,
    ) -> HttpResponse:
        """Add the context around the form: problems, both versions of a conflict, the model's fields, revisions."""
        form = context["adminform"].form
        may_edit = self.has_change_permission(request, obj) if obj is not None else self.has_add_permission(request)
        if "_as_json" in request.POST and may_edit and not form.unread:
            return JsonPage(self, request).show_unsaved(obj or BindingRecord(), form.before, form.document)
        label = str(form["model"].value() or "") if "model" in form.fields else ""
        extra: Context = {
            "may_edit": may_edit,
            "console_pages": screen.console_pages(self, request),
            "form_scripts": SCRIPTS,
            "unsaved": form.unsaved is not None,
            "panel_url": screen.page_url(self, "panel"),
            "look_query": request.POST.get("look_q", ""),
            "notes": describe_fields(label),
            "relations": describe_relations(label),
            "notes_model": label,
            "notes_key": describe_key(label),
            "notes_url": screen.page_url(self, "model_fields"),
            "copied_from": elsewhere.find_elsewhere(request.GET.get("copy", "")) if add else None,
        }
        if obj is not None:
            # The object itself may hold the values of a refused form.
            stored = BindingRecord.objects.get(pk=obj.pk)
            summary = summarise_record(stored, record_validation.reserved_streams())
            extra.update(summary=summary, document=documents.dump(stored.definition()))
            # The stream is named once more beside the tabs.
            extra.update(title=stored.stream, subtitle=None)
            extra["sight"] = load_sight(stored.stream, summary.where)
            extra["overview_url"] = screen.page_url(self, "overview", obj.pk)
            extra["json_url"] = screen.page_url(self, "json", obj.pk)
            extra["accept_url"] = screen.page_url(self, "accept", obj.pk) if may_edit else ""
        if may_edit:
            extra["sections"] = build_sections(context["adminform"], form)
            extra["panel"] = build_panel(self, request, form, with_row="_look" in request.POST)
        if getattr(form, "theirs", None) is not None:
            extra["theirs"] = documents.dump(form.theirs)
            extra["diff"] = documents.diff(form.theirs, form.document)
        return super().render_change_form(request, {**context, **extra}, add, change, form_url, obj)

    def save_model(self, request: HttpRequest, obj: BindingRecord, form: BindingForm, change: bool) -> None:
        """Store the record with its author and note; an unchanged form makes no revision."""
        if change and not form.is_changed:
            return
        with editing(author=request.user, note=form.cleaned_data.get("note", "")):
            obj.save(update_fields=["enabled"] if form.only_disables else None)

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        """Return the meaning of the edit for the admin's log."""
        return form.change.text or super().construct_change_message(request, form, formsets, add)

    def log_addition(self, request: HttpRequest, obj: BindingRecord, message: object) -> LogEntry:
        """Keep the text about the addition, also for the messages of this request."""
        request.declbind_words = message  # type: ignore[attr-defined]
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: BindingRecord, message: object) -> LogEntry:
        """Keep the text about the change, also for the messages of this request."""
        request.declbind_words = message  # type: ignore[attr-defined]
        return super().log_change(request, obj, message)

    def response_add(
        self, request: HttpRequest, obj: BindingRecord, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Add the words to the message."""
        response = super().response_add(request, obj, post_url_continue)
        self._tell_words(request, obj)
        return response

    def response_change(self, request: HttpRequest, obj: BindingRecord) -> HttpResponse:
        """Add the words to the message."""
        response = super().response_change(request, obj)
        self._tell_words(request, obj)
        return response

    def _tell_words(self, request: HttpRequest, obj: BindingRecord) -> None:
        words = getattr(request, "declbind_words", "")
        if words and isinstance(words, str):
            self.message_user(request, f"{obj}: {words}.", messages.INFO)

    def save_related(self, request: HttpRequest, form: BindingForm, formsets: object, change: bool) -> None:
        """Do nothing, because a record has no related objects."""

    def delete_model(self, request: HttpRequest, obj: BindingRecord) -> None:
        """Delete a record in the user's name."""
        with editing(author=request.user):
            obj.delete()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[BindingRecord]) -> None:
        """Delete records in the user's name."""
        with editing(author=request.user), transaction.atomic(using=router.db_for_write(BindingRecord)):
            queryset.delete()
