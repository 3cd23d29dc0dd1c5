"""Forms of numbers, datetimes and keys that survive JSON unchanged.

JavaScript reads every number as a float, which is exact only up to ``2**53 - 1``. Django's JSON encoder truncates
datetimes to milliseconds, which would change a key.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import math
import uuid
from typing import Final

from declbind.django_types import Column
from declbind.stored_values import write_value

#: ``Number.MAX_SAFE_INTEGER`` of JavaScript.
MAX_EXACT: Final = 2**53 - 1

#: The classes of single values that Django's JSON encoder can encode.
SCALARS: Final = (str, int, float, decimal.Decimal, dt.date, dt.time, dt.timedelta, uuid.UUID)


def keep_exact(value: object) -> object:
    """Return integers that JavaScript would round as text, also inside a list. Return any other value unchanged.

    This is for the values of columns. The contents of a JSON document stay as they were stored.
    """
    if isinstance(value, int):
        return value if -MAX_EXACT <= value <= MAX_EXACT else str(int(value))
    if isinstance(value, list | tuple):
        return [keep_exact(item) for item in value]
    return value


def exact_key(pk: object, field: Column | None = None) -> object:
    """Return the key of a row or a relation in the form that frames contain and requests send back.

    A key of a class that has no JSON form is converted by ``field``, the column that holds it.
    """
    if isinstance(pk, int):
        return keep_exact(pk)
    if isinstance(pk, dt.datetime):
        return in_utc(pk).isoformat()
    if isinstance(pk, dt.time):
        return pk.isoformat()
    if isinstance(pk, float) and not math.isfinite(pk):
        return str(float(pk))
    if isinstance(pk, bytes | bytearray | memoryview):
        return base64.b64encode(pk).decode("ascii")
    if pk is None or isinstance(pk, SCALARS) or field is None:
        return pk
    return write_value(field, pk)


def in_utc(moment: dt.datetime) -> dt.datetime:
    """Return a datetime in UTC, in which it is sent. The database may use another zone (``TIME_ZONE``)."""
    if moment.tzinfo is None or moment.tzinfo is dt.UTC:
        return moment
    try:
        return moment.astimezone(dt.UTC)
    except OverflowError:
        return moment
