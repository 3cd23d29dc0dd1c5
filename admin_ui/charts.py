"""Draw small charts as SVG: numbers in, markup out."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.html import format_html
from django.utils.safestring import SafeString

WIDTH, HEIGHT = 90, 18


def sparkline(values: Sequence[float], label: str) -> SafeString:
    """Draw a line of numbers, the oldest first; ``label`` says what it is to those who do not see it."""
    top = max(values, default=0) or 1
    step = WIDTH / max(1, len(values) - 1)
    points = " ".join(
        f"{index * step:.1f},{HEIGHT - 1 - (HEIGHT - 2) * value / top:.1f}" for index, value in enumerate(values)
    )
    return format_html(
        '<svg class="declbind-spark" viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">'
        '<polyline points="{}"/></svg>',
        WIDTH, HEIGHT, WIDTH, HEIGHT, label, points,
    )  # fmt: skip
