"""Values as text, so that equal values have equal texts whatever their type is: for group names and comparisons."""

from __future__ import annotations

import datetime as dt
import enum
import json
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

#: The most digits with which a decimal is written out. No group name is longer.
MAX_DIGITS: Final = 99


def canonical_text(value: object) -> str:
    """Return a field's value as text; values that are equal in the database have equal texts.

    A value reaches a template in two ways: from a row (``Decimal("1.50")``, a datetime in UTC) and from a client's
    params (``1.5``, the same moment in Paris time). Both must find the same group.
    """
    if type(value) is str:
        return value
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        # Up to this bound, a float holds each whole number exactly.
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(float(value))
    if isinstance(value, Decimal):
        return _decimal_text(value)
    if isinstance(value, dt.datetime):
        return (value if value.tzinfo is None else value.astimezone(dt.UTC)).isoformat()
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return str(value)


def is_plain(value: object) -> bool:
    """Return whether a value is of a type whose canonical text is exact, rather than the result of ``str()``."""
    return isinstance(
        value, (str, int, float, Decimal, dt.date, dt.time, dt.timedelta, uuid.UUID, bytes, bytearray, memoryview)
    ) or (isinstance(value, (list, tuple)) and all(map(is_plain, value)))


def json_text(value: object) -> str:
    """Return a JSON value as text: ``5``, ``"5"`` and ``true`` differ, while ``1`` and ``1.0`` do not.

    Object keys are sorted, because JSON objects have no order.
    """
    if isinstance(value, Mapping):
        items = sorted((str(key), json_text(item)) for key, item in value.items())
        return "{" + ",".join(f"{json.dumps(key)}:{text}" for key, text in items) + "}"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(json_text, value))}]"
    if value is None:
        return "null"
    text = canonical_text(value)
    return text if isinstance(value, (bool, int, float)) else json.dumps(text)


def _decimal_text(value: Decimal) -> str:
    # Decimal.normalize() would round to the context's precision, so that two long numbers could collide.
    if not value.is_finite():
        return str(value)
    if value.is_zero():
        return "0"
    if abs(value.adjusted()) > MAX_DIGITS:
        sign, digits, exponent = value.as_tuple()
        kept = "".join(map(str, digits)).rstrip("0")
        return f"{'-' if sign else ''}{kept}E{int(exponent) + len(digits) - len(kept)}"
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
