"""A plan as the import page shows it: each change with what it means, and what is against it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from admin_ui import documents
from declbind.console.consequences import Consequence
from declbind.console.output import format_line
from declbind.console.plan import Change, Plan

SHOWN_FAULTS = 100
#: A value that is no longer stands in one line.
LINE_LENGTH = 60


@dataclass(frozen=True)
class Row:
    """One change of a plan as the page shows it; ``denial`` says why this user may not make it, "" where they may."""

    change: Change
    consequences: Sequence[Consequence]
    denial: str

    @property
    def keys(self) -> list[tuple[str, str, str]]:
        """Return (key, old, new) as texts, "" for a value that is not given."""
        return [(key, _dump(old), _dump(new)) for key, old, new in self.change.differences]


def _dump(value: Any) -> str:
    """Write a value in one line where it is short."""
    if value is None:
        return ""
    line = format_line(value)
    return line if len(line) <= LINE_LENGTH else documents.dump(value)


def _printable(text: str) -> str:
    """Return a text that a page can hold: a faulty record may contain half a surrogate pair."""
    return text.encode(errors="backslashreplace").decode()


@dataclass(frozen=True)
class Review:
    """A plan, made readable for one user."""

    plan: Plan
    rows: Sequence[Row]

    @property
    def sound(self) -> list[Change]:
        """Return the changes of records without problems: what the others would change, it will not be that."""
        faulty = {fault.stream for fault in self.plan.faults}
        return [change for change in self.plan.changes if change.stream not in faulty]

    @property
    def counts(self) -> str:
        """Say how much of each kind there is."""
        counts = Counter(change.action for change in self.sound)
        return (
            f"{counts['add']} to add, {counts['change']} to change, {counts['remove']} to remove, "
            f"{counts['keep']} unchanged"
        )

    @property
    def unchanged(self) -> list[str]:
        """Return the streams that say the same already."""
        return [change.stream for change in self.sound if change.action == "keep"]

    @property
    def faults(self) -> list[tuple[str, str, str]]:
        """Return place, path and message of the first problems."""
        return [
            (fault.where, _printable(fault.problem.path), _printable(fault.problem.message))
            for fault in self.plan.faults[:SHOWN_FAULTS]
        ]

    @property
    def more_faults(self) -> int:
        """How many problems are not shown."""
        return max(0, len(self.plan.faults) - SHOWN_FAULTS)

    @property
    def is_denied(self) -> bool:
        """Whether this user may not make some change."""
        return any(row.denial for row in self.rows)

    @property
    def widens(self) -> bool:
        """Whether some change opens something."""
        return any(consequence.widens for row in self.rows for consequence in row.consequences)

    @property
    def may_apply(self) -> bool:
        """Whether there is something to do, and nothing against it."""
        return bool(self.plan.edits) and not self.plan.faults and not self.is_denied
