"""Descriptions of values that do not disclose them, for users who may not read them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice

#: The number of keys that are named and the characters of each; a client may send any number of both.
MAX_KEYS, MAX_CHARACTERS = 40, 60

_QUOTED = re.compile("“[^”]*”|\"[^\"]*\"|'[^']*'")
HIDDEN = "…"


def shape(value: object, depth: int = 1) -> object:
    """Return a value's types and lengths, and the keys of ``depth`` levels."""
    if isinstance(value, Mapping):
        if depth <= 0:
            return f"object, {len(value)} keys"
        shown = {str(key)[:MAX_CHARACTERS]: shape(item, depth - 1) for key, item in islice(value.items(), MAX_KEYS)}
        if len(value) > MAX_KEYS:
            shown["…"] = f"{len(value) - MAX_KEYS} more keys"
        return shown
    if isinstance(value, list):
        return f"list, {len(value)} items"
    if isinstance(value, str):
        return f"text, {len(value)} characters"
    if value is None:
        return "null"
    return "boolean" if isinstance(value, bool) else "number"


def without_values(message: str, values: Iterable[object]) -> str:
    """Return a message without quoted text and without any of ``values``."""
    message = _QUOTED.sub(HIDDEN, message)
    for value in values:
        text = str(value) if isinstance(value, str | int | float) else ""
        if text.strip() and text in message:
            message = re.sub(rf"(?<!\w){re.escape(text)}(?!\w)", HIDDEN, message)
    return message
