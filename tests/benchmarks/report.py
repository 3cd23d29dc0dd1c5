"""Figures as aligned tables: a column for each contender, a line for each figure, then the goals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .contenders import DECLBIND, LABELS, POLLING

LABEL_WIDTH = 40
COLUMN_WIDTH = 15


@dataclass(frozen=True)
class Tally:
    """The frames of one or more runs. Too many are as wrong as too few; `closed` counts disconnected clients."""

    delivered: int
    expected: int
    lost: int
    closed: int = 0

    @property
    def counts(self) -> bool:
        """Return whether the figures of these runs count."""
        return not self.lost


@dataclass(frozen=True)
class Figure:
    """One number. If frames of its run were lost it does not count, and is printed in brackets."""

    value: float
    counts: bool = True

    def __str__(self) -> str:
        size = abs(self.value)
        text = f"{self.value:,.0f}" if size >= 100 else f"{self.value:,.1f}" if size >= 10 else f"{self.value:,.2f}"
        return text if self.counts else f"({text})"

    def over(self, other: Figure | None) -> Figure | None:
        """Return the ratio of this to the other; ``None`` if there is nothing to compare with."""
        if other is None or not other.value:
            return None
        return Figure(self.value / other.value, self.counts and other.counts)


@dataclass(frozen=True)
class Goal:
    """The goal for a figure of declbind. `note` says why there is no figure."""

    label: str
    figure: Figure | None
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def state(self) -> str:
        if self.figure is None:
            return self.note or "nothing to compare with"
        if not self.figure.counts:
            return "does not count"
        high = self.at_least is None or self.figure.value >= self.at_least
        low = self.at_most is None or self.figure.value <= self.at_most
        return "met" if high and low else "MISSED"

    def __str__(self) -> str:
        bound = f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"
        return f"  {self.label:<66} {self.figure or '-'!s:>9}   goal {bound}: {self.state}"


@dataclass
class Section:
    """The result of one measurement: rows of cells by contender, frame counts by contender, goals."""

    heading: str
    rows: list[tuple[str, Mapping[str, Figure | str]]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lost: int = 0

    def add(self, label: str, cells: Mapping[str, Figure | str]) -> None:
        self.rows.append((label, cells))

    def tally(self, tallies: Mapping[str, Tally]) -> None:
        """Add a row of delivered and expected frames, with a clear notice of losses."""
        self.add("delivered", {name: f"{tally.delivered:,}" for name, tally in tallies.items()})
        self.add("expected", {name: f"{tally.expected:,}" for name, tally in tallies.items()})
        for name, tally in tallies.items():
            if tally.delivered > tally.expected:
                self.notes.append(f"{LABELS[name]}: {tally.delivered - tally.expected:,} FRAMES TOO MANY")
            elif tally.lost:
                share = 100 * tally.lost / max(tally.expected, 1)
                self.notes.append(f"{LABELS[name]}: LOST {tally.lost:,} FRAMES ({share:.1f} %)")
            if tally.closed:
                self.notes.append(f"{LABELS[name]}: {tally.closed} connections closed by the server")
            if name in (DECLBIND, POLLING):
                self.lost += tally.lost

    def __str__(self) -> str:
        columns = list(dict.fromkeys(name for _, cells in self.rows for name in cells))
        lines = ["", self.heading, "-" * len(self.heading)]
        lines.append(_line("", [LABELS[name] for name in columns]))
        lines += [_line(label, [str(cells.get(name, "")) for name in columns]) for label, cells in self.rows]
        lines += [f"  !! {note}: does not count" for note in self.notes]
        return "\n".join([*lines, *map(str, self.goals)])


def _line(label: str, cells: Sequence[str]) -> str:
    return f"  {label:<{LABEL_WIDTH - 2}}" + "".join(f"{cell:>{COLUMN_WIDTH}}" for cell in cells)


def best(figures: Iterable[Figure | None]) -> Figure | None:
    """Return the highest figure that counts."""
    return max(
        (figure for figure in figures if figure and figure.counts), key=lambda figure: figure.value, default=None
    )
