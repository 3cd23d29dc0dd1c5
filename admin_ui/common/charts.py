"""Charts as inline SVG: pure functions from numbers to markup, coloured by CSS classes alone.

Every chart also has a description in words, for users who cannot see it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from django.utils.formats import number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

#: The drawing's own units; the page scales it.
WIDTH, HEIGHT = 600.0, 120.0
LEFT, TOP, BOTTOM = 40.0, 8.0, 18.0
SPARK_WIDTH, SPARK_HEIGHT = 80.0, 18.0

Values = Sequence[float | None]


@dataclass(frozen=True)
class Series:
    """One line: its name, the class that colours it, and a value for each step (None: unknown)."""

    label: str
    name: str
    values: Values


@dataclass(frozen=True)
class Mark:
    """An event on the time axis: its step, its kind ("config", "process", "kick"), and its description."""

    at: float
    kind: str
    text: str


def line_chart(
    title: str, series: Sequence[Series], marks: Sequence[Mark] = (), *, unit: str = "", span: str = ""
) -> SafeString:
    """Draw lines over equal time steps, the newest at the right; ``span`` labels the left end."""
    top = nice_ceiling(max((value for line in series for value in line.values if value is not None), default=0))
    steps = max((len(line.values) for line in series), default=0)
    lines = format_html_join(
        "",
        '<path class="declbind-line-{}" d="{}" fill="none" vector-effect="non-scaling-stroke"/>',
        ((line.name, path(line.values, steps, top)) for line in series),
    )
    grid = format_html_join(
        "",
        '<line class="declbind-grid" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/>'
        '<text class="declbind-scale" x="{3}" y="{4}" text-anchor="end">{5}</text>',
        (
            (_short(LEFT), _short(WIDTH), _short(_y(value, top)), _short(LEFT - 5), _short(_y(value, top) + 3.5),
             number(value))
            for value in (0, top / 2, top)
        ),
    )  # fmt: skip
    flags = format_html_join(
        "",
        '<g class="declbind-flag declbind-flag-{0}"><title>{1}</title>'
        '<line x1="{2}" x2="{2}" y1="{3}" y2="{4}"/><circle cx="{2}" cy="{3}" r="3"/></g>',
        (
            (mark.kind, mark.text, _short(_x(mark.at, steps)), _short(TOP), _short(HEIGHT - BOTTOM))
            for mark in marks
        ),
    )  # fmt: skip
    ends = format_html(
        '<text class="declbind-scale" x="{}" y="{}">{}</text>'
        '<text class="declbind-scale" x="{}" y="{}" text-anchor="end">{}</text>',
        _short(LEFT), _short(HEIGHT - 4), span, _short(WIDTH), _short(HEIGHT - 4), _("now"),
    )  # fmt: skip
    return format_html(
        '<svg class="declbind-chart" role="img" aria-label="{}" viewBox="0 0 {} {}">{}{}{}{}</svg>',
        describe(title, series, marks, unit), _short(WIDTH), _short(HEIGHT), grid, flags, lines, ends,
    )  # fmt: skip


def sparkline(values: Values, label: str) -> SafeString:
    """Draw a small line for a table's cell; ``label`` describes it for users who cannot see it."""
    top = max((value for value in values if value is not None), default=0) or 1
    points = _points(
        values, len(values), SPARK_WIDTH - 2, lambda value: SPARK_HEIGHT - 2 - value / top * (SPARK_HEIGHT - 4)
    )
    return format_html(
        '<svg class="declbind-spark" role="img" aria-label="{}" viewBox="0 0 {} {}" width="{}" height="{}">'
        '<path class="declbind-line-sent" d="{}" fill="none" vector-effect="non-scaling-stroke"/></svg>',
        label, _short(SPARK_WIDTH), _short(SPARK_HEIGHT), _short(SPARK_WIDTH), _short(SPARK_HEIGHT), points,
    )  # fmt: skip


