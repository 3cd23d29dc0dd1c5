"""Values that an operator types: a JSON object, or ``field = value`` lines."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NoReturn

from declbind.core.errors import ConfigError, Problem


def parse_values(text: str, where: str = "values") -> dict[str, object]:
    """Parse a JSON object, or ``field = value`` lines.

    Args:
        text: The text that the operator typed.
        where: The path that a problem reports.

    Raises:
        ConfigError: The text is neither.
    """
    if not text.strip():
        return {}
    if text.lstrip().startswith("{"):
        return parse_object(text, where)
    return parse_assignments((line for line in text.splitlines() if line.strip()), where)


def parse_object(text: str, where: str = "values") -> dict[str, object]:
    """Parse a JSON object. ``where`` is the path that a problem reports.

    Raises:
        ConfigError: The text is not a JSON object.
    """
    try:
        found = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise _problem(where, f"expected a JSON object, got one that cannot be read: {error}.") from error
    if not isinstance(found, dict):
        raise _problem(where, f"expected a JSON object, got {text.strip()!r:.60}.")
    return found


def parse_assignments(lines: Iterable[str], where: str = "values") -> dict[str, object]:
    """Return ``{field: value}``. A value is parsed as JSON if possible; otherwise it is text."""
    values: dict[str, object] = {}
    for line in lines:
        name, sign, value = line.partition("=")
        name = name.strip()
        if not sign or not name:
            raise _problem(where, f"expected 'field = value' in each line, got {line.strip()!r:.80}.")
        if name in values:
            raise _problem(where, f"the field {name!r} is given twice.")
        values[name] = parse_scalar(value)
    return values


def parse_scalar(text: str) -> object:
    """Return a JSON value, or the text itself if it is not JSON."""
    text = text.strip()
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def parse_key(text: str) -> object:
    """Return a row's key as a client would send it: an integer or text, or ``None`` for an empty text."""
    text = text.strip()
    if not text:
        return None
    is_number = text.isascii() and text.removeprefix("-").isdigit() and len(text) < 19 and str(int(text)) == text
    return int(text) if is_number else text


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _problem(where: str, text: str) -> ConfigError:
    return ConfigError([Problem("$", f"In {where}: {text}")])
