"""Filters that turn values into an operator's words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django import template
from django.template.defaultfilters import date as date_filter
from django.templatetags.static import static
from django.utils.html import format_html, json_script
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from admin_ui.bindings.history import Step
from admin_ui.common import phrases, screen
from admin_ui.common.screen import Context
from admin_ui.common.script_texts import translate_texts
from admin_ui.common.spread import Spread
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


@register.simple_tag
def script_texts() -> SafeString:
    """Return the texts of the scripts in the language of the page, and the script that translates by them."""
    source = static("declbind_admin/texts.js")
    script = format_html('<script type="module" src="{}"></script>', source)
    return json_script(translate_texts(), "declbind-texts") + script


#: The verdicts of a trial's steps.
VERDICTS = {
    "ok": gettext_lazy("ok"),
    "refused": gettext_lazy("refused"),
    "note": gettext_lazy("note"),
    "skipped": gettext_lazy("not reached"),
}


@register.filter
def verdict(value: str) -> str:
    """Return the verdict of a trial's step in words."""
    return str(VERDICTS.get(value, value))


@register.simple_tag
def step_line(step: Step) -> SafeString:
    """Return who made a step of a binding's history, and when."""
    known = {
        "created": _("Created by {author}, {time}"),
        "changed": _("Changed by {author}, {time}"),
        "removed": _("Removed by {author}, {time}"),
    }
    unknown = {
        "created": _("Created by a command or a program, {time}"),
        "changed": _("Changed by a command or a program, {time}"),
        "removed": _("Removed by a command or a program, {time}"),
    }
    author = step.revision.author_name
    return format_html(
        (known if author else unknown)[step.verb],
        author=format_html("<b>{}</b>", author),
        time=_time(step.revision.created_at),
    )


@register.simple_tag
def headline(spread: Spread, address: str) -> SafeString:
    """Return the configuration in force, and how many processes run it; ``address`` leads to them, or is ""."""
    version = format_html("<b>{}</b>", spread.version)
    version = format_html('<a href="{}">{}</a>', address, version) if address else version
    if not spread.total:
        return format_html(_("Configuration {version}, no process serves sockets now"), version=version)
    count = ngettext("{current} of {total} process", "{current} of {total} processes", spread.total)
    processes = format_html(
        '<span class="{}">{}</span>',
        "" if spread.is_everywhere else "declbind-behind",
        count.format(current=spread.current, total=spread.total),
    )
    if spread.changed_at is None:
        return format_html(_("Configuration {version}, on {processes}"), version=version, processes=processes)
    return format_html(
        _("Configuration {version}, on {processes} since {time}"),
        version=version,
        processes=processes,
        time=_time(spread.changed_at),
    )


def _time(value: datetime) -> SafeString:
    return format_html('<time datetime="{}">{}</time>', date_filter(value, "c"), moment(value))


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
