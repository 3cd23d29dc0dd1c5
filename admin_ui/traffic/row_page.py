"""The page of one row of the live traffic: all that is known about it, and its values for users who may read them."""

from __future__ import annotations

from dataclasses import replace

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.formats import number_format
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from admin_ui.common import screen
from admin_ui.common.screen import RecordAdmin
from admin_ui.common.visible import VisibleRows
from admin_ui.traffic.deliveries import Deliveries, load_deliveries
from admin_ui.traffic.links import Links
from admin_ui.traffic.rows import Reader, Row, load_processes
from admin_ui.traffic.wanted import readable_models, stream_models
from declbind.console.shown import shown
from declbind.django_types import Operator
from declbind.models import Connection, Event, Traffic
from declbind.registry import database_alias

#: The session key for revealed values. They are shown on the pages of rows until the user hides them.
REVEALED = "declbind_revealed"


def row_view(model_admin: RecordAdmin, request: HttpRequest, key: str) -> HttpResponse:
    """Show one row. A POST reveals its values or hides them again."""
    if request.method == "POST":
        return _reveal(model_admin, request, key)
    models = readable_models(request.user)
    revealed = bool(request.session.get(REVEALED))
    using = database_alias()
    reader = Reader(
        using,
        models=models,
        values=revealed,
        whole=True,
        processes=load_processes(using),
        stream_models=stream_models(),
        visible=VisibleRows(model_admin.admin_site, request),
    )
    found = _load(key, using)
    if isinstance(found, Event):
        reader = replace(reader, deliveries=load_deliveries([found.created_at], using))
        row = reader.event_row(found)
    else:
        row = reader.traffic_row(found)
    links = Links(model_admin)
    return screen.render_page(
        model_admin,
        request,
        "live_row_page.html",
        _("{what} at {time}").format(what=capfirst(row.label), time=f"{screen.local(row.at):%H:%M:%S}"),
        row=row,
        links=links.of(row),
        steps=describe_steps(row, reader),
        receipts=_receipts(row, reader),
        connection=_load_connection(request.user, row, using),
        may_reveal=row.kind == "out" and isinstance(found, Event) and reader.may_read(found) and not row.bulk_text,
        hidden_notes=reader.visible.notes if reader.visible is not None else (),
        is_revealed=revealed,
        live_url=screen.page_url(model_admin, "live"),
        may_see_bindings=model_admin.has_view_permission(request),
    )


def _load(key: str, using: str) -> Event | Traffic:
    number = key[1:]
    if key[:1] not in ("e", "t") or not (number.isascii() and number.isdigit() and len(number) < 19):
        raise Http404(f"There is no row {key!r}.")
    model: type[Event] | type[Traffic] = Event if key[0] == "e" else Traffic
    found = model._default_manager.using(using).filter(pk=int(number)).first()
    # The note of a trigger is not an event yet.
    if found is None or (isinstance(found, Event) and found.kind == Event.MARK):
        raise Http404("This row was deleted, because it is older than the retention.")
    return found


def _load_connection(user: Operator, row: Row, using: str) -> Connection | None:
    """Return the connection of a row, for users who may see who is connected, and from where."""
    if not (row.connection and screen.may_view_connections(user)):
        return None
    return shown(Connection, using).filter(pk=row.connection).first()


def _reveal(model_admin: RecordAdmin, request: HttpRequest, key: str) -> HttpResponse:
    if request.POST.get("hide"):
        request.session.pop(REVEALED, None)
    elif not request.session.get(REVEALED):
        request.session[REVEALED] = True
        screen.note_in_log(request, _("Live traffic"), _("Revealed values, first of row {key}.").format(key=key[:30]))
    return HttpResponseRedirect(screen.page_url(model_admin, "live_row", key))


