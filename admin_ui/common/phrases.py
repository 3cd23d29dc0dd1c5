"""Problems of a record in an operator's words: the name of the input in place of a path, and no repeated stream."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from declbind.core.errors import Problem
from declbind.core.wording import without_binding

#: The names of a record's keys, as the form shows them.
LABELS: Final[Mapping[str, str]] = {
    "stream": "Stream",
    "model": "Model",
    "fields": "What is sent",
    "exclude": "Fields that are left out",
    "groups": "Groups",
    "permissions": "Who may",
    "direction": "Direction",
    "writable": "Fields that clients may change",
    "where": "Only rows where",
    "scope": "Own rows only",
    "relate": "Related rows",
    "grow": "Include later fields",
    "auto_subscribe": "Subscribe new connections",
    "sensitive": "Sensitive fields",
    "serializer": "Serializer",
    "capture": "Changes that are noticed",
    "also": "Send again when these change",
    "retention": "Delete sent values after",
    "enabled": "Enabled",
    "description": "Description",
}
_ACTIONS: Final = {"view": "see rows", "create": "add rows", "update": "change rows", "delete": "delete rows"}
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[(\"(?:[^\"\\]|\\.)*\")\]")
_WORD = re.compile(r"[^\W\d_A-Z][^\W\d_A-Z]*[ ,]")


def describe_place(path: str) -> str:
    """Return the name of a place in a record, such as "Groups, line 2" for ``$.groups[1]``; "" for the whole record.

    An unknown key is named as it is written.
    """
    steps = [name or number or quoted for name, number, quoted in _STEP.findall(path.removeprefix("$"))]
    if not steps:
        return ""
    first, rest = steps[0], steps[1:]
    if first == "permissions" and rest and rest[0] in _ACTIONS:
        return f"Who may {_ACTIONS[rest[0]]}"
    words = [LABELS.get(first, first), *(f"line {int(step) + 1}" if step.isdigit() else step for step in rest)]
    return ", ".join(words)


def describe_problem(problem: Problem) -> str:
    """Return a problem for its own input: where in the input it is, and the message."""
    place = describe_place(problem.path)
    key = next(iter(_STEP.findall(problem.path.removeprefix("$"))), ("", "", ""))[0]
    inside = place.removeprefix(LABELS.get(key, key)).removeprefix(", ") if key != "permissions" else place
    message = plain_message(problem)
    if inside.startswith("line "):
        inside = inside.capitalize()
    return f"{inside}: {message}" if inside else message


def plain_message(problem: Problem) -> str:
    """Return the message of a problem without the stream, which the page names already."""
    message = problem.message
    plain = without_binding(message)
    return f"{plain[0].upper()}{plain[1:]}" if plain != message and _WORD.match(plain) else plain


def split_problem(key: str, text: str) -> Problem:
    """Return a message of ``full_clean`` as a problem with its path."""
    path, colon, message = text.partition(": ")
    if colon and path.startswith("$"):
        return Problem(path, message)
    return Problem(f"$.{key}" if not key.startswith("__") else "$", text)


def mark_code(text: str) -> SafeString:
    """Return a text as HTML, with text between backticks as code."""
    parts = enumerate(text.split("`"))
    return format_html_join(
        "", "{}", ((format_html("<code>{}</code>", part) if at % 2 else part,) for at, part in parts)
    )