def legend(series: Sequence[Series], unit: str = "") -> SafeString:
    """Return a list of the lines with their last values."""
    items = format_html_join(
        "",
        '<li><svg class="declbind-swatch" aria-hidden="true" viewBox="0 0 12 12" width="12" height="12">'
        '<path class="declbind-line-{}" d="M0 6H12" fill="none"/></svg> {} <b>{}</b>{}</li>',
        ((line.name, line.label, number(last(line.values)), f" {unit}" if unit else "") for line in series),
    )
    return format_html('<ul class="declbind-legend">{}</ul>', items)


def table(caption: str, series: Sequence[Series], times: Sequence[str], every: int) -> SafeString:
    """Return the same numbers as a table, with a row for every ``every`` steps that holds their maximum."""
    heads = format_html_join("", '<th scope="col">{}</th>', ((line.label,) for line in series))
    rows = []
    for start in range(0, len(times), every):
        cells = format_html_join(
            "",
            "<td>{}</td>",
            ((number(_highest(line.values[start : start + every])),) for line in series),
        )
        rows.append(format_html('<tr><th scope="row">{}</th>{}</tr>', times[start], cells))
    return format_html(
        '<table class="declbind-numbers"><caption>{}</caption><thead><tr><th scope="col">{}</th>{}</tr></thead>'
        "<tbody>{}</tbody></table>",
        caption, pgettext("a time", "From"), heads, mark_safe("".join(rows)),
    )  # fmt: skip


def describe(title: str, series: Sequence[Series], marks: Sequence[Mark] = (), unit: str = "") -> str:
    """Return a description of a chart in words."""
    parts = []
    for line in series:
        high = _highest(line.values)
        if high is None:
            parts.append(_("{line}: not known").format(line=line.label))
        else:
            highest = f"{number(high)} {unit}".rstrip()
            words = _("{line}: now {value}, at most {highest}")
            parts.append(words.format(line=line.label, value=number(last(line.values)), highest=highest))
    if marks:
        parts.append(_("Marks: {marks}").format(marks="; ".join(mark.text for mark in marks)))
    return " ".join(_("{sentence}.").format(sentence=part) for part in (title, *parts))


def path(values: Values, steps: int, top: float) -> str:
    """Return the line as SVG path data, with gaps where values are unknown."""
    return _points(values, steps, WIDTH - LEFT, lambda value: _y(value, top), LEFT)


def nice_ceiling(value: float) -> float:
    """Return the end of a scale for the value: 1, 2 or 5 times a power of ten, and at least 1."""
    if value <= 1:
        return 1.0
    power = 10.0 ** floor(log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)


def number(value: float | None) -> str:
    """Return a number as text of a useful precision."""
    if value is None:
        return "\N{EN DASH}"
    if value >= 10_000:
        return f"{value / 1000:.0f}k"
    return number_format(value, 0 if value >= 10 or value == ceil(value) else 1)


def last(values: Values) -> float | None:
    """Return the newest known value."""
    return next((value for value in reversed(values) if value is not None), None)


def _points(values: Values, steps: int, width: float, y: Callable[[float], float], left: float = 1.0) -> str:
    """Join the points. Of a run of equal values only the ends are drawn, because most charts are mostly flat."""
    parts: list[str] = []
    pen_is_up = True
    for index, value in enumerate(values):
        if value is None:
            pen_is_up = True
            continue
        if not pen_is_up and 0 < index < len(values) - 1 and values[index - 1] == value == values[index + 1]:
            continue
        x = left + width * index / max(1, steps - 1)
        parts.append(f"{'M' if pen_is_up else 'L'}{_short(x)} {_short(y(value))}")
        pen_is_up = False
    return "".join(parts)


def _x(step: float, steps: int) -> float:
    return LEFT + (WIDTH - LEFT) * min(max(step, 0), steps - 1) / max(1, steps - 1)


def _y(value: float, top: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(value, top) / top)


def _highest(values: Values) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _short(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")
