"""Filters that turn values into an operator's words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django import template
from django.utils.safestring import SafeString

from admin_ui.common import phrases, screen
from admin_ui.common.screen import Context
from admin_ui.common.tabs import Tabs, build_tabs
from admin_ui.editor.panel import count_subscribed
from declbind.console import connections
from declbind.console.times import format_time
from declbind.core.errors import Problem
from declbind.models import BindingRecord
from declbind.registry import database_alias

register = template.Library()

#: The number of connections whose users are named before a binding is deleted.
SHOWN_LISTENERS = 10


@register.filter
def place(problem: Problem) -> str:
    """Return where in a record a problem is, by the names of the form."""
    return phrases.describe_place(problem.path)


@register.filter
def plain(problem: Problem) -> str:
    """Return the message of a problem without the stream."""
    return phrases.plain_message(problem)


@register.filter
def code_marked(text: str) -> SafeString:
    """Return a text as HTML, with text between backticks as code."""
    return phrases.mark_code(str(text))


@register.filter
def moment(value: datetime | None) -> str:
    """Return a time in the viewer's zone, with the zone and without fractions of a second; "" for none."""
    return format_time(value) if value is not None else ""


@register.simple_tag(takes_context=True)
def binding_tabs(context: Context) -> Tabs | None:
    """Return the tabs of the binding that the page is about, or None."""
    if "request" not in context or "opts" not in context:
        return None
    return build_tabs(
        context["request"],
        context["opts"],
        context.get("original"),
        context.get("summary") if context.get("tab") == "elsewhere" else None,
        context.get("tab", "edit"),
    )


@dataclass(frozen=True)
class Listeners:
    """The connections subscribed to a stream now; ``names`` are the first users, if the viewer may see them."""

    stream: str
    count: int
    names: tuple[str, ...]

    @property
    def has_more(self) -> bool:
        """Whether there are connections whose users are not named."""
        return self.count > SHOWN_LISTENERS


@register.simple_tag(takes_context=True)
def listeners(context: Context) -> list[Listeners]:
    """Return who is subscribed now to the records that are about to be deleted; none for a stream without anybody."""
    records: Iterable[BindingRecord] = context["queryset"] if "queryset" in context else [context["object"]]
    may_see = screen.may_view_connections(context["request"].user)
    found = []
    for record in records:
        count = count_subscribed(record.stream, database_alias())
        names: list[str] = []
        if count and may_see:
            wanted = connections.Wanted(stream=record.stream)
            rows = connections.load_connections(wanted, database_alias(), size=SHOWN_LISTENERS).rows
            names = list(dict.fromkeys(row.who for row in rows))
        if count:
            found.append(Listeners(record.stream, count, tuple(names)))
    return found
