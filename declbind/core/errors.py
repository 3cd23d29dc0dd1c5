"""The two ways in which something can be wrong: by us, raised, or by a client, answered."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

#: Every error code that a reply may carry. Clients switch on them, so one is added rarely and never renamed.
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
    """Name one thing that is wrong with a binding record.

    ``path`` is a JSON path into the record (``$.groups[0]``; ``$`` is the record itself). ``message`` is
    whole sentences that say what was expected, what came, and what probably mends it.
    """

    path: str
    message: str

    @property
    def key(self) -> str:
        """The record's key that the path leads into (``"groups"``), or ``""`` for the record as a whole."""
        match = _FIRST_KEY.match(self.path)
        return (match[1] or match[2]) if match else ""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class DeclbindError(Exception):
    """Be the root of everything that declbind raises on purpose."""


class ConfigError(DeclbindError):
    """Report a mistake in the configuration, which somebody on our side of the socket has to mend.

    Takes the problems, or one sentence that becomes a problem of the whole record. ``problems`` is never
    empty.
    """

    problems: tuple[Problem, ...]

    def __init__(self, problems: Iterable[Problem] | str) -> None:
        if isinstance(problems, str):
            problems = [Problem("$", problems)]
        self.problems = tuple(problems)
        if not self.problems:
            raise ValueError("ConfigError needs at least one problem, got none: raise it only when there is one.")
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class ClientError(DeclbindError):
    """Refuse a client's request; what is said here is sent back to that client, so it must give nothing away.

    ``code`` is one of :data:`CODES`. ``fields`` maps a field's name to what is wrong with the value sent for
    it.
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
