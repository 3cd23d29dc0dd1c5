"""The two kinds of errors: configuration errors, which are raised, and client errors, which are answered."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from .sentences import Sentence

#: Every error code that a reply may carry. Clients switch on them, so codes are rarely added and never renamed.
CODES: Final = (
    "malformed",
    "too_large",
    "unknown_stream",
    "unknown_action",
    "closed_direction",
    "denied",
    "not_found",
    "invalid",
    "conflict",
    "rate_limited",
    "too_many_subscriptions",
    "internal",
)

_FIRST_KEY = re.compile(r"\$(?:\.([^.\[]+)|\[\"([^\"]+)\"\])")


@dataclass(frozen=True)
class Problem:
    """One problem of a binding record.

    ``path`` is a JSON path into the record (``$.groups[0]``; ``$`` is the record itself). ``sentence`` says in whole
    sentences what was expected, what was given and how to fix it.
    """

    path: str
    sentence: str | Sentence

    @property
    def message(self) -> str:
        """Return the sentence in the language of the reader."""
        return str(self.sentence)

    @property
    def key(self) -> str:
        """Return the record's key that the path leads into (``"groups"``), or ``""`` for the record as a whole."""
        match = _FIRST_KEY.match(self.path)
        return (match[1] or match[2]) if match else ""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class DeclbindError(Exception):
    """Base class of all declbind exceptions."""


class ConfigError(DeclbindError):
    """A mistake in the configuration, to be fixed by an operator or a developer.

    Takes the problems, or one sentence that becomes a problem of the whole record. ``problems`` is never empty.
    """

    problems: tuple[Problem, ...]

    def __init__(self, problems: Iterable[Problem] | str | Sentence) -> None:
        if isinstance(problems, str | Sentence):
            problems = [Problem("$", problems)]
        self.problems = tuple(problems)
        if not self.problems:
            raise ValueError("ConfigError needs at least one problem, got none: raise it only when there is one.")
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class ClientError(DeclbindError):
    """A refused client request. The message is sent to the client, so it must not disclose anything.

    ``code`` is one of :data:`CODES`. ``fields`` maps the name of a field to the problem with the value sent for it.
    """

    code: str
    message: str
    fields: dict[str, list[str]]

    def __init__(self, code: str, message: str, fields: Mapping[str, Iterable[str]] | None = None) -> None:
        if code not in CODES:
            raise ValueError(f"Expected an error code of {', '.join(CODES)}, got {code!r}.")
        self.code = code
        self.message = message
        self.fields = {name: list(messages) for name, messages in (fields or {}).items()}
        super().__init__(code, message, self.fields)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
