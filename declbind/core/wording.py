"""The wording of problems with a record: what was expected, what was given, where, and how to fix it.

jsonschema reports which rule was broken. This module alone says what an operator should do about it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from jsonschema.exceptions import ValidationError

from .errors import Problem

_NAMES = "a list of field names"
_RULE = 'a codename like "blog.change_post", "authenticated", "staff", true (anyone) or false (nobody)'
#: Descriptions of the users whom each rule other than a codename admits.
AUDIENCE_WORDS: Final[Mapping[str | bool, str]] = {
    True: "anyone",
    False: "nobody",
    "authenticated": "users who are logged in",
    "staff": "staff users",
}
#: What belongs at a place of the record, for "Expected ..., got ...". Indexes are left out of the place.
EXPECTED: Final[Mapping[str, str]] = {
    "$": "a binding record, which is a JSON object",
    "$.$schema": "the address of the schema",
    "$.stream": "1 to 64 letters, digits, '.', '_' or '-', the first a letter or a digit",
    "$.model": 'a model as "app_label.ModelName"',
    "$.fields": f'{_NAMES} or "__all__"',
    "$.exclude": _NAMES,
    "$.groups": 'a list of group templates like "room-{room_id}"',
    "$.groups[]": 'a group template like "room-{room_id}"',
    "$.permissions": (
        'an object like {"view": true, "update": "blog.change_post"}, or one codename, "authenticated" or "staff"'
    ),
    "$.permissions.*": _RULE,
    "$.direction": '"both", "outbound" or "inbound"',
    "$.writable": _NAMES,
    "$.where": 'an object like {"published": true}',
    "$.where.*": "a string, a number, true, false, null, or a list of such values",
    "$.where.*[]": "a string, a number, true, false or null",
    "$.scope": 'an object like {"owner_id": "$user.pk"}',
    "$.scope.*": '"$user.pk" or "$user.<field>"',
    "$.relate": 'an object like {"project": {"owner_id": "$user.pk"}}',
    "$.relate.*": '"any", or an object like {"owner_id": "$user.pk"}',
    "$.relate.*.*": '"$user.pk" or "$user.<field>"',
    "$.grow": "true or false",
    "$.auto_subscribe": "true or false",
    "$.sensitive": _NAMES,
    "$.serializer": 'the name of a serializer, such as "default"',
    "$.capture": '"orm" or "triggers"',
    "$.also": 'a list of relations like "author" or "author__team"',
    "$.also[]": 'a relation like "author" or "author__team"',
    "$.retention": "a whole number of seconds, 60 or more, or null",
    "$.enabled": "true or false",
    "$.description": "text",
}
_EXAMPLES: Final = {"stream": '"intval"', "model": '"example.IntegerValue"', "fields": '["name", "value"]'}
#: Django's names for keys that a record spells differently.
_ACTION_NAMES: Final = {"add": "create", "change": "update", "read": "view", "list": "view"}
_SWITCHES: Final = ("grow", "auto_subscribe", "enabled")
_LISTS: Final = frozenset({"fields", "exclude", "groups", "writable", "sensitive", "also"})


def explain(error: ValidationError) -> Iterator[Problem]:
    """Convert one jsonschema error, found with ``binding.schema.json``, into problems."""
    steps = list(error.absolute_path)
    path, rule = _path(steps), error.validator
    value: Any = error.instance
    schema: Any = error.schema
    if rule == "anyOf" and (inner := _fitting_errors(error)):
        for one in inner:
            yield from explain(one)
    elif rule == "additionalProperties":
        known = list(schema["properties"])
        owner = "an action" if steps else "a key of a binding record"
        for key in value:
            if key not in known:
                near = f" Write {_ACTION_NAMES[key]!r}." if steps and key in _ACTION_NAMES else ""
                near = near or suggest(key, [name for name in known if name not in value])
                fix = near or f" Known are {', '.join(name for name in known if name != '$schema')}."
                yield Problem(join_path(path, key), f"Expected {owner}, got the unknown key {key!r}.{fix}")
    elif rule == "required":
        for key in schema["required"]:
            if key not in value:
                yield Problem(f"$.{key}", f"Expected {EXPECTED[f'$.{key}']}, got nothing. {_example(key)}")
    elif rule == "oneOf":
        if "fields" in value:
            what = 'got both. Keep "fields" to send only those, or "exclude" to send all but those'
        else:
            what = f'got neither. {_example("fields")[:-1]}, or "exclude"'
        yield Problem("$.fields", f'Expected exactly one of "fields" and "exclude", {what}.')
    elif "propertyNames" in error.absolute_schema_path:
        yield Problem(path, f"Expected field names as keys, got {show(value)}.")
    elif rule == "uniqueItems":
        twice = next(item for position, item in enumerate(value) if item in value[:position])
        yield Problem(path, f"Expected each entry once, got {show(twice)} more than once. Remove the repetition.")
    else:
        place = _place(steps)
        expected = EXPECTED.get(place, "a field's name")
        yield Problem(path, f"Expected {expected}, got {show(value)}.{_fix(place, value)}")


def _fitting_errors(error: ValidationError) -> list[ValidationError]:
    """Return the errors of the one alternative that the value was clearly meant to match, or an empty list."""
    if not isinstance(error.instance, (list, dict)):
        return []
    branches: dict[Any, list[ValidationError]] = {}
    for inner in error.context or ():
        branches.setdefault(inner.relative_schema_path[0], []).append(inner)
    for errors in branches.values():
        if not any(inner.validator in ("type", "const", "enum") and not inner.relative_path for inner in errors):
            return errors
    return []


def _fix(place: str, value: object) -> str:
    """Return a suggested fix as a sentence after a space, or ``""`` if there is no safe guess."""
    key = place[2:]
    if isinstance(value, str):
        if key in _LISTS and value:
            return f" Write {json.dumps([value])}."
        if key in (*_SWITCHES, "permissions.*") and value.lower() in ("true", "false"):
            return f" Write {value.lower()} without quotes."
        if key == "direction":
            return suggest(value, ["both", "outbound", "inbound"])
        if key == "capture":
            return suggest(value, ["orm", "triggers"])
        if key == "also[]" and re.fullmatch(r"\w+(\.\w+)+", value):
            return f" Write {value.replace('.', '__')!r}."
        if key == "stream" and (tidy := re.sub(r"[^A-Za-z0-9._-]+", "-", value).strip("._-")[:64]):
            return f" Perhaps {tidy!r}."
        if key == "model" and value.count(".") > 1:
            first, *_, last = value.split(".")
            return f' Leave out the module, as in "{first}.{last}".'
        if key == "model":
            return ' Put the app\'s label before the model, as in "example.IntegerValue".'
        if key in ("permissions", "permissions.*"):
            if value and "." not in value and (near := suggest(value, ["authenticated", "staff"])):
                return near
            return ' Put the app\'s label before the codename, as in "blog.change_post".'
        if key in ("scope.*", "relate.*.*") and value in ("$user", "user", "$user.", "$user.id"):
            return ' Write "$user.pk".'
        if key in ("scope.*", "relate.*.*") and re.fullmatch(r"\$?(user\.)?[A-Za-z_]\w*", value):
            return f' Write "$user.{value.removeprefix("$").removeprefix("user.")}".'
    if key == "where.*" and isinstance(value, dict):
        return " Lookups are not supported: give the value itself, or a list of values."
    if key in _SWITCHES and value in (0, 1):
        return f" Write {'true' if value else 'false'}."
    return ""


def suggest(name: str, known: Sequence[str]) -> str:
    """Return `` Did you mean 'x'?`` with the known name nearest to ``name``, or ``""`` if none is near."""
    folded: dict[str, str] = {}
    for candidate in known:
        folded.setdefault(candidate.lower(), candidate)
    near = get_close_matches(name.lower(), list(folded), n=1, cutoff=0.6)
    # "out" stands for "outbound", but is too short to count as near to it.
    near = near or [candidate for candidate in folded if len(name) > 1 and candidate.startswith(name.lower())]
    return f" Did you mean {folded[near[0]]!r}?" if near else ""


def _example(key: str) -> str:
    return f'Add "{key}": {_EXAMPLES[key]}.'


def show(value: object) -> str:
    """Return a value as JSON, which is the form of the record that the reader knows, shortened if it is long."""
    try:
        text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 120 else f"{text[:117]}..."


def join_path(path: str, key: str) -> str:
    plain = re.fullmatch(r"[^\s.\[\]\"]+", key)
    return f"{path}.{key}" if plain else f"{path}[{json.dumps(key, ensure_ascii=False)}]"


def _path(steps: Sequence[str | int]) -> str:
    path = "$"
    for step in steps:
        path = f"{path}[{step}]" if isinstance(step, int) else join_path(path, step)
    return path


def _place(steps: Sequence[str | int]) -> str:
    place = "$"
    for depth, step in enumerate(steps):
        place += "[]" if isinstance(step, int) else f".{step}" if depth == 0 else ".*"
    return place
