"""Read the JSON that processes store: what is not of the form that is expected is left out, so that no page fails.

It may be of another version of this program, or of somebody who mended something by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

#: What one subscription is stored as: stream, group, until, after, reason.
Subscription = tuple[str, str, int | None, int, str]


def read_json(text: str) -> Any:
    """Return the value of a text, None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def read_subscriptions(text: str) -> Iterator[Subscription]:
    """Yield the subscriptions of a connection's row."""
    for item in _items(read_json(text)):
        if not (isinstance(item, list) and len(item) == 5):
            continue
        stream, group, until, after, reason = item
        if isinstance(after, int) and (until is None or isinstance(until, int)):
            yield str(stream), str(group), until, after, str(reason)


def read_changes(text: str) -> Iterator[tuple[str, str]]:
    """Yield (group, action) of an event's changes."""
    for item in _items(read_json(text)):
        if isinstance(item, list) and len(item) == 2:
            yield str(item[0]), str(item[1])


def read_counts(streams: Any) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Yield (stream, (sent, received, refused)) of what a process counted."""
    for stream, counts in streams.items() if isinstance(streams, dict) else ():
        if isinstance(counts, list) and len(counts) == 3 and all(isinstance(count, int) for count in counts):
            yield stream, (counts[0], counts[1], counts[2])


def read_subscribers(streams: Any) -> dict[str, int]:
    """Return how many subscribers each stream has in a process."""
    known = streams.items() if isinstance(streams, dict) else ()
    return {stream: count for stream, count in known if isinstance(count, int)}


def read_deliveries(deliveries: Any) -> Iterator[tuple[int, int, float]]:
    """Yield (offset, recipients, milliseconds) of a second."""
    for item in _items(deliveries):
        if isinstance(item, list) and len(item) == 3 and all(isinstance(number, int | float) for number in item):
            yield item[0], item[1], item[2]


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
