"""The live page: frames going out and requests coming in, with their outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect, JsonResponse, QueryDict
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from admin_ui.common import screen
from admin_ui.common.screen import Context, RecordAdmin
from admin_ui.common.spread import load_spread
from admin_ui.common.visible import VisibleRows
from admin_ui.traffic import export, window
from admin_ui.traffic.answers import Answers
from admin_ui.traffic.links import Links, RowLinks, find_page, find_processes
from admin_ui.traffic.rates import load_rates
from admin_ui.traffic.row_page import REVEALED, row_view
from admin_ui.traffic.rows import Row
from admin_ui.traffic.stream import can_push, stream_view
from admin_ui.traffic.wanted import Wanted, readable_models, stream_models
from admin_ui.traffic.watching import end_watch, watch_page
from declbind import tenancy
from declbind.core.errors import CODES
from declbind.django_types import Operator
from declbind.models import Node, SavedView
from declbind.models.author import key_of
from declbind.registry import database_alias

POLL_MILLISECONDS = 1000
MAX_SAVED = 50
#: The number of equal rows that are shown; the others are counted.
SHOWN_ALIKE = 3
ACTIONS = (
    "create",
    "update",
    "delete",
    "resync",
    "subscribe",
    "unsubscribe",
    "connect",
    "config",
    "kick",
    "users",
    "session",
)
OUTCOMES = ("ok", *CODES, "origin", "connections", "connected", "disconnected")
#: Tabs and presets: the value of ``only``, and its label.
TABS = (("", gettext_lazy("All")), ("refused", gettext_lazy("Refused")), ("errors", gettext_lazy("Errors")))


def guarded(
    model_admin: RecordAdmin, view: Callable[..., HttpResponseBase], *, answers_json: bool = False
) -> Callable[..., HttpResponseBase]:
    """Restrict a view to staff with ``declbind.view_traffic``. Others get 403, and anonymous users a login page."""

    def show(request: HttpRequest, **kwargs: object) -> HttpResponseBase:
        return view(model_admin, request, **kwargs)

    wrapped = model_admin.admin_site.admin_view(show)

    def guard(request: HttpRequest, **kwargs: object) -> HttpResponseBase:
        allowed = model_admin.admin_site.has_permission(request) and screen.may_watch(request.user)
        if not allowed and answers_json:
            return JsonResponse({"error": "denied"}, status=403)
        if not allowed and request.user.is_authenticated:
            raise PermissionDenied
        response: HttpResponseBase = wrapped(request, **kwargs)
        return response

    return guard


def urls(model_admin: RecordAdmin, prefix: str) -> list[URLPattern]:
    """Return the addresses of the page, of its polls and pushes, and of its subpages."""

    def at(route: str, view: Callable[..., HttpResponseBase], name: str, *, answers_json: bool = False) -> URLPattern:
        return path(route, guarded(model_admin, view, answers_json=answers_json), name=f"{prefix}_{name}")

    return [
        at("live/", live_view, "live"),
        at("live/rows/", rows_view, "live_rows", answers_json=True),
        at("live/stream/", stream_view, "live_stream", answers_json=True),
        at("live/stop/", stop_view, "live_stop", answers_json=True),
        at("live/export/", export_view, "live_export"),
        at("live/views/", saved_view, "live_saved"),
        at("live/row/<str:key>/", row_view, "live_row"),
    ]


def live_view(model_admin: RecordAdmin, request: HttpRequest) -> HttpResponse:
    """Show the newest rows, or those after ``cursor``. Works without JavaScript, which only adds new rows."""
    watch_page(request)
    wanted = read_wanted(model_admin, request)
    after = window.Cursor.parse(request.GET.get("cursor", ""))
    look = window.Window(wanted)
    folds = folds_rows(wanted, request)
    page = look.newest(is_fair=folds) if after is None else look.onward(after)
    links = Links(model_admin)
    by_stream = stream_models()
    rates = load_rates()
    query = wanted.query
    onward = f"{query}&" if query else ""
    shown = [(row, links.of(row)) for row in page.rows]
    return screen.render_page(
        model_admin,
        request,
        "live.html",
        _("Live traffic"),
        **_addresses(model_admin, request, wanted),
        rows=fold(shown) if folds else shown,
        folds=folds,
        alike=SHOWN_ALIKE if folds else 0,
        alike_max=SHOWN_ALIKE,
        each_url=f"?{onward}each=1",
        zone=timezone.localtime().tzname() if settings.USE_TZ else timezone.get_default_timezone_name(),
        page=page,
        after=after,
        wanted=wanted,
        tabs=[(label, f"?{wanted.but(only=only)}", wanted.only == only) for only, label in TABS],
        streams=_choices(by_stream, wanted.stream),
        models=_choices(set(by_stream.values()), wanted.model),
        actions=_choices(ACTIONS, wanted.action),
        outcomes=_choices(OUTCOMES, wanted.outcome),
        nodes=_processes(wanted.node),
        charts=rates.draw(),
        tables=rates.tables(),
        spread=load_spread(),
        saved=SavedView.objects.filter(owner_pk=_owner(request.user)),
        max_rows=window.MAX_ROWS,
        window=window.WINDOW,
        # A page of the past does not change. A page at the end is updated.
        is_live=not page.has_more and not page.is_reset,
        poll_milliseconds=POLL_MILLISECONDS,
        query=query,
        now_url=f"?{query}",
        onward_url=f"?{onward}cursor=",
        clear_url=f"?{onward}cursor={look.cursor}",
        may_see_bindings=model_admin.has_view_permission(request),
    )


def folds_rows(wanted: Wanted, request: HttpRequest) -> bool:
    """Return whether equal rows are counted. They are not for a narrow filter, nor with ``each`` in the address."""
    return not (wanted.stream or wanted.row or wanted.user or wanted.group or wanted.q) and "each" not in request.GET


def fold(rows: list[tuple[Row, RowLinks]]) -> list[tuple[Row, RowLinks]]:
    """Return the rows with the number of equal rows that are hidden behind each; none of a single stream."""
    if len({row.stream for row, _ in rows if row.likeness}) < 2:
        return rows
    total = Counter(row.likeness for row, _ in rows)
    seen: Counter[str] = Counter()
    folded = []
    for row, links in rows:
        seen[row.likeness] += bool(row.likeness)
        at = seen[row.likeness]
        more = total[row.likeness] - SHOWN_ALIKE if at == SHOWN_ALIKE else 0
        folded.append((row, replace(links, more=-1 if at > SHOWN_ALIKE else more)))
    return folded


def _addresses(model_admin: RecordAdmin, request: HttpRequest, wanted: Wanted) -> Context:
    """Return the addresses that the page links to or calls."""
    return {
        "problems_url": f"?{wanted.but(only='problems')}",
        "mine_url": f"?{wanted.but(user=request.user.get_username())}",
        "connections_url": find_page(model_admin, "connections") or f"?{wanted.but(only='connections')}",
        "processes_url": find_processes(model_admin),
        "poll_url": screen.page_url(model_admin, "live_rows"),
        "stream_url": screen.page_url(model_admin, "live_stream") if can_push(request) else "",
        "stop_url": screen.page_url(model_admin, "live_stop"),
        "export_url": screen.page_url(model_admin, "live_export"),
        "saved_url": screen.page_url(model_admin, "live_saved"),
    }


def rows_view(model_admin: RecordAdmin, request: HttpRequest) -> HttpResponse:
    """Return the rows after ``cursor`` as HTML for a poll, oldest first, each with its key. Renews the watch.

    ``whole`` returns all rows, up to a page of them, and not a sample; ``bare`` only their number; ``extras`` adds data
    for the charts.
    """
    cursor = window.Cursor.parse(request.GET.get("cursor", ""))
    if cursor is None:
        return JsonResponse({"error": "expected cursor=epoch:offset:number"}, status=400)
    watch_page(request)
    answers = Answers(model_admin, read_wanted(model_admin, request))
    answer = answers.rows(cursor, whole=request.GET.get("whole") == "1", bare=request.GET.get("bare") == "1")
    if request.GET.get("extras") == "1":
        answer.update(answers.extras())
    return JsonResponse(answer, headers={"Cache-Control": "no-store"})


def stop_view(model_admin: RecordAdmin, request: HttpRequest) -> HttpResponse:
    """End the watch. The page calls this when it is closed."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    end_watch(request.user)
    return HttpResponse(status=204)


