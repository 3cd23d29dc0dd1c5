"""The binding records that operators store in the database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from declbind import record_validation
from declbind.models import BindingRecord

from . import SourceItem


def load_database(using: str, known: Mapping[str, SourceItem] = MappingProxyType({})) -> list[SourceItem]:
    """Return one item for each record. A record that has become invalid has its problems. Makes one query.

    ``known`` are items by the text of their records (see ``text_of``). They are used without validating the record
    again.
    """
    items = []
    for record in BindingRecord.objects.using(using).order_by("stream"):
        document = record.definition()
        item = known.get(text_of(document)) or _validate(record.stream, document)
        names = frozenset(record.known) if isinstance(record.known, list) else None
        # A class that was built before sends other fields than after they have been accepted.
        items.append(item if item.known == names else replace(item, known=names, binding=None))
    return items


def text_of(document: Mapping[str, object]) -> str:
    """Return a record as the text that identifies its content."""
    return json.dumps(document, sort_keys=True)


def _validate(stream: str, document: Mapping[str, object]) -> SourceItem:
    spec, problems = record_validation.validate_document(document)
    return SourceItem(
        stream=stream,
        spec=spec,
        problems=tuple(problems),
        source="database",
        where=f"database record {stream!r}",
        document=document,
    )
