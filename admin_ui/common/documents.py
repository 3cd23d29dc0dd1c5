"""Binding records as JSON documents: writing, reading and comparing them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from declbind.console.documents import canonical, fingerprint
from declbind.core.errors import ConfigError, Problem
from declbind.core.schema import RepeatedKeys, parse_documents
from declbind.core.spec import ACTIONS, ALL_FIELDS
from declbind.models import BindingRecord

__all__ = [
    "DiffLine",
    "Document",
    "canonical",
    "diff",
    "dump",
    "fingerprint",
    "has_repeats",
    "keep_spelling",
    "normalise",
    "parse_object",
    "parse_record",
]

Document = dict[str, Any]


def dump(document: object) -> str:
    """Return a document as text for people: keys in their own order, two spaces, no ASCII escapes."""
    return json.dumps(document, indent=2, ensure_ascii=False)


def normalise(document: Mapping[str, object]) -> Document:
    """Return the document as a stored record would return it: no ``$schema``, no key at its default."""
    return BindingRecord().assign(dict(document)).definition()


def parse_record(text: str) -> Document:
    """Parse the text of one record.

    A duplicate key is marked, so that the validation reports it.

    Raises:
        ConfigError: The text is not a JSON object; the message gives line and column, or what it is instead.
    """
    document = _parse_object(text, _("this text"))
    if document is None:
        raise ConfigError(
            [Problem("$", _("Expected one binding record in this text, got a list. Remove the outer brackets."))]
        )
    return document


def parse_object(text: str, where: str) -> Document:
    """Parse the text of a JSON object, ``{}`` for an empty text.

    Raises:
        ConfigError: The text is not a JSON object.
    """
    if not text.strip():
        return {}
    document = _parse_object(text, where)
    if document is None:
        expected = _("Expected a JSON object in {where}, got a list. Remove the outer brackets.")
        raise ConfigError([Problem("$", expected.format(where=where))])
    return document


def _parse_object(text: str, where: str) -> Document | None:
    """Return the object of a text, or None for a list."""
    found = parse_documents(text, where)
    if text.lstrip().startswith("[") or not isinstance(found[0], dict):
        return None
    document: Document = found[0]
    return document


def has_repeats(value: object) -> bool:
    """Return whether some object in the value had a duplicate key."""
    if isinstance(value, dict):
        return (isinstance(value, RepeatedKeys) and bool(value.repeated)) or any(map(has_repeats, value.values()))
    return isinstance(value, list) and any(map(has_repeats, value))


def keep_spelling(old: Mapping[str, object], new: Mapping[str, object]) -> Document:
    """Return ``new``, spelled as ``old`` wherever both are equivalent.

    A form has one way to say "all fields" where a record has two. Saving the form unchanged must not rewrite the
    record.
    """
    return {
        key: old[key] if key in old and canonical(_meaning(key, old[key])) == canonical(_meaning(key, value)) else value
        for key, value in new.items()
    }


def _meaning(key: str, value: object) -> object:
    if key == "fields" and value == ALL_FIELDS:
        return [ALL_FIELDS]
    if key == "permissions" and isinstance(value, str):
        return dict.fromkeys(ACTIONS, value)
    if key == "description" and isinstance(value, str):
        return value.replace("\r\n", "\n").replace("\r", "\n")
    return value


@dataclass(frozen=True)
class DiffLine:
    """One line of a comparison; ``kind`` is "same", "gone" or "new"."""

    kind: str
    text: str

    @property
    def sign(self) -> str:
        """Return the sign before the line, so that colour is not the only distinction."""
        return {"gone": "\N{MINUS SIGN}", "new": "+"}.get(self.kind, "\N{NO-BREAK SPACE}")


def diff(old: Document | None, new: Document | None) -> list[DiffLine]:
    """Compare two documents line by line; None means no record."""
    before = dump(old).splitlines() if old is not None else []
    after = dump(new).splitlines() if new is not None else []
    kinds = {"-": "gone", "+": "new", " ": "same"}
    return [DiffLine(kinds[line[0]], line[2:]) for line in difflib.Differ().compare(before, after) if line[0] in kinds]
