"""Records as text for files, downloads and the command, which apply and import can read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from declbind.core.errors import ConfigError
from declbind.models import BindingRecord

from .output import format_json
from .overview import find_states, load_states, order_record

#: The file name of a download.
FILE_NAME = "bindings.json"


def format_export(records: Iterable[Mapping[str, object]]) -> str:
    """Return the text of a file of records, sorted by stream, with keys in a fixed order.

    The same records always give the same text, which ends with a line break. Write it to a file in UTF-8.
    """
    ordered = sorted((order_record(record) for record in records), key=lambda record: str(record["stream"]))
    return format_json(ordered) + "\n"


def load_export(streams: Sequence[str], using: str) -> list[dict[str, object]]:
    """Return records for ``apply``, sorted by stream: the named streams of any source, or all records of the database.

    Raises:
        ConfigError: No source, or more than one, defines a stream.
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
