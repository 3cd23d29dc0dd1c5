"""Problems of a record in an operator's words: the name of the input in place of a path, and no repeated stream."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from declbind.core.errors import Problem
from declbind.core.wording import without_binding

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

#: A text, or one that is translated when it is shown.
StrOrPromise: TypeAlias = "str | _StrPromise"
#: The names of a record's keys, as the form shows them.
LABELS: Final[Mapping[str, StrOrPromise]] = {
    "stream": gettext_lazy("Stream"),
    "model": gettext_lazy("Model"),
    "fields": gettext_lazy("What is sent"),
    "exclude": gettext_lazy("Fields that are left out"),
    "groups": gettext_lazy("Groups"),
    "permissions": gettext_lazy("Who may"),
    "direction": gettext_lazy("Direction"),
    "writable": gettext_lazy("Fields that clients may change"),
    "where": gettext_lazy("Only rows where"),
    "scope": gettext_lazy("Own rows only"),
    "relate": gettext_lazy("Related rows"),
    "grow": gettext_lazy("Include later fields"),
    "auto_subscribe": gettext_lazy("Subscribe new connections"),
    "sensitive": gettext_lazy("Sensitive fields"),
    "serializer": gettext_lazy("Serializer"),
    "capture": gettext_lazy("Changes that are noticed"),
    "also": gettext_lazy("Send again when these change"),
    "retention": gettext_lazy("Delete sent values after"),
    "enabled": gettext_lazy("Enabled"),
    "description": gettext_lazy("Description"),
}
_WHO_MAY: Final[Mapping[str, StrOrPromise]] = {
    "view": gettext_lazy("Who may see rows"),
    "create": gettext_lazy("Who may add rows"),
    "update": gettext_lazy("Who may change rows"),
    "delete": gettext_lazy("Who may delete rows"),
}
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
    if first == "permissions" and rest and rest[0] in _WHO_MAY:
        return str(_WHO_MAY[rest[0]])
    return ", ".join([str(LABELS.get(first, first)), *map(_describe_step, rest)])


def _describe_step(step: str) -> str:
    """Return one step below a key in words: a line of a list, or a name as it is written."""
    return _("line {number}").format(number=int(step) + 1) if step.isdigit() else step


def describe_problem(problem: Problem) -> str:
    """Return a problem for its own input: where in the input it is, and the message."""
    place = describe_place(problem.path)
    steps = _STEP.findall(problem.path.removeprefix("$"))
    key = next(iter(steps), ("", "", ""))[0]
    inside = place.removeprefix(str(LABELS.get(key, key))).removeprefix(", ") if key != "permissions" else place
    message = plain_message(problem)
    if len(steps) > 1 and steps[1][1]:
        inside = capfirst(inside)
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
