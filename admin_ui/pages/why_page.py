"""The page that explains why a frame arrived or did not."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlencode

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils import timezone

from admin_ui.common import screen
from admin_ui.common.screen import RecordAdmin
from admin_ui.common.visible import VisibleRows, parse_key
from admin_ui.traffic.links import find_page
from admin_ui.traffic.wanted import readable_models, stream_models
from declbind.console import why
from declbind.console.bulk import describe_bulk
from declbind.console.shown import shown
from declbind.console.times import format_distance, format_time, parse_time
from declbind.console.why.absence import ANONYMOUS
from declbind.console.why.causes import Cause
from declbind.console.why.events import describe_place, groups_of, offset_of
from declbind.console.writers import describe_writer
from declbind.models import Connection, Event
from declbind.registry import database_alias, get_registry

#: The number of users that are suggested while typing.
OFFERED_USERS = 50


def urls(model_admin: RecordAdmin, prefix: str) -> list[URLPattern]:
    """Return the address of the page."""

    def show(request: HttpRequest) -> HttpResponse:
        return why_view(model_admin, request)

    return [path("why/", model_admin.admin_site.admin_view(show), name=f"{prefix}_why")]


def why_view(model_admin: RecordAdmin, request: HttpRequest) -> HttpResponse:
    """Answer the question in the address. All of the question is in the address."""
    if not screen.may_watch(request.user):
        raise PermissionDenied
    using = database_alias()
    question, fault = read_question(request)
    found = why.explain(question, using) if question is not None else None
    visible = VisibleRows(model_admin.admin_site, request)
    if found is not None and not _is_readable(found, visible, readable_models(request.user)):
        found = found.without_values()
    return screen.render_page(
        model_admin,
        request,
        "why.html",
        "Why did it not arrive?",
        asked={
            name: screen.read_text(request.GET, name)
            for name in ("stream", "row", "user", "at", "offset", "connection")
        },
        fault=fault,
        hidden_notes=visible.notes,
        found=found,
        links=_links(model_admin, found) if found is not None else {},
        offset=offset_of(found.event) if found is not None and found.event is not None else None,
        changes=groups_of(found.event) if found is not None and found.event is not None else (),
        bulk_text=_bulk_words(found.event) if found is not None and found.event is not None else "",
        writer=_writer(found.event) if found is not None and found.event is not None else "",
        streams=sorted(get_registry().by_stream),
        users=_offered_users(using),
        answers=_with_steps(model_admin, request, found) if found is not None else (),
        sent=Cause.SENT,
        unknown=why.Certainty.CANNOT_TELL,
        written=format_time(found.event.created_at) if found is not None and found.event is not None else "",
        around=_around(found) if found is not None else (),
        now=screen.local(timezone.now()),
    )


def _is_readable(found: why.Explanation, visible: VisibleRows, models: Collection[str]) -> bool:
    """Return whether the viewer may read an answer's details about the row in question."""
    model = stream_models().get(found.question.stream, "")
    if model not in models:
        return False
    # A text of digits may be the key of either kind.
    keys = [parse_key(found.event.object_pk)] if found.event is not None else [found.question.row or None]
    return all(visible.sees(model, key) for key in keys)


def read_question(request: HttpRequest) -> tuple[why.Question | None, str]:
    """Return the question in the address, or an error message; "" if nothing was asked."""

    def text(name: str) -> str:
        return screen.read_text(request.GET, name)

    stream, row, offset = text("stream"), text("row"), text("offset")
    if not (row or offset) and not text("user") and not text("at"):
        # The links of a binding name only its stream.
        return None, ""
    if not stream or not (row or offset):
        return None, "Expected a stream, and the key of a row or an offset: one of them is missing."
    if offset and not (offset.isascii() and offset.isdigit() and len(offset) < 19):
        return None, f"Expected a number as the offset, got {offset!r}."
    at = parse_time(text("at")) if text("at") else None
    if text("at") and at is None:
        return None, f"Expected a time such as 2026-05-17 14:01 or 14:01, got {text('at')!r}."
    asked = why.Question(stream, row, text("user"), at, int(offset) if offset else None, text("connection"))
    return asked, ""


@dataclass(frozen=True)
class _Step:
    """The next step after an answer; ``address`` is "" for a page that the viewer may not open."""

    words: str
    command: str
    address: str


def _with_steps(
    model_admin: RecordAdmin, request: HttpRequest, found: why.Explanation
) -> list[tuple[why.Answer, _Step]]:
    """Return each answer with the next step: a link, and a command that shows the same."""
    allowed = {page.url for page in screen.console_pages(model_admin, request)}
    made = []
    for answer in found.answers:
        step = why.find_step(answer, found.question)
        url = find_page(model_admin, step.page)
        query = f"?{urlencode(step.query)}" if step.query else ""
        made.append((answer, _Step(step.words, step.command, f"{url}{query}" if url in allowed else "")))
    return made


def _around(found: why.Explanation) -> list[tuple[str, str, str]]:
    """Return the changes before and after the time in question, and how far they are from it."""
    at = found.question.at
    near = (("The change before", found.before), ("The change after", found.after))
    return [
        (words, describe_place(event), format_distance(event.created_at - at) if at is not None else "")
        for words, event in near
        if event is not None
    ]


def _bulk_words(event: Event) -> str:
    if event.kind not in Event.WORDLESS:
        return ""
    return describe_bulk([group for group, _ in groups_of(event)], event.kind == Event.EXPIRED)


def _writer(event: Event) -> str:
    return describe_writer(event.actor, event.origin) if event.actor or event.origin else ""


def _links(model_admin: RecordAdmin, found: why.Explanation) -> dict[str, str]:
    """Return links to related pages."""
    question = found.question
    around = {"stream": question.stream, "row": question.row, "user": question.user}
    live = screen.page_url(model_admin, "live")
    links = {"Live traffic of this row": f"{live}?{urlencode({k: v for k, v in around.items() if v})}"}
    entry = get_registry().entry(question.stream)
    if entry is not None:
        links["The bindings"] = f"{screen.page_url(model_admin, 'changelist')}?{urlencode({'q': question.stream})}"
    return links


def _offered_users(using: str) -> list[str]:
    names = (
        shown(Connection, using)
        .exclude(username="")
        .order_by("username")
        .values_list("username", flat=True)
        .distinct()[:OFFERED_USERS]
    )
    return [ANONYMOUS, *names]
