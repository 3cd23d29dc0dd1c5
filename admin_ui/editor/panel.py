"""The panel beside the form: problems of the edited binding, effects of the edit, and the frame of one row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import DatabaseError, models, router, transaction
from django.db.models import Model, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.template.loader import render_to_string
from django.urls import URLPattern, path
from django.utils.translation import gettext as _

from admin_ui.common import screen
from admin_ui.common.screen import RecordAdmin
from admin_ui.common.visible import find_admin, is_limited
from admin_ui.editor.changes import CONFIRM, Change
from admin_ui.editor.form import BindingForm
from admin_ui.editor.sections import describe_sections
from declbind import value_validation
from declbind.binding_classes import build_binding
from declbind.console import audience
from declbind.console.preview import Preview, make_preview
from declbind.console.record_words import audience_in_words
from declbind.core.errors import ConfigError
from declbind.core.spec import BindingSpec
from declbind.fields import find_model, is_sensitive_field
from declbind.models import BindingRecord
from declbind.registry import database_alias

SHOWN_ROWS = 10
SHOWN_NAMES = 10
LONGEST_LABEL = 80
#: The number of connections above which their subscriptions are not counted exactly.
COUNTED = 1000
#: The field of a compound input that a link leads to.
ANCHORS = {"fields": "fields_mode_0", "writable": "writable_mode_0", "permissions": "permissions_view",
           "writers": "permissions_create", "direction": "direction_0", "capture": "capture_0"}  # fmt: skip


@dataclass(frozen=True)
class FormProblem:
    """One problem of the form; without ``name`` it is about the whole form."""

    name: str
    label: str
    text: str

    @property
    def anchor(self) -> str:
        """The input that a link leads to."""
        return f"id_{ANCHORS.get(self.name, self.name)}"


@dataclass(frozen=True)
class RowChoice:
    """One row that can be previewed."""

    pk: str
    label: str
    is_chosen: bool


@dataclass(frozen=True)
class PreviewedRow:
    """One row as the edited binding would send it. ``note`` explains why something is missing."""

    query: str = ""
    rows: tuple[RowChoice, ...] = ()
    note: str = ""
    preview: Preview | None = None
    who: tuple[str, ...] = ()
    audience: audience.Audience | None = None
    shows_names: bool = False

    @property
    def frame(self) -> str:
        """The frame for people. Clients get the same without the spaces."""
        text = self.preview.frame if self.preview is not None else ""
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False) if text else ""

    @property
    def names(self) -> list[str]:
        """The first of the users who would receive it."""
        listeners = self.audience.listeners if self.audience is not None else ()
        return list(dict.fromkeys(listener.username or _("an anonymous visitor") for listener in listeners))[
            :SHOWN_NAMES
        ]


@dataclass(frozen=True)
class Panel:
    """The content of the panel."""

    problems: tuple[FormProblem, ...] = ()
    change: Change = field(default_factory=Change)
    notified: int = 0
    look: PreviewedRow = field(default_factory=PreviewedRow)
    ticked: str = ""
    is_new: bool = False
    #: What a new binding still needs, before there is anything to show or to object to.
    missing: tuple[str, ...] = ()


def urls(model_admin: RecordAdmin, prefix: str) -> list[URLPattern]:
    """Return the address that the form's script asks."""

    def show(request: HttpRequest) -> HttpResponse:
        return panel_view(model_admin, request)

    return [path("panel/", model_admin.admin_site.admin_view(show), name=f"{prefix}_panel")]


