"""The question why a frame arrived or did not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

#: How far a change may lie from the time in question.
WINDOW = timedelta(minutes=2)


@dataclass(frozen=True)
class Question:
    """A question: a stream, a row's key as text, and optionally user, time and change.

    ``user`` is a name or a key, or "anonymous"; ``connection`` narrows it to one connection.
    """

    stream: str
    row: str
    user: str = ""
    at: datetime | None = None
    offset: int | None = None
    connection: str = ""
