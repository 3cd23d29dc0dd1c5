"""The numbers of the live page's charts, for all processes together, with events on the time axis."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from admin_ui.common import charts, screen
from declbind.console.shown import shown, shown_activity
from declbind.live.metrics import read_clock
from declbind.models import Event, Node
from declbind.registry import database_alias

#: The seconds that the charts show. Not all processes have reported the last ones yet, so they are left out.
SPAN, UNTOLD = 300, 2
TABLE_SECONDS = 30
MAX_MARKS = 20
MARKS = {
    "config": gettext_lazy("{time} configuration changed"),
    "kick": gettext_lazy("{time} client disconnected by an operator"),
}


@dataclass(frozen=True)
class Rates:
    """Values for each of ``SPAN`` seconds from ``start`` on, and marks."""

    start: int
    rates: tuple[charts.Series, ...]
    waits: tuple[charts.Series, ...]
    marks: tuple[charts.Mark, ...]

    def draw(self) -> SafeString:
        """Return both charts with their last values."""
        return format_html(
            '<figure><figcaption>{}</figcaption>{}{}</figure><figure><figcaption>{}</figcaption>{}{}</figure>',
            _("Per second"),
            charts.legend(self.rates),
            charts.line_chart(_("Per second, in the last five minutes"), self.rates, self.marks, span=_("5 min ago")),
            _("From commit to send"),
            charts.legend(self.waits, _("ms")),
            charts.line_chart(
                _("Milliseconds from commit to send, in the last five minutes"), self.waits, self.marks, unit=_("ms"),
                span=_("5 min ago"),
            ),
        )  # fmt: skip

    def tables(self) -> SafeString:
        """Return the numbers of both charts."""
        times = [_clock(self.start + step) for step in range(SPAN)]
        lines = (*self.rates, *self.waits)
        return charts.table(_("Highest of each half minute; waits in milliseconds"), lines, times, TABLE_SECONDS)


def load_rates() -> Rates:
    """Return the rates of the last five minutes. Takes three queries.

    If nobody watched there are no counts by second; the mean of the minute is used instead.
    """
    using = database_alias()
    end = int(timezone.now().timestamp()) - UNTOLD
    start = end - SPAN + 1
    rows = shown_activity(using).filter(at__gte=read_clock(start - 59), seconds__in=(1, 60))
    columns = ("seconds", "at", "sent", "received", "refused", "p50", "p99")
    counts: list[list[float | None]] = [[None] * SPAN for _ in range(3)]
    means: list[list[float]] = [[0.0] * SPAN for _ in range(3)]
    halves: list[list[float]] = [[] for _ in range(SPAN)]
    tails: list[float | None] = [None] * SPAN
    for seconds, at, *numbers, p50, p99 in rows.order_by().values_list(*columns):
        step = int(at.timestamp()) - start
        for position, value in enumerate(numbers):
            if seconds == 60:
                for second in range(max(0, step), min(SPAN, step + 60)):
                    means[position][second] += value / 60
            elif 0 <= step < SPAN:
                counts[position][step] = (counts[position][step] or 0) + value
        if seconds == 1 and p50 is not None and 0 <= step < SPAN:
            halves[step].append(p50)
            tails[step] = max(tails[step] or 0, p99)
    shown = [
        [exact if exact is not None else round(mean, 2) for exact, mean in zip(exacts, mean_values, strict=True)]
        for exacts, mean_values in zip(counts, means, strict=True)
    ]
    return Rates(
        start,
        tuple(
            charts.Series(label, name, values)
            for (name, label), values in zip(
                (("sent", _("sent")), ("received", _("received")), ("refused", _("refused"))), shown, strict=True
            )
        ),
        (
            charts.Series(_("half within (p50)"), "p50", [median(values) if values else None for values in halves]),
            charts.Series(_("99 % within (p99)"), "p99", tails),
        ),
        tuple(_load_marks(start, using)),
    )


def _load_marks(start: int, using: str) -> Iterable[charts.Mark]:
    since = read_clock(start)
    marks: list[charts.Mark] = []

    def add(at: datetime, kind: str, text: str) -> None:
        step = at.timestamp() - start
        marks.append(charts.Mark(step, kind, text.replace("{time}", _clock(int(at.timestamp())))))

    controls = shown(Event, using).filter(kind=Event.CONTROL).order_by("-pk").values_list("created_at", "data")
    for at, data in controls[:200]:
        if at < since:
            break
        kind = _type_of(data)
        if kind in MARKS:
            add(at, kind, str(MARKS[kind]))
    for node in Node.objects.using(using).filter(started_at__gte=since)[:MAX_MARKS]:
        add(node.started_at, "process", _("{time} process {process} started").replace("{process}", str(node)))
    return sorted(marks, key=lambda mark: mark.at)[-MAX_MARKS:]


def _type_of(data: str) -> str:
    try:
        content: object = json.loads(data)
    except ValueError:
        return ""
    return str(content.get("type", "")) if isinstance(content, dict) else ""


def _clock(at: int) -> str:
    return screen.local(read_clock(at)).strftime("%H:%M:%S")
