"""Read the binding records that operators keep in the database."""

from __future__ import annotations

from declbind import judgement
from declbind.models import BindingRecord

from . import SourceItem


def load_database(using: str) -> list[SourceItem]:
    """Return one item per record; one that went bad since it was saved carries its problems. One query."""
    items = []
    for record in BindingRecord.objects.using(using).order_by("stream"):
        spec, problems = judgement.judge_document(record.definition())
        items.append(
            SourceItem(
                stream=record.stream,
                spec=spec,
                problems=tuple(problems),
                source="database",
                where=f"database record {record.stream!r}",
                document=record.definition(),
            )
        )
    return items
