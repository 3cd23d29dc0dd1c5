"""Values that an operator types: a JSON object, or ``field = value`` lines."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NoReturn

from django.utils.translation import gettext

from declbind.core.errors import ConfigError


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
        said = gettext("In %(where)s: expected a JSON object, got one that cannot be read: %(error)s.")
        raise ConfigError(said % {"where": where, "error": error}) from error
    if not isinstance(found, dict):
        said = gettext("In %(where)s: expected a JSON object, got %(given)s.")
        raise ConfigError(said % {"where": where, "given": f"{text.strip()!r:.60}"})
    return found


def parse_assignments(lines: Iterable[str], where: str = "values") -> dict[str, object]:
    """Return ``{field: value}``. A value is parsed as JSON if possible; otherwise it is text."""
    values: dict[str, object] = {}
    for line in lines:
        name, sign, value = line.partition("=")
        name = name.strip()
        if not sign or not name:
            text = gettext("In %(where)s: expected 'field = value' in each line, got %(given)s.")
            raise ConfigError(text % {"where": where, "given": f"{line.strip()!r:.80}"})
        if name in values:
            text = gettext("In %(where)s: the field %(field)r is given twice.")
            raise ConfigError(text % {"where": where, "field": name})
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
