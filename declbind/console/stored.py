"""Readers for the JSON that processes store. Content of an unexpected form is skipped, so that no page fails.

It may come from another version of declbind, or from a manual edit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

#: The stored form of one subscription: stream, group, until, after, reason.
Subscription = tuple[str, str, int | None, int, str]


def read_json(text: str) -> object:
    """Return the value of a JSON text, or None if it is not JSON."""
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


def read_counts(streams: object) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Yield the counts of a process as (stream, (sent, received, refused))."""
    for stream, counts in streams.items() if isinstance(streams, dict) else ():
        if isinstance(counts, list) and len(counts) == 3 and all(isinstance(count, int) for count in counts):
            yield stream, (counts[0], counts[1], counts[2])


def read_subscribers(streams: object) -> dict[str, int]:
    """Return how many subscribers each stream has in a process."""
    known = streams.items() if isinstance(streams, dict) else ()
    return {stream: count for stream, count in known if isinstance(count, int)}


def read_deliveries(deliveries: object) -> Iterator[tuple[int, int, float]]:
    """Yield the deliveries of one second as (offset, recipients, milliseconds)."""
    for item in _items(deliveries):
        if isinstance(item, list) and len(item) == 3 and all(isinstance(number, int | float) for number in item):
            yield item[0], item[1], item[2]


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
