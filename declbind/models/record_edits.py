"""Edits of binding records: what differs, and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from django.core.exceptions import ValidationError

from declbind.django_types import Key

from .revision import Edit


class Record(Protocol):
    """The parts of a binding record that an edit concerns."""

    @property
    def stream(self) -> str:
        """The name by which clients know the binding."""

    @property
    def enabled(self) -> bool:
        """Whether it is in force."""

    @property
    def known(self) -> list[str] | None:
        """The fields that it may send."""

    def definition(self) -> dict[str, object]:
        """Return the record as a JSON object."""


def compare(before: Mapping[Key, Record], after: Mapping[Key, Record]) -> list[Edit]:
    """Compare by primary key. A record with a new stream ends under the old one and begins under the new one."""
    streams = {record.stream for record in after.values()}
    old = {record.stream: record for record in before.values()}
    gone = [Edit(stream, old[stream].definition(), None) for stream in sorted(old.keys() - streams)]
    return gone + [
        Edit(
            record.stream,
            was.definition() if (was := old.get(record.stream)) is not None else None,
            record.definition(),
            (was.known if was is not None else None, record.known),
        )
        for record in after.values()
    ]


def is_switched_off(before: Record | None, after: Record) -> bool:
    """Return whether the edit only disables the record. This is allowed even if the record has become invalid."""
    if before is None or after.enabled is not False:
        return False
    return {**before.definition(), "enabled": False} == {**after.definition(), "enabled": False}


def refuse_repeats(records: Sequence[Record]) -> None:
    streams = [record.stream for record in records]
    for stream in streams:
        if streams.count(stream) > 1:
            raise ValidationError({"stream": [f"$.stream: Binding {stream!r} stands twice in one call."]})
