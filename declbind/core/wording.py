"""The wording of problems with a record: what was expected, what was given, where, and how to fix it.

jsonschema reports which rule was broken. This module alone says what an operator should do about it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from jsonschema.exceptions import ValidationError

from .errors import Problem
from .sentences import Phrases, Sentence
from .sentences import Sentence as _

_NAMES = _("a list of field names")
_RULE = _('a codename like "blog.change_post", "authenticated", "staff", true (anyone) or false (nobody)')
#: Descriptions of the users whom each rule other than a codename admits.
AUDIENCE_WORDS: Final[Mapping[str | bool, str]] = Phrases(
    {
        True: _("anyone"),
        False: _("nobody"),
        "authenticated": _("users who are logged in"),
        "staff": _("staff users"),
    }
)
#: What belongs at a place of the record, for "Expected ..., got ...". Indexes are left out of the place.
EXPECTED: Final[Mapping[str, Sentence]] = {
    "$": _("a binding record, which is a JSON object"),
    "$.$schema": _("the address of the schema"),
    "$.stream": _("1 to 64 letters, digits, '.', '_' or '-', the first a letter or a digit"),
    "$.model": _('a model as "app_label.ModelName"'),
    "$.fields": _('a list of field names or "__all__"'),
    "$.exclude": _NAMES,
    "$.groups": _('a list of group templates like "room-{room_id}"'),
    "$.groups[]": _('a group template like "room-{room_id}"'),
    "$.permissions": _(
        'an object like {"view": true, "update": "blog.change_post"}, or one codename, "authenticated" or "staff"'
    ),
    "$.permissions.*": _RULE,
    "$.direction": _('"both", "outbound" or "inbound"'),
    "$.writable": _NAMES,
    "$.where": _('an object like {"published": true}'),
    "$.where.*": _("a string, a number, true, false, null, or a list of such values"),
    "$.where.*[]": _("a string, a number, true, false or null"),
    "$.scope": _('an object like {"owner_id": "$user.pk"}'),
    "$.scope.*": _('"$user.pk" or "$user.<field>"'),
    "$.relate": _('an object like {"project": {"owner_id": "$user.pk"}}'),
    "$.relate.*": _('"any", or an object like {"owner_id": "$user.pk"}'),
    "$.relate.*.*": _('"$user.pk" or "$user.<field>"'),
    "$.grow": _("true or false"),
    "$.auto_subscribe": _("true or false"),
    "$.sensitive": _NAMES,
    "$.serializer": _('the name of a serializer, such as "default"'),
    "$.capture": _('"orm" or "triggers"'),
    "$.also": _('a list of relations like "author" or "author__team"'),
    "$.also[]": _('a relation like "author" or "author__team"'),
    "$.retention": _("a whole number of seconds, 60 or more, or null"),
    "$.enabled": _("true or false"),
    "$.description": _("text"),
}
_IN_BINDING: Final = "Binding %(stream)r: %(sentence)s"
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
        for key in value:
            if key not in known:
                yield Problem(join_path(path, key), _unknown_key(key, known, value, is_action=bool(steps)))
    elif rule == "required":
        for key in schema["required"]:
            if key not in value:
                text = _(
                    'Expected %(expected)s, got nothing. Add "%(key)s": %(example)s.',
                    key=key,
                    expected=EXPECTED[f"$.{key}"],
                    example=_EXAMPLES[key],
                )
                yield Problem(f"$.{key}", text)
    elif rule == "oneOf":
        if "fields" in value:
            text = _(
                'Expected exactly one of "fields" and "exclude", got both. Keep "fields" to send only those, or '
                '"exclude" to send all but those.'
            )
        else:
            text = _(
                'Expected exactly one of "fields" and "exclude", got neither. Add "fields": %(example)s, or "exclude".',
                example=_EXAMPLES["fields"],
            )
        yield Problem("$.fields", text)
    elif "propertyNames" in error.absolute_schema_path:
        yield Problem(path, _("Expected field names as keys, got %(given)s.", given=show(value)))
    elif rule == "uniqueItems":
        twice = next(item for position, item in enumerate(value) if item in value[:position])
        text = _("Expected each entry once, got %(given)s more than once. Remove the repetition.", given=show(twice))
        yield Problem(path, text)
    else:
        place = _place(steps)
        expected = EXPECTED.get(place, _("a field's name"))
        yield Problem(path, instead_of(expected, show(value)) + _fix(place, value))


def instead_of(expected: Sentence, given: object) -> Sentence:
    """Return the sentence that says what was expected and what was given."""
    return _("Expected %(expected)s, got %(given)s.", expected=expected, given=given)


def in_binding(stream: str, sentence: str | Sentence) -> Sentence:
    """Return a sentence about a binding with its stream before it, for places that do not name the binding."""
    return _("Binding %(stream)r: %(sentence)s", stream=stream, sentence=sentence)


def without_binding(text: str) -> str:
    """Return a rendered sentence without what :func:`in_binding` put before it, in the language that is active."""
    before, _stream, after = Sentence.translate(_IN_BINDING).partition("%(stream)r")
    between = after.partition("%(sentence)s")[0]
    found = re.match(rf"{re.escape(before)}'[^']*'{re.escape(between)}", text)
    return text[found.end() :] if found else text


def _unknown_key(key: str, known: Sequence[str], record: Mapping[str, object], *, is_action: bool) -> Sentence:
    if is_action:
        text = _("Expected an action, got the unknown key %(key)r.", key=key)
    else:
        text = _("Expected a key of a binding record, got the unknown key %(key)r.", key=key)
    if is_action and key in _ACTION_NAMES:
        return text + _(" Write %(value)r.", value=_ACTION_NAMES[key])
    near = suggest(key, [name for name in known if name not in record])
    return text + (near or known_names(name for name in known if name != "$schema"))


def known_names(names: Iterable[str]) -> Sentence:
    """Return a sentence, after a space, with the names that would be accepted."""
    listed = ", ".join(names)
    return _(" Known are %(names)s.", names=listed) if listed else _(" None are known.")


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


def _fix(place: str, value: object) -> Sentence | str:
    """Return a suggested fix as a sentence after a space, or ``""`` if there is no safe guess."""
    key = place[2:]
    if isinstance(value, str):
        if key in _LISTS and value:
            return _(" Write %(value)s.", value=json.dumps([value]))
        if key in (*_SWITCHES, "permissions.*") and value.lower() in ("true", "false"):
            return _(" Write %(value)s without quotes.", value=value.lower())
        if key == "direction":
            return suggest(value, ["both", "outbound", "inbound"])
        if key == "capture":
            return suggest(value, ["orm", "triggers"])
        if key == "also[]" and re.fullmatch(r"\w+(\.\w+)+", value):
            return _(" Write %(value)r.", value=value.replace(".", "__"))
        if key == "stream" and (tidy := re.sub(r"[^A-Za-z0-9._-]+", "-", value).strip("._-")[:64]):
            return _(" Perhaps %(value)r.", value=tidy)
        if key == "model" and value.count(".") > 1:
            names = value.split(".")
            return _(' Leave out the module, as in "%(label)s".', label=f"{names[0]}.{names[-1]}")
        if key == "model":
            return _(' Put the app\'s label before the model, as in "example.IntegerValue".')
        if key in ("permissions", "permissions.*"):
            if value and "." not in value and (near := suggest(value, ["authenticated", "staff"])):
                return near
            return _(' Put the app\'s label before the codename, as in "blog.change_post".')
        if key in ("scope.*", "relate.*.*") and value in ("$user", "user", "$user.", "$user.id"):
            return _(" Write %(value)s.", value='"$user.pk"')
        if key in ("scope.*", "relate.*.*") and re.fullmatch(r"\$?(user\.)?[A-Za-z_]\w*", value):
            return _(" Write %(value)s.", value=f'"$user.{value.removeprefix("$").removeprefix("user.")}"')
    if key == "where.*" and isinstance(value, dict):
        return _(" Lookups are not supported: give the value itself, or a list of values.")
    if key in _SWITCHES and value in (0, 1):
        return _(" Write %(value)s.", value="true" if value else "false")
    return ""


def suggest(name: str, known: Sequence[str]) -> Sentence | str:
    """Return `` Did you mean 'x'?`` with the known name nearest to ``name``, or ``""`` if none is near."""
    folded: dict[str, str] = {}
    for candidate in known:
        folded.setdefault(candidate.lower(), candidate)
    near = get_close_matches(name.lower(), list(folded), n=1, cutoff=0.6)
    # "out" stands for "outbound", but is too short to count as near to it.
    near = near or [candidate for candidate in folded if len(name) > 1 and candidate.startswith(name.lower())]
    return did_you_mean(folded[near[0]]) if near else ""


def did_you_mean(name: str) -> Sentence:
    """Return the question, after a space, whether another name was meant."""
    return _(" Did you mean %(name)r?", name=name)


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
