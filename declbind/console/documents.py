"""Records as JSON documents: equality, differences, and a short fingerprint of the content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from declbind.core.spec import KEYS

#: A key that differs: its name, the old and the new value, ``None`` for a missing one.
Difference = tuple[str, object, object]


def canonical(value: object) -> str:
    """Return a canonical JSON text of a value. Two texts are equal if and only if the values are equal in JSON.

    Python's ``==`` considers ``True`` equal to 1, and a database may return the keys of an object in another order.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def fingerprint(document: Mapping[str, object]) -> str:
    """Return a short text that identifies the document's content; forms use it to detect concurrent changes."""
    return hashlib.sha256(canonical(document).encode()).hexdigest()[:24]


def differences(old: Mapping[str, object] | None, new: Mapping[str, object] | None) -> list[Difference]:
    """Return the differences for every key of a record that differs, in the documented order of keys."""
    before, after = old or {}, new or {}
    return [
        (key, before.get(key), after.get(key))
        for key in KEYS
        if (key in before) != (key in after) or not says_same(before.get(key), after.get(key))
    ]


def says_same(one: object, other: object) -> bool:
    """Return whether two JSON values mean the same.

    ``true`` is not 1, but 1e2 is 100, because a database may return it in either form.
    """
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        mixed = isinstance(one, float) != isinstance(other, float)
        return one == other or (mixed and _as_float(one) == _as_float(other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(says_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(says_same, one, other))
    return bool(one == other)


def _as_float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf")
