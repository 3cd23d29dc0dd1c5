"""Table cells that describe a binding, the same for database rows and for those of files and classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from django.contrib.humanize.templatetags.humanize import naturaltime
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from admin_ui.bindings.summary import EVERYONE, NOBODY, Summary
from admin_ui.common import phrases, screen
from admin_ui.common.charts import sparkline
from declbind.console.overview import Drift
from declbind.console.times import format_time
from declbind.console.unseen import Gap
from declbind.console.usage import Usage
from declbind.models import BindingRevision

SHOWN_NAMES = 4


def state_cell(
    summary: Summary, drift: Drift | None = None, faults: Sequence[Gap] = (), withheld: str = ""
) -> SafeString:
    """Return the state, whether it misses writes, the source, and the file whose record it differs from."""
    differs = format_html('<span class="declbind-drift">differs from {}</span>', drift.source) if drift else ""
    misses = (
        format_html(
            ' <span class="declbind-chip declbind-invalid" title="{}">misses writes</span>',
            " ".join(f"{gap.text} {gap.action}" for gap in faults),
        )
        if faults and summary.state == "active"
        else ""
    )
    secrets = (
        format_html(' <span class="declbind-chip declbind-invalid" title="{}">holds values back</span>', withheld)
        if withheld
        else ""
    )
    held = "New fields of the model are not sent before somebody accepts them."
    names = ", ".join(summary.held)
    waits = format_html(' <span class="declbind-chip" title="{}">new: {}</span>', held, names) if names else ""
    return format_html(
        '<span class="declbind-chip declbind-{0}">{0}</span>{1}{2}{3}<span class="declbind-quiet">{4}</span>{5}',
        summary.state,
        misses,
        waits,
        secrets,
        summary.source,
        differs,
    )


def name_cell(summary: Summary, link: str = "", model: str = "") -> SafeString:
    """Return the stream, the model, the description, and the problems of an invalid binding.

    ``model`` is the model as the record gives it, for a record that cannot be validated.
    """
    name = summary.stream or "(not readable)"
    shown = format_html('<a href="{}">{}</a>', link, name) if link else format_html("{}", name)
    text = summary.spec.description if summary.spec else ""
    about = format_html('<span class="declbind-quiet declbind-description">{}</span>', text[:120]) if text else ""
    bound = " \N{MIDDLE DOT} ".join(filter(None, (summary.model_text or model, summary.direction)))
    model_line = format_html('<span class="declbind-model">{}</span>', bound) if bound else ""
    return format_html("{}{}{}{}", shown, model_line, about, reasons(summary))


def reasons(summary: Summary) -> str:
    """Return the problems of an invalid binding."""
    if not summary.problems:
        return ""
    items = format_html_join(
        "",
        '<li title="{}">{}</li>',
        ((phrases.describe_place(p.path), phrases.plain_message(p)) for p in summary.problems[:3]),
    )
    more = len(summary.problems) - 3
    rest = format_html("<li>and {} more</li>", more) if more > 0 else ""
    return format_html('<ul class="declbind-reasons">{}{}</ul>', items, rest)


def sent_cell(summary: Summary) -> SafeString:
    """Return the number of sent fields; a choice that includes future fields is highlighted."""
    sent = summary.sent
    if not sent.text:
        return mark_safe("\N{EN DASH}")
    names = ", ".join(sent.names[:SHOWN_NAMES])
    if len(sent.names) > SHOWN_NAMES:
        names += ", \N{HORIZONTAL ELLIPSIS}"
    return format_html(
        '<span class="{}">{}</span><span class="declbind-quiet" title="{}">{}</span>',
        "declbind-chip declbind-open" if sent.is_open else "declbind-count",
        sent.text,
        ", ".join(sent.names),
        names,
    )


def who_cell(summary: Summary) -> SafeString:
    """Return the users who may do each action, in words."""
    if not summary.who:
        return mark_safe("\N{EN DASH}")
    rows = [
        (actions, "declbind-open" if words.startswith(EVERYONE) else "declbind-shut" if words == NOBODY else "", words)
        for actions, words in summary.who
    ]
    items = format_html_join("", '<li><b>{}</b> <span class="{}">{}</span></li>', rows)
    return format_html('<ul class="declbind-who">{}</ul>', items)


def traffic_cell(usage: Usage, stream: str, links: Mapping[str, str]) -> SafeString:
    """Return the subscribers and the rates; ``links`` lead to the pages that the viewer may see."""
    subscribers = f"{usage.subscribers} subscription{'' if usage.subscribers == 1 else 's'}"
    lines = [
        _linked(subscribers, links.get("connections"), {"stream": stream}),
        format_html(
            "{} {}",
            _linked(f"{usage.sent_per_minute} sent/min", links.get("live"), {"stream": stream}),
            sparkline(usage.sent, f"frames by minute, the last {len(usage.sent)} minutes") if any(usage.sent) else "",
        ),
    ]
    if any(usage.refused):
        query = {"stream": stream, "only": "problems"}
        words = _linked(f"{usage.refused_per_minute} refused/min", links.get("live"), query)
        lines.append(format_html('<span class="declbind-refused-rate">{}</span>', words))
    if links.get("why"):
        lines.append(_linked("Why?", links["why"], {"stream": stream}))
    return format_html_join("", '<span class="declbind-rate">{}</span>', ((line,) for line in lines))


def _linked(words: str, address: str | None, query: Mapping[str, str]) -> SafeString:
    if not address:
        return format_html("{}", words)
    return format_html('<a href="{}?{}">{}</a>', address, urlencode(query), words)


def changed_cell(revision: BindingRevision | None, link: str = "") -> SafeString:
    """Return the author and the time of the last change; ``link`` leads to the history."""
    if revision is None:
        return mark_safe("\N{EN DASH}")
    text = format_html(
        '<time datetime="{}" title="{}">{}</time>',
        screen.local(revision.created_at).isoformat(timespec="seconds"),
        format_time(revision.created_at),
        naturaltime(revision.created_at),
    )
    text = format_html('<a href="{}">{}</a>', link, text) if link else text
    author = revision.author_name or "a command or a program"
    return format_html('{}<span class="declbind-quiet">{}</span>', text, author)