def panel_view(model_admin: RecordAdmin, request: HttpRequest) -> HttpResponse:
    """Return the panel for the present form, as HTML in JSON. Stores nothing."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    record = None
    key = request.POST.get("object_id", "")
    if key:
        record = model_admin.get_object(request, key)
        if record is None:
            raise Http404("There is no such binding. Perhaps it was deleted.")
        allowed = model_admin.has_change_permission(request, record)
    else:
        allowed = model_admin.has_add_permission(request)
    if not allowed:
        raise PermissionDenied
    form_class = model_admin.get_form(request, record, change=record is not None)
    assert issubclass(form_class, BindingForm)
    form_class.only_look = True
    form = form_class(request.POST, instance=record if record is not None else BindingRecord())
    panel = build_panel(model_admin, request, form, with_row=True)
    html = render_to_string("declbind_admin/panel_body.html", {"panel": panel}, request)
    mistakes = [[problem.name, problem.text] for problem in panel.problems if problem.name]
    answer = {"html": html, "sections": describe_sections(form.document), "problems": mistakes}
    return JsonResponse(answer, headers={"Cache-Control": "no-store"})


def build_panel(model_admin: RecordAdmin, request: HttpRequest, form: BindingForm, *, with_row: bool) -> Panel:
    """Return the panel for a form, submitted or not. Rows are read only ``with_row``, because they take queries."""
    problems, missing = _split(tuple(_problems(form)), form, request.POST.get("touched"))
    change: Change = form.change if not missing else Change()
    stream = str(form.before.get("stream", "")) if form.before else ""
    return Panel(
        problems=problems,
        change=change,
        notified=count_subscribed(stream, database_alias()) if stream and change.items else 0,
        look=_look(model_admin, request, form, problems) if with_row and not missing else PreviewedRow(),
        ticked=request.POST.get(CONFIRM, ""),
        is_new=not form.before,
        missing=missing,
    )


def _split(
    problems: tuple[FormProblem, ...], form: BindingForm, touched: str | None
) -> tuple[tuple[FormProblem, ...], tuple[str, ...]]:
    """Return the problems to show, and the names of the inputs of a new binding that are still empty.

    Args:
        problems: All problems.
        form: The form.
        touched: The names of the inputs that a person has left, separated by commas; None if that is not known.
    """
    if touched is None or form.before:
        return problems, ()
    known = set(touched.split(","))
    waiting = [problem for problem in problems if problem.name and problem.name not in known]
    shown = () if waiting else tuple(problem for problem in problems if not problem.name)
    shown += tuple(problem for problem in problems if problem.name in known)
    return shown, tuple(dict.fromkeys(problem.label for problem in waiting))


def count_subscribed(stream: str, using: str) -> int:
    """Return how many connections are subscribed to a group of a stream now.

    If there are very many, those that were subscribed recently count too.
    """
    begin = f"[{json.dumps(stream)},"
    rows = audience.open_connections(using).filter(subscriptions__contains=begin).order_by()
    found = list(rows.values_list("subscriptions", flat=True)[: COUNTED + 1])
    if len(found) > COUNTED:
        return rows.count()
    return sum(any(name == stream and until is None for name, _, until, *_ in json.loads(text)) for text in found)


def _problems(form: BindingForm) -> Iterator[FormProblem]:
    if not form.is_bound:
        return
    for name, errors in form.errors.as_data().items():
        field_name = "" if name not in form.inputs else name
        label = str(form[field_name].label) if field_name else ""
        for error in errors:
            if error.code in (CONFIRM, "conflict"):
                continue
            for text in error.messages:
                yield FormProblem(field_name, label, text)


# One row --------------------------------------------------------------------------------------------------------------


def _look(
    model_admin: RecordAdmin, request: HttpRequest, form: BindingForm, problems: Sequence[FormProblem]
) -> PreviewedRow:
    query, wanted = request.POST.get("look_q", "").strip()[:100], request.POST.get("look_pk", "")[:200]
    model = find_model(str(form.document.get("model", "")))
    if model is None:
        return PreviewedRow(query, note=_("Choose a model first.") if not problems else "")
    if not request.user.has_perm(f"{model._meta.app_label}.view_{model._meta.model_name}"):
        note = _("Rows are shown only to users who may view {models}.")
        return PreviewedRow(query, note=note.format(models=model._meta.verbose_name_plural))
    if problems:
        return PreviewedRow(query, note=_("Fix the problems above first. Then the frame of a row is shown here."))
    binding = build_binding(BindingSpec.from_dict(form.document))
    try:
        # On PostgreSQL, a failed query would break the transaction of the page.
        with transaction.atomic(using=router.db_for_read(model)):
            rows = _readable_rows(model_admin, request, model)
            found = _find_rows(model_admin, request, model, rows, query)
            chosen = _chosen(rows, query, wanted, found)
            found, chosen = _only_allowed(model_admin, request, model, found, chosen)
    except Exception as error:  # Project code decides what is visible. If it fails, no row is.
        name, fault = model._meta.label, type(error).__name__
        note = _("The admin page of {model} failed with {fault}, so none of its rows are shown here.")
        return PreviewedRow(query, note=note.format(model=name, fault=fault))
    choices = tuple(RowChoice(str(row.pk), _label(row), row is chosen) for row in found)
    if chosen is None:
        return PreviewedRow(query, choices, note=_("No row matches.") if query else _("The model has no rows yet."))
    if chosen not in found:
        choices = (RowChoice(str(chosen.pk), _label(chosen), True), *choices)[:SHOWN_ROWS]
    try:
        # A serializer of the project may break the transaction, which must not affect later queries.
        with transaction.atomic(using=rows.db):
            preview = make_preview(binding, str(chosen.pk), AnonymousUser())
    except (ConfigError, DatabaseError) as error:
        return PreviewedRow(query, choices, note=str(error).removeprefix("$: "))
    bound = binding()
    rule = bound.rule("view")
    who = _("everyone") if rule is True else audience_in_words(rule)
    if bound.resolved().spec.scope:
        who = _("{who}, each only own rows").format(who=who)
    nobody = _("nobody, because nothing is sent to clients")
    return PreviewedRow(
        query,
        choices,
        preview=preview,
        who=(str(who) if bound.resolved().spec.outbound else nobody,),
        audience=audience.load_audience(str(binding.stream), preview.groups, database_alias(), SHOWN_NAMES),
        shows_names=request.user.has_perm("declbind.view_connection") or screen.may_watch(request.user),
    )


def _readable_rows(model_admin: RecordAdmin, request: HttpRequest, model: type[Model]) -> QuerySet[Model]:
    """Return the rows that the user may see: those of the model's admin page, if it has one."""
    registered = find_admin(model_admin.admin_site, model)
    if registered is None:
        rows: QuerySet[Model] = model._default_manager.all()
        return rows
    own: QuerySet[Model] = registered.get_queryset(request)
    # The page may belong to a model with the same rows.
    return own if registered.model is model else model._default_manager.filter(pk__in=own.values("pk"))


