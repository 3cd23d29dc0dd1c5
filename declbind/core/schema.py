"""The published JSON Schemas, and the first judgement of a binding record: its shape."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from .errors import ConfigError, Problem
from .groups import GroupTemplate, ambiguity_problems, template_problems

SchemaName = Literal["binding", "request", "event"]

_ALL_FIELDS: Final = "__all__"
_PACKAGE = Path(__file__).resolve().parent.parent
#: An installed package carries the schemas inside; in a checkout they lie at the top, where people look for them.
_FOLDERS: Final = (_PACKAGE / "schemas", _PACKAGE.parent / "schemas")

_NAMES = "a list of field names"
_RULE = 'a codename like "blog.change_post", true (anyone) or false (nobody)'
#: What belongs at a place of the record, for "Expected ..., got ...". Indexes are left out of the place.
_EXPECTED: Final[Mapping[str, str]] = {
    "$": "a binding record, which is a JSON object",
    "$.$schema": "the address of the schema",
    "$.stream": "1 to 64 letters, digits, '.', '_' or '-', the first a letter or a digit",
    "$.model": 'a model as "app_label.ModelName"',
    "$.fields": f'{_NAMES} or "__all__"',
    "$.exclude": _NAMES,
    "$.groups": 'a list of group templates like "room-{room_id}"',
    "$.groups[]": 'a group template like "room-{room_id}"',
    "$.permissions": 'an object like {"view": true, "update": "blog.change_post"}, or one codename',
    "$.permissions.*": _RULE,
    "$.direction": '"both", "outbound" or "inbound"',
    "$.writable": _NAMES,
    "$.where": 'an object like {"published": true}',
    "$.where.*": "a string, a number, true, false, null, or a list of such values",
    "$.where.*[]": "a string, a number, true or false",
    "$.scope": 'an object like {"owner_id": "$user.pk"}',
    "$.scope.*": '"$user.pk" or "$user.<field>"',
    "$.auto_subscribe": "true or false",
    "$.sensitive": _NAMES,
    "$.serializer": 'the name of a serializer, such as "default"',
    "$.enabled": "true or false",
    "$.description": "text",
}
_LISTS: Final = frozenset({"fields", "exclude", "groups", "writable", "sensitive"})


class RepeatedKeys(dict[str, Any]):
    """Be a JSON object that named a key twice.

    JSON leaves open which of the two counts, so the record is refused; as a value of its own, because only the one
    record of a file is to blame and the others must go on working.
    """

    repeated: tuple[str, ...] = ()


@cache
def load_schema(name: SchemaName) -> dict[str, Any]:
    """Read a published schema from its file; the same dict for every caller, not to be changed."""
    for folder in _FOLDERS:
        path = folder / f"{name}.schema.json"
        if path.is_file():
            schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return schema
    searched = " or ".join(str(folder) for folder in _FOLDERS)
    raise ConfigError(
        f"Expected the schema {name}.schema.json in {searched}, found none. Install declbind again."
    )


def _match_pattern(
    _validator: Any, pattern: str, instance: object, _schema: Any
) -> Iterator[ValidationError]:
    # JSON Schema means ECMAScript's "$", the very end. Python's lets a line break follow, so "intval\n" would pass.
    if isinstance(instance, str) and not re.search(re.sub(r"\$\Z", r"\\Z", pattern), instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


_Validator: Final = extend(Draft202012Validator, {"pattern": _match_pattern})


@cache
def validator(name: SchemaName) -> Any:
    """Return the validator of a published schema, with ``iter_errors(instance)`` and ``is_valid(instance)``."""
    return _Validator(load_schema(name))


def problems(document: object) -> list[Problem]:
    """Judge the shape of a binding record; return what is wrong with it, in the order of the record.

    Asks the published schema, then what a schema cannot say: that templates can be parsed and told apart, that each
    contains the scope's fields, that ``"__all__"`` stands alone. A tuple counts as a list, since records are written in
    Python too. Never raises, whatever it is given.
    """
    try:
        document = _plain(document)
        found = list(_json_problems(document, "$"))
    except RecursionError:
        return [Problem("$", f"Expected {_EXPECTED['$']}, got one that is nested far too deep.")]
    if not isinstance(document, dict):
        return found or [Problem("$", f"Expected {_EXPECTED['$']}, got {_show(document)}.")]
    if any(not isinstance(key, str) for key in document):
        return found
    for error in validator("binding").iter_errors(document):
        found.extend(_explain(error, document))
    found.extend(_all_fields_problems(document))
    found.extend(_group_problems(document))
    order = {key: position for position, key in enumerate(load_schema("binding")["properties"])}
    unique = dict.fromkeys(found)
    return sorted(
        unique, key=lambda problem: order.get(problem.key, -1 if problem.path == "$" else len(order))
    )


def parse_documents(text: str, where: str) -> list[Any]:
    """Read the text of a JSON file that holds one record or a list of them, and return the records unjudged.

    Raises ConfigError, naming ``where`` with line and column, when the text is no JSON or holds something else. What is
    wrong with a single record (not an object, a key twice, NaN) is left for :func:`problems` to say of that record.
    """
    try:
        content = json.loads(text, object_pairs_hook=_build_object)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"Expected JSON in {where}, got a fault in line {error.lineno}, column {error.colno}: {error.msg}."
            f"{_json_fix(text, error)}"
        ) from error
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"Expected JSON in {where}, got something that cannot be read: {error}.") from error
    if isinstance(content, dict):
        return [content]
    if isinstance(content, list):
        return content
    raise ConfigError(f"Expected one binding record or a list of them in {where}, got {_show(content)}.")


def suggest(name: str, known: Sequence[str]) -> str:
    """Return `` Did you mean 'x'?`` with the known name nearest to ``name``, or ``""`` where none is near."""
    folded: dict[str, str] = {}
    for candidate in known:
        folded.setdefault(candidate.lower(), candidate)
    near = get_close_matches(name.lower(), list(folded), n=1, cutoff=0.6)
    # "out" is meant for "outbound", though too short to count as near to it.
    near = near or [candidate for candidate in folded if len(name) > 1 and candidate.startswith(name.lower())]
    return f" Did you mean {folded[near[0]]!r}?" if near else ""


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) == len(pairs):
        return built
    names = [key for key, _ in pairs]
    marked = RepeatedKeys(built)
    marked.repeated = tuple(key for key in built if names.count(key) > 1)
    return marked


def _json_fix(text: str, error: json.JSONDecodeError) -> str:
    before = text[: error.pos].rstrip()
    if not text.strip():
        return " The file is empty; write [] for no records."
    if before.endswith(",") and text[error.pos : error.pos + 1] in "]}":
        return " Remove the comma before it."
    if text[error.pos : error.pos + 1] == "'":
        return ' Strings stand in double quotes: "name".'
    return ""


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, RepeatedKeys):
        return value
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _json_problems(value: object, path: str) -> Iterator[Problem]:
    """Yield what no JSON file should hold, though Python would let it pass."""
    if isinstance(value, RepeatedKeys):
        for key in value.repeated:
            yield Problem(
                _join(path, key), f"Expected each key once, got {key!r} more than once. Keep one of them."
            )
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(key, str):
                yield from _json_problems(item, _join(path, key))
            else:
                yield Problem(path, f"Expected keys that are strings, got {key!r}.")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _json_problems(item, f"{path}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield Problem(path, f"Expected a number that JSON can hold, got {value!r}.")


def _explain(error: ValidationError, document: Mapping[str, Any]) -> Iterator[Problem]:
    """Say in our own words what jsonschema found: it knows the rule that was broken, not what an operator should do."""
    steps = list(error.absolute_path)
    path, value, rule = _path(steps), error.instance, error.validator
    if rule == "anyOf" and (inner := _fitting_errors(error)):
        for one in inner:
            yield from _explain(one, document)
    elif rule == "additionalProperties":
        known = list(error.schema["properties"])
        owner = "an action" if steps else "a key of a binding record"
        for key in value:
            if key not in known:
                near = suggest(key, [name for name in known if name not in value])
                fix = near or f" Known are {', '.join(name for name in known if name != '$schema')}."
                yield Problem(_join(path, key), f"Expected {owner}, got the unknown key {key!r}.{fix}")
    elif rule == "required":
        for key in error.validator_value:
            if key not in value:
                yield Problem(f"$.{key}", f"Expected {_EXPECTED[f'$.{key}']}, got nothing. {_example(key)}")
    elif rule == "oneOf":
        if "fields" in value:
            what = 'got both. Remove "exclude" to send only the fields named, or "fields" to send all but the excluded'
        else:
            what = f'got neither. {_example("fields")[:-1]}, or "exclude"'
        yield Problem("$.fields", f'Expected exactly one of "fields" and "exclude", {what}.')
    elif "propertyNames" in error.absolute_schema_path:
        yield Problem(path, f"Expected field names as keys, got {_show(value)}.")
    elif rule == "uniqueItems":
        twice = next(item for position, item in enumerate(value) if item in value[:position])
        yield Problem(
            path, f"Expected each entry once, got {_show(twice)} more than once. Remove the repetition."
        )
    else:
        place = _place(steps)
        expected = _EXPECTED.get(place, "a field's name")
        yield Problem(path, f"Expected {expected}, got {_show(value)}.{_fix(place, value)}")


def _fitting_errors(error: ValidationError) -> list[ValidationError]:
    """Return the errors of the one alternative that the value was plainly meant to be, or nothing."""
    if not isinstance(error.instance, (list, dict)):
        return []
    branches: dict[Any, list[ValidationError]] = {}
    for inner in error.context or ():
        branches.setdefault(inner.relative_schema_path[0], []).append(inner)
    for errors in branches.values():
        if not any(inner.validator in ("type", "const") and not inner.relative_path for inner in errors):
            return errors
    return []


def _fix(place: str, value: object) -> str:
    """Guess what was meant, as a sentence with a space before it; ``""`` where a guess would be bold."""
    key = place[2:]
    if isinstance(value, str):
        if key in _LISTS and value:
            return f" Write {json.dumps([value])}."
        if key in ("auto_subscribe", "enabled", "permissions.*") and value.lower() in ("true", "false"):
            return f" Write {value.lower()} without quotes."
        if key == "direction":
            return suggest(value, ["both", "outbound", "inbound"])
        if key == "stream" and (tidy := re.sub(r"[^A-Za-z0-9._-]+", "-", value).strip("._-")[:64]):
            return f" Perhaps {tidy!r}."
        if key == "model":
            return ' Put the app\'s label before the model, as in "example.IntegerValue".'
        if key in ("permissions", "permissions.*"):
            return ' Put the app\'s label before the codename, as in "blog.change_post".'
        if key == "scope.*" and re.fullmatch(r"\$?(user\.)?[A-Za-z_]\w*", value):
            return f' Write "$user.{value.removeprefix("$").removeprefix("user.")}".'
    if key == "where.*" and isinstance(value, dict):
        return " Lookups are not supported: give the value itself, or a list of values."
    if key == "where.*[]" and value is None:
        return " A list cannot hold null; null alone can stand for the field."
    if key in ("auto_subscribe", "enabled") and value in (0, 1):
        return f" Write {'true' if value else 'false'}."
    return ""


def _all_fields_problems(document: Mapping[str, Any]) -> Iterator[Problem]:
    fields = document.get("fields")
    if isinstance(fields, list) and _ALL_FIELDS in fields and len(fields) > 1:
        yield Problem(
            "$.fields",
            f'Expected "{_ALL_FIELDS}" alone or a list of names, got both in {_show(fields)}. Remove "{_ALL_FIELDS}", '
            "or everything else.",
        )
    for key in ("exclude", "writable", "sensitive"):
        names = document.get(key)
        if isinstance(names, list) and _ALL_FIELDS in names:
            position = names.index(_ALL_FIELDS)
            yield Problem(
                f"$.{key}[{position}]",
                f'Expected a field\'s name, got "{_ALL_FIELDS}", which only "fields" understands. Name the fields.',
            )


def _group_problems(document: Mapping[str, Any]) -> Iterator[Problem]:
    groups, scope = document.get("groups"), document.get("scope")
    scope_names = list(scope) if isinstance(scope, dict) else []
    if not groups:
        if scope_names:
            wanted = "-".join(f"{{{name}}}" for name in scope_names)
            yield Problem(
                "$.groups",
                f"Expected group templates that contain the scope's fields, got none: one group for all rows would show "
                f'each user the rows of the others. Add "groups": ["own-{wanted}"].',
            )
        return
    if not isinstance(groups, list):
        return
    parsed: list[tuple[str, GroupTemplate]] = []
    for index, text in enumerate(groups):
        # The schema speaks of what is no string, or an empty one.
        if not isinstance(text, str) or not text:
            continue
        path = f"$.groups[{index}]"
        faults = template_problems(text, path)
        yield from faults
        if faults:
            continue
        template = GroupTemplate.parse(text, path)
        if text not in groups[:index]:
            parsed.append((path, template))
        missing = [name for name in scope_names if name not in template.placeholders]
        if missing:
            wanted = "".join(f"-{{{name}}}" for name in missing)
            yield Problem(
                path,
                f"Expected a template that contains the scope's fields, got {text!r} without {', '.join(missing)}: its "
                f"group would show each user the rows of others. Write {text + wanted!r}.",
            )
    yield from ambiguity_problems(parsed)


def _example(key: str) -> str:
    example = load_schema("binding")["properties"][key]["examples"][0]
    return f'Add "{key}": {json.dumps(example)}.'


def _show(value: object) -> str:
    """Write a value as JSON would, since a record is JSON to whoever reads the message, and cut what is long."""
    try:
        text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 120 else f"{text[:117]}..."


def _join(path: str, key: str) -> str:
    plain = re.fullmatch(r"[^\s.\[\]\"]+", key)
    return f"{path}.{key}" if plain else f"{path}[{json.dumps(key, ensure_ascii=False)}]"


def _path(steps: Sequence[str | int]) -> str:
    path = "$"
    for step in steps:
        path = f"{path}[{step}]" if isinstance(step, int) else _join(path, step)
    return path


def _place(steps: Sequence[str | int]) -> str:
    place = "$"
    for depth, step in enumerate(steps):
        place += "[]" if isinstance(step, int) else f".{step}" if depth == 0 else ".*"
    return place
