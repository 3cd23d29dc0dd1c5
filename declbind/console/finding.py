"""One result of the doctor's examination."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "bad"]


@dataclass(frozen=True)
class Finding:
    """One result: "ok", "note" (worth knowing) or "bad", its meaning, and the remedy if it is not ok."""

    name: str
    level: Level
    meaning: str
    action: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong here."""
        return self.level != "bad"

    def as_json(self) -> dict[str, object]:
        """Return the finding as JSON values."""
        return {
            "name": self.name,
            "level": self.level,
            "ok": self.ok,
            "meaning": self.meaning,
            "action": self.action,
        }
