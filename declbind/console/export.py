"""Write records as the one text that files, downloads and the command share, which apply and import take back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from declbind.core.errors import ConfigError
from declbind.models import BindingRecord

from .output import format_json
from .overview import find_states, load_states, order_record

#: What a browser calls the file.
FILE_NAME = "bindings.json"


def format_export(records: Iterable[Mapping[str, Any]]) -> str:
    """Return the text of a file of records: by stream, each key at its place; the same records are the same bytes.

    It ends with a line break. Written to a file in UTF-8.
    """
    ordered = sorted((order_record(record) for record in records), key=lambda record: str(record["stream"]))
    return format_json(ordered) + "\n"


def load_export(streams: Sequence[str], using: str) -> list[dict[str, Any]]:
    """Return records that ``apply`` takes back as they are, by stream: the database's, or the named ones of any source.

    Raises ``ConfigError`` for a stream that no source defines, or more than one.
    """
    if not streams:
        records = BindingRecord.objects.using(using).order_by("stream")
        return [order_record(record.definition()) for record in records]
    states = load_states(using)
    exported = []
    for stream in sorted(set(streams)):
        found = find_states(states, stream)
        if len(found) > 1 or found[0].record is None:
            raise ConfigError(problem for state in found for problem in state.problems)
        exported.append(order_record(found[0].record))
    return exported
