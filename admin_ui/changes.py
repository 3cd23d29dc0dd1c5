"""Put an edit into words, and ask before one opens something."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from admin_ui import documents
from declbind import judgement
from declbind.console.consequences import Consequence, consequences, in_words

#: The tick that stores a widening edit; its value is the ``digest`` of the words that it stands beside.
CONFIRM = "confirm_widening"
ASKING = "This opens more than before. Nothing is saved yet: read what it opens, tick that you mean it, and save again."


@dataclass(frozen=True)
class Change:
    """One edit in words. ``digest`` is empty where nothing widens; else it stands for these words over that record."""

    items: tuple[Consequence, ...] = ()
    digest: str = ""

    @property
    def widens(self) -> bool:
        """Whether somebody could get or write more than before."""
        return bool(self.digest)

    @property
    def text(self) -> str:
        """The words as one line, for messages and the log."""
        return in_words(self.items)


def build_change(old: documents.Document | None, new: documents.Document | None) -> Change:
    """Compare two records. An old one whose stream belongs to a file or a class was not in force. No query."""
    in_force = old is None or old.get("stream") not in judgement.reserved_streams()
    items = consequences(old or None, new, in_force=in_force)
    widening = [f"{item.sign} {item.text}" for item in items if item.widens]
    return Change(items, _digest([documents.canonical(old or {}), *widening]) if widening else "")


def combine_digests(changes: Iterable[Change]) -> str:
    """Return what stands for several edits that are confirmed together; empty where none of them widens."""
    digests = [change.digest for change in changes if change.widens]
    return _digest(sorted(digests)) if digests else ""


def is_ticked(data: Mapping[str, str], digest: str) -> bool:
    """Return whether an edit may be stored: it widens nothing, or a tick says that these very words were read."""
    return not digest or data.get(CONFIRM, "") == digest


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
