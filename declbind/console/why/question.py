"""The question why a frame arrived or did not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

#: How far a change may lie from the time in question. Operators know times to the minute.
WINDOW = timedelta(minutes=2)
#: How far it may lie to be the most likely one.
NEAR = timedelta(seconds=5)


@dataclass(frozen=True)
class Question:
    """A question: a stream, a row's key as text, and optionally user, time and change.

    ``user`` is a name or a key, or "anonymous"; ``connection`` narrows it to one connection. Only ``offset`` names
    one change. Without it, the change is searched by the row's key and the time.
    """

    stream: str
    row: str
    user: str = ""
    at: datetime | None = None
    offset: int | None = None
    connection: str = ""
