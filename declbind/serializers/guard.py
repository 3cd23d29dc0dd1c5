"""Hold back what code of the project puts into payloads and what looks like a secret by its name.

A record cannot send a field that looks like a secret by accident. A serializer, ``send_members`` and a ``serialize`` of
a class's own can: what they return is judged by its keys, in nested objects and lists too. A value that is held back is
sent as null, so that nobody has to do without the rest of the row.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from typing import Any

from declbind.fields import is_sensitive

#: How deep, and how many values of one payload, are looked at. What lies beyond is not judged.
MAX_DEPTH, MAX_VALUES = 8, 5_000
#: Sets of keys whose verdict is remembered.
MAX_KNOWN = 1_000
#: How Django's hashers begin what they store. Such a value is never sent, whatever it is called.
HASHES = (
    "pbkdf2_sha256$", "pbkdf2_sha1$", "argon2$", "bcrypt_sha256$", "bcrypt$", "scrypt$", "md5$", "sha1$",
)  # fmt: skip


#: That there is a secret, and when it was made or ends, is none.
HARMLESS = (bool, dt.date, dt.time, dt.timedelta)

_PLAIN = frozenset({int, float, bool, type(None)})
_NESTED = (dict, list, tuple, Mapping)


class Guard:
    """The judgement of what the code of one binding returns. Thread-safe: what it remembers is only a shortcut.

    Args:
        allowed: The names that the record's ``sensitive`` exposes knowingly, at any depth.
        bound: The names of the fields that the record sends. Those are judged with the record.
        documents: The bound fields that hold JSON documents, which are their owner's and are not looked into.
    """

    def __init__(self, allowed: Collection[str], bound: Collection[str], documents: Collection[str]) -> None:
        self._allowed = frozenset(allowed)
        self._bound, self._documents = frozenset(bound) | self._allowed, frozenset(documents)
        #: From the keys of an object to those that look like secrets: at the top, and in nested objects.
        self._known: tuple[dict[tuple[Any, ...], frozenset[Any]], ...] = ({}, {})

    def clean(self, data: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """Return the data with null for what is held back, and the places of that; the data itself if nothing is."""
        look = _Look(self)
        cleaned = look.at_object(data, "", 0)
        return cleaned, tuple(sorted(look.withheld))

    def clean_payload(self, payload: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """Do the same for a whole payload, whose ``data`` has the names of fields."""
        data = payload.get("data")
        if not isinstance(data, Mapping):
            look = _Look(self)
            return look.at_object(payload, "", 1), tuple(sorted(look.withheld))
        cleaned, withheld = self.clean(data)
        look = _Look(self)
        rest = look.at_object({key: value for key, value in payload.items() if key != "data"}, "", 1)
        if not withheld and not look.withheld:
            return payload, ()
        made = {key: cleaned if key == "data" else rest[key] for key in payload}
        return made, tuple(sorted({*withheld, *look.withheld}))

    def suspects(self, keys: tuple[Any, ...], depth: int) -> frozenset[Any]:
        """Return those of an object's keys that look like secrets and may not be sent. Judged once for each set."""
        known = self._known[depth > 0]
        found = known.get(keys)
        if found is None:
            allowed = self._allowed if depth else self._bound
            found = frozenset(key for key in keys if isinstance(key, str) and key not in allowed and is_sensitive(key))
            if len(known) < MAX_KNOWN:
                known[keys] = found
        return found

    def is_document(self, key: Any, depth: int) -> bool:
        """Tell whether a value is a document of a bound field."""
        return depth == 0 and key in self._documents


class _Look:
    """One look at one payload."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.withheld: set[str] = set()
        self.left = MAX_VALUES

    def at_object(self, data: Mapping[str, Any], path: str, depth: int) -> Mapping[str, Any]:
        suspects = self.guard.suspects(tuple(data), depth)
        self.left -= len(data)
        changed: dict[Any, Any] = {}
        for key, value in data.items():
            if suspects and key in suspects:
                if value is not None and not isinstance(value, HARMLESS):
                    self.withheld.add(f"{path}{key}")
                    changed[key] = None
                continue
            kind = type(value)
            # Most values are of these, and every write pays for each test.
            if kind in _PLAIN:
                continue
            if kind is str:
                if "$" in value and value.startswith(HASHES):
                    self.withheld.add(f"{path}{key}")
                    changed[key] = None
            elif isinstance(value, _NESTED) and not self.guard.is_document(key, depth):
                seen = self.at_value(value, f"{path}{key}.", depth + 1)
                if seen is not value:
                    changed[key] = seen
        return {**data, **changed} if changed else data

    def at_value(self, value: Any, path: str, depth: int) -> Any:
        if depth > MAX_DEPTH or self.left <= 0:
            return value
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is dict or isinstance(value, Mapping):
            return self.at_object(value, path, depth)
        if isinstance(value, (list, tuple)):
            seen = [self.at_value(item, path, depth + 1) for item in value]
            self.left -= len(value)
            return value if all(one is other for one, other in zip(seen, value, strict=True)) else seen
        if kind is str and "$" in value and value.startswith(HASHES):
            self.withheld.add(path.rstrip("."))
            return None
        return value


def describe_withheld(names: Collection[str]) -> str:
    """Return what was held back and what to do, in words."""
    listed = ", ".join(map(repr, names))
    return (
        f"The code of the binding puts {listed} into its payloads, which looks like a secret, so it is sent as null. "
        "Take it out there, or name it in 'sensitive'. A password hash is never sent."
    )