def describe_steps(row: Row, reader: Reader) -> list[str]:
    """Return what happened to a row, with a sentence for each known step."""
    if row.kind == "out":
        return _frame_steps(row)
    if row.kind == "control":
        number = _("Number {offset} in the log; every process applies it before it delivers anything later.")
        return [_written(row), number.format(offset=row.offset) if row.is_sequenced else _("Not sequenced yet.")]
    if row.kind == Traffic.CONNECTION:
        words = _("{outcome}: {message}.") if row.message else _("{outcome}.")
        return [words.format(outcome=row.outcome.capitalize(), message=row.message)]
    steps = [_requested(row)]
    if row.kind == Traffic.REQUEST:
        if row.milliseconds is None:
            return [*steps, _("Carried out and answered.")]
        return [*steps, _("Carried out and answered after {number} ms.").format(number=_short(row.milliseconds))]
    words = _("Refused as {code}: {message}") if row.kind == Traffic.REFUSED else _("Failed as {code}: {message}")
    return [*steps, words.format(code=row.outcome, message=row.message)]


def _requested(row: Row) -> str:
    """Return who requested what. A request may name a stream, an action and a row, or fewer of them."""
    if row.stream and row.action and row.pk:
        words = _("Requested by {who}: stream {stream} to {action} row {row}.")
    elif row.stream and row.action:
        words = _("Requested by {who}: stream {stream} to {action}.")
    elif row.stream:
        words = _("Requested by {who}: stream {stream}.")
    else:
        words = _("Requested by {who}: {action}.")
    return words.format(who=row.who or _("a page"), stream=row.stream, action=row.action, row=row.pk)


def _frame_steps(row: Row) -> list[str]:
    steps = [_written(row, row.version)]
    if not row.is_sequenced:
        return [*steps, _("Not sequenced yet: no process has given it a number, so no client has received it.")]
    steps.append(_("Number {offset} in the log.").format(offset=row.offset))
    if not row.changes:
        return [*steps, _("In no group: a field of its group template is empty, so no client receives it.")]
    if row.bulk_text:
        steps.append(f"{row.bulk_text[0].upper()}{row.bulk_text[1:]}.")
    else:
        steps += [
            _("{action} for group {group}.").format(action=action.capitalize(), group=group)
            for group, action in row.changes
        ]
    if row.delivery is None:
        return [*steps, _("The recipients are not known: no operator was watching, or the event was not sampled.")]
    if not row.delivery.recipients and not row.delivery.is_least:
        return [*steps, _("Sent to no connection: no client was subscribed to these groups.")]
    count = row.delivery.recipients
    if row.delivery.is_least:
        words = ngettext(
            "Sent to at least {count} connection, the last after {number} ms.",
            "Sent to at least {count} connections, the last after {number} ms.",
            count,
        )
    else:
        words = ngettext(
            "Sent to {count} connection, the last after {number} ms.",
            "Sent to {count} connections, the last after {number} ms.",
            count,
        )
    return [*steps, words.format(count=count, number=_short(row.latency or 0))]


def _written(row: Row, version: int | None = None) -> str:
    """Return who wrote an event and where, as far as that is known, and under which configuration."""
    if row.who and row.origin:
        words = _("Written by {who} in {origin} under configuration {version}.")
        plain = _("Written by {who} in {origin}.")
    elif row.who:
        words = _("Written by {who} under configuration {version}.")
        plain = _("Written by {who}.")
    elif row.origin:
        words = _("Written in {origin} under configuration {version}.")
        plain = _("Written in {origin}.")
    else:
        words = _("Written under configuration {version}.")
        plain = _("Written.")
    chosen = plain if version is None else words
    return chosen.format(who=row.who, origin=row.origin, version=version)


def _short(milliseconds: float) -> str:
    """Return a duration with as many digits as are known, in the format of the language."""
    return str(number_format(f"{milliseconds:g}"))


def _receipts(row: Row, reader: Reader) -> list[tuple[str, int, float]]:
    deliveries: Deliveries = reader.deliveries
    found = deliveries.found.get(row.offset, []) if row.offset is not None else []
    return [(reader.processes.get(node, node[:8]), count, wait) for node, count, wait in found]