def export_view(model_admin: RecordAdmin, request: HttpRequest) -> HttpResponse:
    """Return a file with the rows of the page, by the same filters. It has values only after they were revealed."""
    visible = VisibleRows(model_admin.admin_site, request) if request.session.get(REVEALED) else None
    wanted = read_wanted(model_admin, request)
    look = window.Window(wanted, readable=readable_models(request.user), visible=visible)
    after = window.Cursor.parse(request.GET.get("cursor", ""))
    page = look.newest(is_fair=folds_rows(wanted, request)) if after is None else look.onward(after)
    return export.download(page.rows, "csv" if request.GET.get("format") == "csv" else "jsonl")


def saved_view(model_admin: RecordAdmin, request: HttpRequest) -> HttpResponse:
    """Store the filters under a name, or delete a name. Each user has their own names."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    views = SavedView.objects.filter(owner_pk=_owner(request.user))
    query = Wanted.read(_parsed(request.POST.get("query", ""))).query
    if request.POST.get("delete"):
        views.filter(name=screen.read_text(request.POST, "delete", 60)).delete()
    else:
        name = screen.read_text(request.POST, "name", 60)
        if not name:
            messages.error(request, _("Expected a name for the view, got none."))
        elif len(query) > 500:
            messages.error(request, _("These filters are too long to be stored."))
        elif not views.filter(name=name).exists() and views.count() >= MAX_SAVED:
            words = ngettext(
                "There is {number} view already: delete one first.",
                "There are {number} views already: delete one first.",
                MAX_SAVED,
            )
            messages.error(request, words.format(number=MAX_SAVED))
        else:
            SavedView.objects.update_or_create(owner_pk=_owner(request.user), name=name, defaults={"query": query})
            messages.success(request, _("Stored as {name}.").format(name=name))
    return HttpResponseRedirect(f"{screen.page_url(model_admin, 'live')}?{query}")


def read_wanted(model_admin: RecordAdmin, request: HttpRequest) -> Wanted:
    """Read the filters from the address. Values are searched only in models of which the viewer may see all rows."""
    visible = VisibleRows(model_admin.admin_site, request)
    return Wanted.read(request.GET, visible.unlimited(readable_models(request.user)))


def _parsed(query: str) -> dict[str, str]:
    return {key: str(value) for key, value in QueryDict(query[:5000]).items()}


def _choices(known: Iterable[str], chosen: str) -> list[str]:
    return sorted({*known, chosen} - {""})


def _processes(chosen: str) -> list[tuple[str, str]]:
    nodes = [(node.pk, str(node)) for node in Node.objects.using(database_alias()).order_by("host", "pid")[:200]]
    return nodes if not chosen or chosen in dict(nodes) else [(chosen, chosen[:8]), *nodes]


def _owner(user: Operator) -> str:
    """Return the name of a user as the owner of saved views. User 1 of another tenant is another user."""
    return tenancy.owner_key(get_user_model(), key_of(user), database_alias())
