"""The table of the guests, stored only in docs/capture.md."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

from tests.servers import ROOT

from .roster import GUESTS, Guest, pinned_versions

PATH = ROOT / "docs" / "capture.md"
BEGIN, END = "<!-- guests: written by make guests -->", "<!-- guests end -->"
COLUMNS = ("Package", "Python and Django", "SQLite", "PostgreSQL", "Remark")
COMPLETED, FAILED, NOT_RUN = "completed", "failed", "not supported"


@dataclass(frozen=True)
class Row:
    """One guest; the fields are the columns."""

    packages: str
    end: str
    sqlite: str
    postgres: str
    remark: str


def row_of(guest: Guest, outcomes: dict[str, str]) -> Row:
    """Return the row of a guest; ``outcomes`` are by database."""
    versions = pinned_versions()
    return Row(
        ", ".join(f"{name} {versions[name]}" for name in guest.packages),
        guest.end.replace("/", ", "),
        outcomes.get("SQLite", NOT_RUN),
        outcomes.get("PostgreSQL", NOT_RUN),
        guest.remark,
    )


def expected_rows() -> list[Row]:
    """Return the table of a run in which every guest of the roster completed with the pinned versions."""
    return [row_of(guest, dict.fromkeys(guest.databases, COMPLETED)) for guest in GUESTS]


def parse(text: str) -> list[Row]:
    """Return the rows of the document.

    Raises:
        ValueError: The document has no such table.
    """
    found = re.search(f"{re.escape(BEGIN)}\n(.*?){re.escape(END)}", text, re.DOTALL)
    if found is None:
        raise ValueError(f"expected a table between {BEGIN!r} and {END!r}")
    lines = [line for line in found[1].splitlines() if line.startswith("|")]
    return [Row(*(cell.strip() for cell in line[1:-1].split("|"))) for line in lines[2:]]


def render(text: str, rows: Iterable[Row]) -> str:
    """Return the document with these rows in its table; `parse` is the inverse."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    lines += [f"| {' | '.join(astuple(row))} |" for row in rows]
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{tail}"


def write(rows: Iterable[Row], path: Path = PATH) -> None:
    """Put rows into the document."""
    path.write_text(render(path.read_text(), rows))
