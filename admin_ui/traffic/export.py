"""Downloads of the live page's rows: JSON lines, or a table for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from django.http import HttpResponse

from admin_ui.traffic.rows import Row

COLUMNS = (
    "time", "process", "direction", "stream", "action", "model", "row", "groups", "by", "origin", "recipients",
    "milliseconds", "outcome", "message", "offset", "payload",
)  # fmt: skip
#: The first characters by which a spreadsheet recognises a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def as_json(row: Row) -> dict[str, object]:
    """Return one row as JSON values."""
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
        # A client may have sent half a surrogate pair. It is written as JSON's escape.
        text.encode(errors="backslashreplace"),
        content_type=kind,
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )


def to_csv(rows: Sequence[Row]) -> str:
    """Return rows as CSV."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for row in rows:
        said = as_json(row)
        writer.writerow([defuse(_cell(said[column])) for column in COLUMNS])
    return out.getvalue()


def defuse(text: str) -> str:
    """Prefix an apostrophe so that a spreadsheet treats what a client has sent as text, not as a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
