"""A guard that withholds values whose names look like secrets from the results of project code.

A record cannot send a field that looks like a secret by accident, but a serializer, ``send_members`` or a class's own
``serialize`` can. Their results are checked by key, also in nested objects and lists. A withheld value is sent as null,
so that the rest of the row is still sent.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from typing import Any

from declbind.core.sentences import Sentence
from declbind.core.sentences import Sentence as _
from declbind.fields import is_sensitive

#: The limits of the check: the depth, and the number of values in one payload. Anything beyond is not checked.
MAX_DEPTH, MAX_VALUES = 8, 5_000
#: The number of key sets whose result is cached.
MAX_KNOWN = 1_000
#: The prefixes of password hashes made by Django's hashers. Such a value is never sent, whatever its name.
HASHES = (
    "pbkdf2_sha256$", "pbkdf2_sha1$", "argon2$", "bcrypt_sha256$", "bcrypt$", "scrypt$", "md5$", "sha1$",
)  # fmt: skip


#: Types of values that only say that a secret exists, or when it was created or expires.
HARMLESS = (bool, dt.date, dt.time, dt.timedelta)

_PLAIN = frozenset({int, float, bool, type(None)})
_NESTED = (dict, list, tuple, Mapping)


class Guard:
    """The check of the results of one binding's code. Thread-safe, because its only state is a cache.

    Args:
        allowed: The names in the record's ``sensitive``, which may be sent at any depth.
        bound: The names of the fields that the record sends, which were checked with the record.
        documents: The bound fields that hold JSON documents, whose contents are not checked.
    """

    def __init__(self, allowed: Collection[str], bound: Collection[str], documents: Collection[str]) -> None:
        self._allowed = frozenset(allowed)
        self._bound, self._documents = frozenset(bound) | self._allowed, frozenset(documents)
        #: Maps the keys of an object to those that look like secrets; the first map is for the top level, the second
        #: for nested objects.
        self._known: tuple[dict[tuple[object, ...], frozenset[object]], ...] = ({}, {})

    def clean(self, data: Mapping[str, object]) -> tuple[Mapping[str, object], tuple[str, ...]]:
        """Return the data with withheld values replaced by null, and their places.

        If no value is withheld, the same object is returned.
        """
        look = _Look(self)
        cleaned = look.at_object(data, "", 0)
        return cleaned, tuple(sorted(look.withheld))

    def clean_payload(self, payload: Mapping[str, object]) -> tuple[Mapping[str, object], tuple[str, ...]]:
        """Clean a whole payload like ``clean``. Field names are in its ``data``."""
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

    def suspects(self, keys: tuple[object, ...], depth: int) -> frozenset[object]:
        """Return the keys of an object that look like secrets and may not be sent. Results are cached by keys."""
        known = self._known[depth > 0]
        found = known.get(keys)
        if found is None:
            allowed = self._allowed if depth else self._bound
            found = frozenset(key for key in keys if isinstance(key, str) and key not in allowed and is_sensitive(key))
            if len(known) < MAX_KNOWN:
                known[keys] = found
        return found

    def is_document(self, key: object, depth: int) -> bool:
        """Return whether a value is a JSON document of a bound field."""
        return depth == 0 and key in self._documents


class _Look:
    """The check of one payload."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.withheld: set[str] = set()
        self.left = MAX_VALUES

    def at_object(self, data: Mapping[str, Any], path: str, depth: int) -> Mapping[str, object]:
        suspects = self.guard.suspects(tuple(data), depth)
        self.left -= len(data)
        changed: dict[str, object] = {}
        for key, value in data.items():
            if suspects and key in suspects:
                if value is not None and not isinstance(value, HARMLESS):
                    self.withheld.add(f"{path}{key}")
                    changed[key] = None
                continue
            kind = type(value)
            # Most values have these types, which are handled first because every check here slows down every write.
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

    def at_value(self, value: Any, path: str, depth: int) -> object:
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


def describe_withheld(names: Collection[str]) -> Sentence:
    """Return a description of the withheld values, with advice."""
    return _(
        "The code of the binding puts %(names)s into its payloads, which looks like a secret, so it is sent as null. "
        "Take it out there, or name it in 'sensitive'. A password hash is never sent.",
        names=", ".join(map(repr, names)),
    )
