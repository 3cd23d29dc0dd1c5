"""Output for people and programs: aligned columns, problems with their place, stable JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from django.core.serializers.json import DjangoJSONEncoder


def format_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return aligned columns under upper-case headings, two spaces apart; the last column is not padded."""
    cells = [[heading.upper() for heading in headings], *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def format_pairs(pairs: Mapping[str, object]) -> str:
    """Return one "name  value" line for each pair, with aligned values. Further lines of a value are indented."""
    width = max(map(len, pairs), default=0)
    indent = "\n" + " " * (width + 2)
    return "\n".join(
        f"{name.ljust(width)}  {_cell(value).replace(chr(10), indent)}".rstrip() for name, value in pairs.items()
    )


def format_json(value: object) -> str:
    """Return indented JSON text. Keys keep their order."""
    return json.dumps(value, indent=2, ensure_ascii=False, cls=DjangoJSONEncoder)


def format_line(value: object) -> str:
    """Return JSON text on one line, for output that is read line by line."""
    return json.dumps(value, ensure_ascii=False, cls=DjangoJSONEncoder)


def format_count(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun, such as "1 binding" or "2 bindings"."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
