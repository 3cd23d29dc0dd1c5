"""Descriptions of an edit in words, and the confirmation of one that opens something."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from admin_ui.common import documents
from declbind import record_validation
from declbind.console.consequences import Consequence, consequences, in_words

#: The confirmation that stores a widening edit; its value is the ``digest`` of the words beside it.
CONFIRM = "confirm_widening"
ASKING = "This gives more access than before. Nothing is saved yet. Read the marked lines, confirm, and save again."


@dataclass(frozen=True)
class Change:
    """One edit in words. ``digest`` is empty if it widens nothing; else it identifies these words and the record."""

    items: tuple[Consequence, ...] = ()
    digest: str = ""

    @property
    def widens(self) -> bool:
        """Return whether more can be read or written than before."""
        return bool(self.digest)

    @property
    def text(self) -> str:
        """Return the words on one line, for messages and the log."""
        return in_words(self.items)


def build_change(
    old: documents.Document | None,
    new: documents.Document | None,
    held: Collection[str] = (),
    accepted: Collection[str] = (),
) -> Change:
    """Compare two records without a query.

    If the old record's stream belongs to a file or a class, it was not in force.

    ``held`` and ``accepted`` are those of :func:`~declbind.console.consequences.consequences`.
    """
    in_force = old is None or old.get("stream") not in record_validation.reserved_streams()
    items = consequences(old or None, new, in_force=in_force, held=held, accepted=accepted)
    widening = [f"{item.sign} {item.text}" for item in items if item.widens]
    return Change(items, _digest([documents.canonical(old or {}), *widening]) if widening else "")


def combine_digests(changes: Iterable[Change]) -> str:
    """Return the digest of several edits that are confirmed together; empty if none of them widens."""
    digests = [change.digest for change in changes if change.widens]
    return _digest(sorted(digests)) if digests else ""


def is_ticked(data: Mapping[str, str], digest: str) -> bool:
    """Return whether an edit may be stored: it widens nothing, or the submitted digest confirms these words."""
    return not digest or data.get(CONFIRM, "") == digest


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