def _only_allowed(
    model_admin: RecordAdmin, request: HttpRequest, model: type[Model], found: list[Model], chosen: Model | None
) -> tuple[list[Model], Model | None]:
    """Return the rows that the model's admin page would show, and the chosen one if it is among them."""
    registered = find_admin(model_admin.admin_site, model)
    if registered is None or not is_limited(registered):
        return found, chosen
    if not registered.has_view_permission(request):
        return [], None
    allowed = [row for row in found if registered.has_view_permission(request, row)]
    if chosen is not None and not registered.has_view_permission(request, chosen):
        chosen = next(iter(allowed), None)
    return allowed, chosen


def _find_rows(
    model_admin: RecordAdmin, request: HttpRequest, model: type[Model], rows: QuerySet[Model], query: str
) -> list[Model]:
    """Return the first rows that a search finds. A row with exactly this key comes first."""
    if not query:
        return list(rows.order_by("-pk")[:SHOWN_ROWS])
    exact = _by_key(rows, query)
    registered = model_admin.admin_site._registry.get(model)
    if registered is not None and registered.get_search_fields(request):
        matching, has_repeats = registered.get_search_results(request, rows, query)
        matching = matching.distinct() if has_repeats else matching
    else:
        matching = rows.filter(_contains(model, query))
    found = [row for row in matching.order_by("-pk")[:SHOWN_ROWS] if exact is None or row.pk != exact.pk]
    return ([exact] if exact is not None else [])[:1] + found[: SHOWN_ROWS - (exact is not None)]


def _contains(model: type[Model], query: str) -> Q:
    """Search the model's text columns except secrets, which a search could guess letter by letter."""
    condition = Q(pk__in=[])
    for column in model._meta.concrete_fields:
        if isinstance(column, models.CharField | models.TextField) and not is_sensitive_field(column):
            condition |= Q(**{f"{column.name}__icontains": query})
    return condition


def _chosen(rows: QuerySet[Model], query: str, wanted: str, found: Sequence[Model]) -> Model | None:
    """Return the chosen row, else the first one found. With a search, only rows that it finds count."""
    listed = next((row for row in found if str(row.pk) == wanted), None)
    kept = _by_key(rows, wanted) if wanted and listed is None and not query else None
    return listed or kept or next(iter(found), None)


def _by_key(rows: QuerySet[Model], text: str) -> Model | None:
    key = rows.model._meta.pk
    try:
        return rows.filter(pk=value_validation.coerce(key, text)).first()
    except (ValueError, ValidationError, OverflowError):
        return None


def _label(row: Model) -> str:
    try:
        text = str(row)
    except Exception:  # Project code. If it fails, the key is shown.
        text = ""
    return text[:LONGEST_LABEL]
