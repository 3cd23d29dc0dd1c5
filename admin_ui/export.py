"""Write the rows of the live page as a file: a line of JSON for each, or a table that spreadsheets open."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from django.http import HttpResponse

from admin_ui.rows import Row

COLUMNS = (
    "time", "process", "direction", "stream", "action", "model", "row", "groups", "by", "origin", "recipients",
    "milliseconds", "outcome", "message", "offset", "payload",
)  # fmt: skip
#: A spreadsheet takes what begins so for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def as_json(row: Row) -> dict[str, Any]:
    """Return what one row says, as a machine reads it."""
    return {
        "time": row.at.isoformat(),
        "process": row.process,
        "direction": row.word,
        "stream": row.stream,
        "action": row.action,
        "model": row.model,
        "row": row.pk,
        "groups": [{"group": group, "action": action} for group, action in row.changes] or list(row.groups),
        "by": row.who,
        "origin": row.origin,
        "recipients": row.delivery.recipients if row.delivery is not None else None,
        "milliseconds": row.latency,
        "outcome": row.outcome,
        "message": row.message,
        "offset": row.offset,
        "payload": json.loads(row.payload) if row.payload else None,
        "values": bool(row.payload) and not row.is_shape,
    }


def download(rows: Sequence[Row], format_: str) -> HttpResponse:
    """Answer with a file of the rows, newest first."""
    if format_ == "csv":
        text, kind = to_csv(rows), "text/csv; charset=utf-8"
    else:
        text = "".join(json.dumps(as_json(row), ensure_ascii=False) + "\n" for row in rows)
        kind = "application/x-ndjson; charset=utf-8"
    name = f"traffic.{format_}"
    return HttpResponse(
        # A client may have sent half a surrogate pair: written out so, it is JSON's own escape.
        text.encode(errors="backslashreplace"),
        content_type=kind,
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )


def to_csv(rows: Sequence[Row]) -> str:
    """Write rows as a table."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for row in rows:
        said = as_json(row)
        writer.writerow([defuse(_cell(said[column])) for column in COLUMNS])
    return out.getvalue()


def defuse(text: str) -> str:
    """Keep a spreadsheet from running what a client has sent: an apostrophe makes it text."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
