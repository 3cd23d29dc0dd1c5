"""Read the binding records that operators keep in the database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from declbind import judgement
from declbind.models import BindingRecord

from . import SourceItem


def load_database(using: str, known: Mapping[str, SourceItem] = MappingProxyType({})) -> list[SourceItem]:
    """Return one item per record; one that went bad since it was saved carries its problems. One query.

    ``known`` are items by the text of their records (see ``text_of``), which are taken as they are instead of judged.
    """
    items = []
    for record in BindingRecord.objects.using(using).order_by("stream"):
        document = record.definition()
        item = known.get(text_of(document)) or _judge(record.stream, document)
        names = frozenset(record.known) if isinstance(record.known, list) else None
        # One that was built sends other fields, once somebody has accepted them.
        items.append(item if item.known == names else replace(item, known=names, binding=None))
    return items


def text_of(document: Mapping[str, Any]) -> str:
    """Return a record as the text that stands for its content."""
    return json.dumps(document, sort_keys=True)


def _judge(stream: str, document: Mapping[str, Any]) -> SourceItem:
    spec, problems = judgement.judge_document(document)
    return SourceItem(
        stream=stream,
        spec=spec,
        problems=tuple(problems),
        source="database",
        where=f"database record {stream!r}",
        document=document,
    )
