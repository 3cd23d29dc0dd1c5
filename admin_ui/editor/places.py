"""The place in a JSON text that a problem refers to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]  # the stubs leave it out

from declbind.core.errors import Problem
from declbind.core.wording import join_path

_BLANKS = re.compile(r"[ \t\r\n]*")
_BARE = re.compile(r"[^\s,\]}]*")
#: How many lines an excerpt shows before and after the faulty one.
_AROUND = 1
_LONGEST_LINE = 160


@dataclass(frozen=True)
class ExcerptLine:
    """One line of the text with its number; ``is_meant`` marks the faulty one."""

    number: int
    text: str
    is_meant: bool


@dataclass(frozen=True)
class Placed:
    """A problem with its line and column, both counted from 1, and an excerpt of the text around it, if any."""

    problem: Problem
    line: int
    column: int
    excerpt: tuple[ExcerptLine, ...]


def place_problems(problems: Iterable[Problem], text: str) -> list[Placed]:
    """Locate each problem where its path begins in the text, or at the nearest known path; never raises.

    In a text that is not JSON, all of them are at the position where parsing failed.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return [_place(problem, text, error.pos) for problem in problems]
    except (RecursionError, ValueError):
        return [_place(problem, text, 0) for problem in problems]
    positions = find_paths(text)
    return [_place(problem, text, _nearest(problem.path, positions)) for problem in problems]


def find_paths(text: str) -> dict[str, int]:
    """Return where each path of a JSON text begins: a member at its key, the last one of duplicates."""
    found = {"$": _BLANKS.match(text, 0).end()}  # type: ignore[union-attr]
    try:
        _scan(text, found["$"], "$", found)
    except RecursionError:
        return {"$": found["$"]}
    return found


def _scan(text: str, at: int, path: str, found: dict[str, int]) -> int:
    """Record the paths below a value at a position of valid JSON; return where the value ends."""
    opening = text[at]
    if opening == '"':
        return int(scanstring(text, at + 1, True)[1])
    if opening not in "{[":
        return _BARE.match(text, at).end()  # type: ignore[union-attr]
    index = 0
    at = _skip(text, at + 1)
    while text[at] not in "}]":
        if opening == "{":
            key, end = scanstring(text, at + 1, True)
            below = join_path(path, key)
            found[below] = at
            # Skip the colon.
            at = _skip(text, _skip(text, end) + 1)
        else:
            below = f"{path}[{index}]"
            found[below] = at
            index += 1
        at = _skip(text, _scan(text, at, below, found))
        if text[at] == ",":
            at = _skip(text, at + 1)
    return at + 1


def _skip(text: str, at: int) -> int:
    return _BLANKS.match(text, at).end()  # type: ignore[union-attr]


def _nearest(path: str, positions: dict[str, int]) -> int:
    """Return the position of the longest known path that leads to the wanted one; a missing key has none."""
    leading = [known for known in positions if path == known or path.startswith((f"{known}.", f"{known}["))]
    return positions[max(leading, key=len, default="$")]


def _place(problem: Problem, text: str, at: int) -> Placed:
    line = text.count("\n", 0, at) + 1
    column = at - text.rfind("\n", 0, at)
    lines = text.split("\n") if text else []
    first = max(0, line - 1 - _AROUND)
    excerpt = tuple(
        ExcerptLine(number, shown[:_LONGEST_LINE], number == line)
        for number, shown in enumerate(lines[first : line + _AROUND], first + 1)
    )
    return Placed(problem, line, column, excerpt)
