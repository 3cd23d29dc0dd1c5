"""What writers and clients recorded: writes, requests, frames, snapshots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Outcome(Enum):
    """What a writer knows about the end of its work."""

    COMMITTED = "committed"
    UNKNOWN = "unknown"
    ROLLED_BACK = "rolled back"


@dataclass(frozen=True, slots=True)
class Write:
    """One write of one row: from the room ``before`` (``None``: there was no row) to ``after`` (``None``: deleted).

    ``stamp`` is unique to the write, ``base`` what the row held before it.
    """

    pk: int
    action: str
    stamp: str
    base: str | None
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class Work:
    """Writes that were committed together or not at all."""

    writes: tuple[Write, ...]
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Asked:
    """A client's request for a snapshot."""


@dataclass(frozen=True, slots=True)
class Back:
    """A client's request for what it missed since an offset."""

    offset: int


@dataclass(frozen=True, slots=True)
class Frame:
    """A change. ``stamp`` and ``room`` are those of its data, ``None`` where it has none."""

    epoch: str
    offset: int
    action: str
    pk: int
    stamp: str | None
    room: int | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A whole snapshot: the stamps of the rows by primary key."""

    epoch: str
    offset: int
    rows: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Stale:
    """A message that the client may be behind: a ``resync``, or the end of the subscription."""

    reason: str


Observation = Asked | Back | Frame | Snapshot | Stale
Rows = Mapping[int, Mapping[str, Any]]


@dataclass
class Record:
    """The messages to one client for one group (``room`` ``None``: all rows), and the rows that it holds at the end."""

    name: str
    room: int | None
    log: Sequence[Observation]
    rows: Rows
