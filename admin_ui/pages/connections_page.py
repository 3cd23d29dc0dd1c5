"""The pages of connections: users and their subscriptions; disconnect one, block a user for a time."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from admin_ui.common import screen
from admin_ui.common.screen import RecordAdmin
from declbind.console import connections
from declbind.console.shown import shown
from declbind.django_types import Operator
from declbind.inbound.blocks import block, unblock
from declbind.inbound.revocation import kick
from declbind.models import Block, Node
from declbind.registry import database_alias, get_registry

#: The choices for a connection: for how many seconds its user is blocked; 0 only disconnects.
LENGTHS = (
    (0, gettext_lazy("Disconnect this connection; the user may connect again")),
    (600, gettext_lazy("Disconnect all connections of the user, and block the user for 10 minutes")),
    (3600, gettext_lazy("Disconnect all connections of the user, and block the user for an hour")),
    (86_400, gettext_lazy("Disconnect all connections of the user, and block the user for a day")),
    (604_800, gettext_lazy("Disconnect all connections of the user, and block the user for a week")),
)


def urls(model_admin: RecordAdmin, prefix: str) -> list[URLPattern]:
    """Return the addresses of the list and of one connection."""
    wrap = model_admin.admin_site.admin_view

    def show_all(request: HttpRequest) -> HttpResponse:
        return list_view(model_admin, request)

    def show_one(request: HttpRequest, connection: str) -> HttpResponse:
        return detail_view(model_admin, request, connection)

    return [
        path("connections/", wrap(show_all), name=f"{prefix}_connections"),
        path("connections/<str:connection>/", wrap(show_one), name=f"{prefix}_connection"),
    ]


def may_disconnect(user: Operator) -> bool:
    """Return whether a user may disconnect and block others."""
    return bool(user.has_perm("declbind.disconnect"))


def list_view(model_admin: RecordAdmin, request: HttpRequest) -> HttpResponse:
    """Show a page of connections; filters are in the address. ``POST`` lifts a block."""
    if not screen.may_view_connections(request.user):
        raise PermissionDenied
    if request.method == "POST":
        return _lift(model_admin, request)
    using = database_alias()
    wanted = _read_wanted(request)
    found = connections.load_connections(wanted, using, _number(request.GET.get("p")))
    filters = {name: value for name, value in vars(wanted).items() if value}
    return screen.render_page(
        model_admin,
        request,
        "connections.html",
        _("Connections"),
        found=found,
        wanted=wanted,
        is_filtered=wanted != connections.Wanted(),
        streams=sorted(get_registry().by_stream),
        nodes=list(Node.objects.using(using).order_by("host", "pid")),
        blocks=connections.load_blocks(using),
        may_disconnect=may_disconnect(request.user),
        older=f"?{urlencode({**filters, 'p': found.page + 1})}" if found.page < found.pages else "",
        newer=f"?{urlencode({**filters, 'p': found.page - 1})}" if found.page > 1 else "",
    )


def detail_view(model_admin: RecordAdmin, request: HttpRequest, connection: str) -> HttpResponse:
    """Show one connection with all its subscriptions; ``POST`` disconnects it."""
    if not screen.may_view_connections(request.user):
        raise PermissionDenied
    found = connections.find_connection(connection.replace("\0", ""), database_alias())
    if found is None:
        raise Http404("There is no such connection. Closed connections are kept as long as the log.")
    if request.method == "POST":
        return _put_out(model_admin, request, found)
    return screen.render_page(
        model_admin,
        request,
        "connection.html",
        _("Connection of {user}").format(user=found.who),
        connection=found,
        may_disconnect=may_disconnect(request.user),
        lengths=LENGTHS if found.user_pk else LENGTHS[:1],
    )


def _put_out(model_admin: RecordAdmin, request: HttpRequest, found: connections.ListedConnection) -> HttpResponse:
    if not may_disconnect(request.user):
        raise PermissionDenied
    seconds = _number(request.POST.get("seconds"), -1)
    reason = screen.read_text(request.POST, "reason", 100)
    if seconds not in dict(LENGTHS) or (seconds and not found.user_pk):
        messages.error(request, _("Nothing was done: choose one of the listed durations."))
        return HttpResponseRedirect(screen.page_url(model_admin, "connection", found.id))
    if seconds:
        block(
            found.user_pk,
            timedelta(seconds=seconds),
            username=found.username,
            reason=reason,
            author=request.user,
            tenant=found.tenant,
        )
        done = _blocked(seconds).format(user=found.who)
    else:
        kick(connection=found.id, reason=reason, tenant=found.tenant)
        done = _("A connection of {user} is being closed.").format(user=found.who)
    screen.note_in_log(request, _("Connection of {user}").format(user=found.who), f"{done} {reason}".strip())
    messages.success(request, done)
    return HttpResponseRedirect(screen.page_url(model_admin, "connections"))


def _lift(model_admin: RecordAdmin, request: HttpRequest) -> HttpResponse:
    if not may_disconnect(request.user):
        raise PermissionDenied
    user_pk = screen.read_text(request.POST, "unblock", 64)
    tenant = screen.read_text(request.POST, "tenant", 63)
    blocks = shown(Block, database_alias()).filter(user_pk=user_pk, tenant=tenant)
    if blocks.exists() and unblock(user_pk, tenant):
        screen.note_in_log(request, _("Block of user {key}").format(key=user_pk), _("Lifted."))
        messages.success(request, _("User {key} may connect again.").format(key=user_pk))
    else:
        messages.info(request, _("This block no longer exists."))
    return HttpResponseRedirect(screen.page_url(model_admin, "connections"))


def _read_wanted(request: HttpRequest) -> connections.Wanted:
    def text(name: str) -> str:
        return screen.read_text(request.GET, name, 150)

    state = text("state") if "state" in request.GET else "open"
    return connections.Wanted(
        user=text("user"),
        stream=text("stream"),
        group=text("group"),
        node=text("node"),
        state=state if state in ("open", "closed") else "",
    )


def _number(text: str | None, default: int = 1) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 9 else default


def _blocked(seconds: int) -> str:
    return {
        600: _("Disconnected and blocked for 10 minutes: {user}."),
        3600: _("Disconnected and blocked for an hour: {user}."),
        86_400: _("Disconnected and blocked for a day: {user}."),
        604_800: _("Disconnected and blocked for a week: {user}."),
    }[seconds]
