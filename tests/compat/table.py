"""The table of the runs, stored only in `docs/compatibility.md`.

A row is keyed by group, set-up, Python and Django. A run replaces the rows of the cells that it ran and keeps the
rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from tests.servers import ROOT

PATH = ROOT / "docs" / "compatibility.md"
COMPLETED, FAILED = "completed", "failed"

INTRODUCTION = """\
# Compatibility

Every row was filled by a run of `make compat`; nothing here is written by hand. A run starts the set-up for real and
drives three clients through one course. Its steps are save, delete, `update()`, bulk writes, many-to-many fields, raw
SQL, rollbacks, writes from a client, the console's answers, a reader that pauses in a snapshot of 40 000 rows, a killed
server and a resume, a permission taken away, an edit of the record, a logout, and an orderly shutdown. Each frame is
compared with what was written. *completed* means that every step went as it must.

[Deployment](deployment.md) says how each server, database and proxy is configured. What is not in this table has not
been run, such as MySQL and Oracle.
"""

HEADINGS = {
    "versions": "Python and Django",
    "server": "ASGI servers",
    "database": "Databases and drivers",
    "sessions": "Session stores",
    "layer": "Channel layers",
    "project": "Projects",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One run of one cell. The fields are the columns, except for the group, which is a heading."""

    group: str
    setup: str
    packages: str
    database: str
    python: str
    django: str
    result: str
    date: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Return the key by which a later run replaces the row; patch releases are not part of it."""
        return self.group, self.setup, minor(self.python), minor(self.django)


COLUMNS = ("Set-up", "Packages", "Database", "Python", "Django", "Result", "Date")


def minor(version: str) -> str:
    """Return `3.13` of `3.13.0`."""
    return ".".join(version.split(".")[:2])


def parse(text: str) -> list[Row]:
    """Return the rows of the document.

    Raises:
        ValueError: A line of a table is invalid.
    """
    groups = {heading: group for group, heading in HEADINGS.items()}
    rows: list[Row] = []
    group = ""
    for line in text.splitlines():
        if line.startswith("## "):
            group = groups[line.removeprefix("## ")]
        elif line.startswith("| ") and not line.startswith(f"| {COLUMNS[0]} |"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if len(cells) != len(COLUMNS):
                raise ValueError(f"expected {len(COLUMNS)} columns, got {len(cells)} in {line!r}")
            rows.append(Row(group, *cells))
    return rows


def render(rows: Iterable[Row]) -> str:
    """Return the document; `parse` is its inverse."""
    rows = list(rows)
    parts = [INTRODUCTION]
    for group, heading in HEADINGS.items():
        chosen = [row for row in rows if row.group == group]
        if chosen:
            lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
            lines += [f"| {' | '.join(astuple(row)[1:])} |" for row in chosen]
            parts.append(f"## {heading}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def merge(old: Iterable[Row], new: Iterable[Row], setups: Sequence[tuple[str, str]]) -> list[Row]:
    """Return the rows, with those of a new run replacing old ones.

    ``setups`` are the existing (group, set-up) pairs, in the order of the table; rows of others are dropped.
    """
    merged = {row.key: row for row in [*old, *new]}
    order = {setup: number for number, setup in enumerate(setups)}
    kept = [row for row in merged.values() if (row.group, row.setup) in order]
    return sorted(kept, key=lambda row: (order[row.group, row.setup], row.key))


def load(path: Path = PATH) -> list[Row]:
    """Return the rows of the stored table."""
    return parse(path.read_text()) if path.exists() else []
