"""The page of one row of the live traffic: all that is known about it, and its values for users who may read them."""

from __future__ import annotations

from dataclasses import replace

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect

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
        f"{row.word.capitalize()} at {screen.local(row.at):%H:%M:%S}",
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
        screen.note_in_log(request, "Live traffic", f"Revealed values, first of row {key[:30]}.")
    return HttpResponseRedirect(screen.page_url(model_admin, "live_row", key))


def describe_steps(row: Row, reader: Reader) -> list[str]:
    """Return what happened to a row, with a sentence for each known step."""
    if row.kind == "out":
        return _frame_steps(row)
    if row.kind == "control":
        effect = "every process applies it before it delivers anything later"
        return [
            f"Written{_by(row)}.",
            f"Number {row.offset} in the log; {effect}." if row.is_sequenced else "Not sequenced yet.",
        ]
    if row.kind == Traffic.CONNECTION:
        return [f"{row.outcome.capitalize()}{f': {row.message}' if row.message else ''}."]
    stream, action = f" stream {row.stream}" if row.stream else "", f" to {row.action}" if row.action else ""
    steps = [f"Requested by {row.who or 'a page'}:{stream}{action}{f' row {row.pk}' if row.pk else ''}."]
    if row.kind == Traffic.REQUEST:
        took = f" after {row.milliseconds:g} ms" if row.milliseconds is not None else ""
        return [*steps, f"Carried out and answered{took}."]
    verdict = "Refused" if row.kind == Traffic.REFUSED else "Failed"
    return [*steps, f"{verdict} as {row.outcome}: {row.message}"]


def _frame_steps(row: Row) -> list[str]:
    steps = [f"Written{_by(row)} under configuration {row.version}."]
    if not row.is_sequenced:
        return [*steps, "Not sequenced yet: no process has given it a number, so no client has received it."]
    steps.append(f"Number {row.offset} in the log.")
    if not row.changes:
        return [*steps, "In no group: a field of its group template is empty, so no client receives it."]
    if row.bulk_text:
        steps.append(f"{row.bulk_text[0].upper()}{row.bulk_text[1:]}.")
    else:
        steps += [f"{action.capitalize()} for group {group}." for group, action in row.changes]
    if row.delivery is None:
        return [*steps, "The recipients are not known: no operator was watching, or the event was not sampled."]
    if not row.delivery.recipients and not row.delivery.is_least:
        return [*steps, "Sent to no connection: no client was subscribed to these groups."]
    count = row.delivery.recipients
    least = "at least " if row.delivery.is_least else ""
    return [
        *steps,
        f"Sent to {least}{count} connection{'' if count == 1 else 's'}, the last after {row.latency:g} ms.",
    ]


def _by(row: Row) -> str:
    return f"{f' by {row.who}' if row.who else ''}{f' in {row.origin}' if row.origin else ''}"


def _receipts(row: Row, reader: Reader) -> list[tuple[str, int, float]]:
    deliveries: Deliveries = reader.deliveries
    found = deliveries.found.get(row.offset, []) if row.offset is not None else []
    return [(reader.processes.get(node, node[:8]), count, wait) for node, count, wait in found]
