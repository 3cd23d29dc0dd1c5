"""Filters that turn values into an operator's words."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django import template
from django.utils.safestring import SafeString

from admin_ui.common import phrases
from admin_ui.common.screen import Context
from admin_ui.common.tabs import Tabs, build_tabs
from admin_ui.editor.panel import count_subscribed
from declbind.console.times import format_time
from declbind.core.errors import Problem
from declbind.models import BindingRecord
from declbind.registry import database_alias

register = template.Library()


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


@register.simple_tag(takes_context=True)
def listeners(context: Context) -> list[tuple[str, int]]:
    """Return the streams of the records to delete that have subscribers now, and the number of their connections."""
    records: Iterable[BindingRecord] = context["queryset"] if "queryset" in context else [context["object"]]
    counted = [(record.stream, count_subscribed(record.stream, database_alias())) for record in records]
    return [(stream, count) for stream, count in counted if count]
