"""Print figures as an aligned table: declbind, the hand-written consumer, their ratio, and the goal beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

LABEL_WIDTH = 46
COLUMN_WIDTH = 20


@dataclass(frozen=True)
class Goal:
    """What the ratio declbind : hand-written should be."""

    at_least: float | None = None
    below: float | None = None

    def is_met(self, ratio: float) -> bool:
        return (self.at_least is None or ratio >= self.at_least) and (self.below is None or ratio < self.below)

    def __str__(self) -> str:
        return f">= {self.at_least:g}" if self.at_least is not None else f"< {self.below:g}"


@dataclass(frozen=True)
class Tally:
    """Frames of one or more runs. More delivered than expected is as wrong as less; `closed` counts dropped clients."""

    delivered: int
    expected: int
    lost: int
    closed: int = 0

    def __str__(self) -> str:
        return f"{self.delivered:,}/{self.expected:,}"


@dataclass(frozen=True)
class Row:
    """One line. `counts` is false where a frame was lost: the figures are shown, their ratio is not."""

    label: str
    ours: float | str = ""
    theirs: float | str = ""
    goal: Goal | None = None
    counts: bool = True
    base: float | None = None
    note: str = ""
    lost: int = 0
    level: int = 2

    @classmethod
    def heading(cls, label: str) -> Self:
        return cls(label, level=0)

    @classmethod
    def subheading(cls, label: str) -> Self:
        return cls(label, level=1)

    @classmethod
    def frames(cls, ours: Tally, theirs: Tally) -> Self:
        """Return a row of delivered and expected frames that is loud about a loss."""
        notes = []
        for name, tally in (("declbind", ours), ("hand-written", theirs)):
            if tally.delivered > tally.expected:
                notes.append(
                    f"!! {name} DELIVERED {tally.delivered - tally.expected:,} FRAMES TOO MANY: does not count"
                )
            elif tally.lost:
                share = 100 * tally.lost / tally.expected
                notes.append(f"!! {name} LOST {tally.lost:,} FRAMES ({share:.1f} %): does not count")
            if tally.closed:
                notes.append(f"!! {name}: {tally.closed} connections closed by the server")
        return cls("delivered of expected frames", str(ours), str(theirs), note="; ".join(notes), lost=ours.lost)

    @property
    def ratio(self) -> float | None:
        if not self.counts or isinstance(self.ours, str) or isinstance(self.theirs, str) or not self.theirs:
            return None
        return self.ours / self.theirs

    def __str__(self) -> str:
        if self.level == 0:
            return f"\n{self.label}\n{'-' * len(self.label)}"
        if self.level == 1:
            return f"  {self.label}"
        columns = [self._shown(self.ours), self._shown(self.theirs)]
        ratio = self.ratio
        columns.append("" if ratio is None else f"{ratio:.3g}")
        line = f"    {self.label:<{LABEL_WIDTH - 4}}" + "".join(
            f"{text:>{width}}" for text, width in zip(columns, (COLUMN_WIDTH, COLUMN_WIDTH, 10), strict=True)
        )
        if self.goal is not None:
            state = "does not count" if ratio is None else "met" if self.goal.is_met(ratio) else "MISSED"
            line += f"   {f'{self.goal}: {state}'}"
        return f"{line}\n    {self.note}" if self.note else line

    def _shown(self, value: float | str) -> str:
        if isinstance(value, str):
            return value
        text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}"
        return f"{text} ({value / self.base:.2f}x)" if self.base else text


def header() -> str:
    """Return the line that names the columns."""
    names = "".join(
        f"{name:>{width}}"
        for name, width in (("declbind", COLUMN_WIDTH), ("hand-written", COLUMN_WIDTH), ("ratio", 10))
    )
    return f"{'':<{LABEL_WIDTH}}{names}   goal"
