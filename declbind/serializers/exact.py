"""Write values so that the reader gets them whole.

JavaScript reads each number as a float, which is exact up to 2**53 - 1 and no further, and Django's JSON encoder cuts
moments to milliseconds. The first would spoil values and keys alike; the second does no harm but to a key.
"""

from __future__ import annotations

import base64
import datetime as dt
from typing import Any, Final

#: ``Number.MAX_SAFE_INTEGER`` of JavaScript.
MAX_EXACT: Final = 2**53 - 1


def keep_exact(value: Any) -> Any:
    """Return an integer that JavaScript would round as text, also in a list; anything else as it is.

    For the values of columns. A JSON document is its owner's, and what is in it stays as it was stored.
    """
    if isinstance(value, int):
        return value if -MAX_EXACT <= value <= MAX_EXACT else str(int(value))
    if isinstance(value, list | tuple):
        return [keep_exact(item) for item in value]
    return value


def exact_key(pk: Any) -> Any:
    """Return a row's key, or a relation's, in a form that the encoder takes and that a request gives back."""
    if isinstance(pk, int):
        return keep_exact(pk)
    if isinstance(pk, dt.datetime):
        return in_utc(pk).isoformat()
    if isinstance(pk, dt.time):
        return pk.isoformat()
    if isinstance(pk, bytes | memoryview):
        return base64.b64encode(pk).decode("ascii")
    return pk


def in_utc(moment: dt.datetime) -> dt.datetime:
    """Return a moment in the one zone in which it is sent; a database's connection may have another (``TIME_ZONE``)."""
    if moment.tzinfo is None or moment.tzinfo is dt.UTC:
        return moment
    try:
        return moment.astimezone(dt.UTC)
    except OverflowError:
        return moment
