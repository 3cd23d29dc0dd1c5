"""The wording for the parts of a binding record in descriptions of an edit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from declbind.core.wording import AUDIENCE_WORDS

#: What each action allows, as a text that follows "may".
DEEDS = {"view": "subscribe", "create": "create rows", "update": "change rows", "delete": "delete rows"}

CAPTURES_ALL = "also captures raw SQL and other programs, once its triggers are installed"


def retention_in_words(seconds: int | None) -> str:
    """Return in words how long the log keeps values; ``None`` means the setting."""
    return "as long as the settings say" if seconds is None else f"for {seconds} s"


def any_of(names: Sequence[str]) -> str:
    """Return names as alternatives. There must be at least one."""
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def audience_in_words(rule: str | bool) -> str:
    """Return in words whom a permission rule admits."""
    return AUDIENCE_WORDS.get(rule) or f"users with the permission {rule}"


def values_as_json(value: object) -> list[str]:
    """Return the values of a condition as JSON, because Python treats 1 and true as equal."""
    return [json.dumps(item) for item in (value if isinstance(value, tuple) else (value,))]


def condition_in_words(name: str, values: Sequence[str]) -> str:
    """Return a condition of ``where`` in words."""
    return f"{name} is {' or '.join(values)}"


def related_in_words(rule: str | Mapping[str, str]) -> str:
    """Return in words which related rows a rule of ``relate`` allows clients to choose."""
    if isinstance(rule, str):
        return "any row"
    return "rows whose " + " and ".join(f"{name} is {source}" for name, source in rule.items())
