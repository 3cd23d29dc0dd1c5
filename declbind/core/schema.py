"""The published JSON Schemas, and the validation of a binding record against them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from .errors import ConfigError, Problem
from .groups import GroupTemplate, ambiguity_problems, template_problems
from .sentences import Sentence
from .sentences import Sentence as _
from .wording import EXPECTED, explain, instead_of, join_path, show

SchemaName = Literal["binding", "request", "event"]

_ALL_FIELDS: Final = "__all__"
_PACKAGE = Path(__file__).resolve().parent.parent
#: The schemas are inside an installed package, and at the top of a checkout.
_FOLDERS: Final = (_PACKAGE / "schemas", _PACKAGE.parent / "schemas")
_UNSTORABLE: Final = re.compile(r"[\x00\ud800-\udfff]")


class RepeatedKeys(dict[str, object]):
    """A JSON object that has the same key twice.

    JSON does not say which of the two counts, so the record is refused. The object is kept as a value of its own class,
    because only this record of the file is at fault. The others must go on working.
    """

    repeated: tuple[str, ...] = ()


@cache
def load_schema(name: SchemaName) -> dict[str, Any]:
    """Return a published schema, read from its file. All callers share one dict and must not change it."""
    for folder in _FOLDERS:
        path = folder / f"{name}.schema.json"
        if path.is_file():
            schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return schema
    searched = " or ".join(str(folder) for folder in _FOLDERS)
    raise ConfigError(f"Expected the schema {name}.schema.json in {searched}, found none. Install declbind again.")


def _match_pattern(_validator: object, pattern: str, instance: object, _schema: object) -> Iterator[ValidationError]:
    # In JSON Schema, "$" means the end of the text, as in ECMAScript. Python's "$" also matches before a final line
    # break, so "intval\n" would pass.
    if isinstance(instance, str) and not re.search(re.sub(r"\$\Z", r"\\Z", pattern), instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


_extend: Any = extend  # the stubs leave it untyped
_Validator: Final = _extend(Draft202012Validator, {"pattern": _match_pattern})


@cache
def validator(name: SchemaName) -> Any:
    """Return the validator of a published schema.

    It has ``iter_errors(instance)`` and ``is_valid(instance)``.
    """
    return _Validator(load_schema(name))


def problems(document: object) -> list[Problem]:
    """Return the problems of a binding record, in the order of the record.

    The published schema is applied first, then the rules that a schema cannot express: templates can be parsed and told
    apart, each contains the fields of the scope, and ``"__all__"`` stands alone. A tuple counts as a list, since
    records are written in Python too. Nothing is raised, whatever the document is.
    """
    try:
        document = _plain(document)
        found = list(_json_problems(document, "$"))
    except RecursionError:
        text = _("Expected %(expected)s, got one that is nested too deeply.", expected=EXPECTED["$"])
        return [Problem("$", text)]
    if not isinstance(document, dict):
        return found or [Problem("$", instead_of(EXPECTED["$"], show(document)))]
    if any(not isinstance(key, str) for key in document):
        return found
    for error in validator("binding").iter_errors(document):
        found.extend(explain(error))
    found.extend(_all_fields_problems(document))
    found.extend(_grow_problems(document))
    found.extend(_group_problems(document))
    order = {key: position for position, key in enumerate(load_schema("binding")["properties"])}
    unique = dict.fromkeys(found)
    return sorted(unique, key=lambda problem: order.get(problem.key, -1 if problem.path == "$" else len(order)))


def parse_documents(text: str, where: str) -> list[object]:
    """Return the records of a JSON file that holds one record or a list of them, without validating them.

    Faults of a single record (not an object, a repeated key, NaN) are reported by :func:`problems`.

    Args:
        text: The text of the file.
        where: The name of the file for messages.

    Raises:
        ConfigError: The text is not JSON, or holds something else. The message gives ``where``, line and column.
    """
    try:
        content = json.loads(text, object_pairs_hook=_build_object)
    except json.JSONDecodeError as error:
        mistake = _(
            "The JSON in %(where)s has a mistake at line %(line)s, column %(column)s: %(error)s.",
            where=where,
            line=error.lineno,
            column=error.colno,
            error=error.msg,
        )
        raise ConfigError(mistake + _json_fix(text, error)) from error
    except (RecursionError, ValueError) as error:
        said = str(error)
        raise ConfigError(
            _("Expected JSON in %(where)s, got something that cannot be read: %(error)s.", where=where, error=said)
        ) from error
    if isinstance(content, dict):
        return [content]
    if isinstance(content, list):
        return content
    raise ConfigError(
        _(
            "Expected one binding record or a list of them in %(where)s, got %(given)s.",
            where=where,
            given=show(content),
        )
    )


def _build_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    built = dict(pairs)
    if len(built) == len(pairs):
        return built
    names = [key for key, _value in pairs]
    marked = RepeatedKeys(built)
    marked.repeated = tuple(key for key in built if names.count(key) > 1)
    return marked


def _json_fix(text: str, error: json.JSONDecodeError) -> Sentence | str:
    before = text[: error.pos].rstrip()
    if not text.strip():
        return _(" The file is empty; write [] for no records.")
    if before.endswith(",") and text[error.pos : error.pos + 1] in "]}":
        return _(" Remove the comma before it.")
    if text[error.pos : error.pos + 1] == "'":
        return _(' Strings stand in double quotes: "name".')
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
    """Yield the values that JSON cannot hold, though Python can."""
    if isinstance(value, RepeatedKeys):
        for key in value.repeated:
            yield Problem(
                join_path(path, key),
                _("Expected each key once, got %(key)r more than once. Keep one of them.", key=key),
            )
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(key, str):
                yield from _json_problems(item, join_path(path, key))
            else:
                yield Problem(path, _("Expected keys that are strings, got %(key)s.", key=repr(key)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _json_problems(item, f"{path}[{index}]")
    elif isinstance(value, str) and (fault := _UNSTORABLE.search(value)):
        # A lone surrogate is not a character. PostgreSQL stores neither that nor NUL.
        yield Problem(
            path, _("Expected text that can be stored, got the character %(character)r. Remove it.", character=fault[0])
        )
    elif isinstance(value, float) and not math.isfinite(value):
        yield Problem(path, _("Expected a number that JSON can hold, got %(value)r.", value=value))


def _all_fields_problems(document: Mapping[str, object]) -> Iterator[Problem]:
    fields = document.get("fields")
    if isinstance(fields, list) and _ALL_FIELDS in fields and len(fields) > 1:
        yield Problem(
            "$.fields",
            _(
                'Expected "__all__" alone or a list of names, got both in %(given)s. Remove "__all__" or all other '
                "names.",
                given=show(fields),
            ),
        )
    for key in ("exclude", "writable", "sensitive"):
        names = document.get(key)
        if isinstance(names, list) and _ALL_FIELDS in names:
            position = names.index(_ALL_FIELDS)
            yield Problem(
                f"$.{key}[{position}]",
                _('Expected a field\'s name, got "__all__", which only "fields" understands. Name the fields.'),
            )


def _grow_problems(document: Mapping[str, object]) -> Iterator[Problem]:
    # Refused and not ignored, because the record would look as if it sent more than it does.
    fields = document.get("fields")
    if document.get("grow") is True and isinstance(fields, list) and _ALL_FIELDS not in fields:
        yield Problem(
            "$.grow",
            _(
                'Expected "grow" only with "fields": "__all__" or with "exclude", got it with a list of names: a list '
                'sends what it names and nothing else. Remove "grow".'
            ),
        )


def _group_problems(document: Mapping[str, object]) -> Iterator[Problem]:
    groups, scope = document.get("groups"), document.get("scope")
    scope_names = list(scope) if isinstance(scope, dict) else []
    if not groups:
        if scope_names:
            wanted = "-".join(f"{{{name}}}" for name in scope_names)
            yield Problem(
                "$.groups",
                _(
                    "Expected group templates that contain the scope's fields, got none: one group for all rows would "
                    'show each user the rows of the others. Add "groups": ["own-%(placeholders)s"].',
                    placeholders=wanted,
                ),
            )
        return
    if not isinstance(groups, list):
        return
    parsed: list[tuple[str, GroupTemplate]] = []
    for index, text in enumerate(groups):
        # The schema reports values that are not strings, and empty strings.
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
                _(
                    "Expected a template that contains the scope's fields, got %(template)r without %(names)s: its "
                    "group would show each user the rows of others. Write %(better)r.",
                    template=text,
                    names=", ".join(missing),
                    better=text + wanted,
                ),
            )
    yield from ambiguity_problems(parsed)
