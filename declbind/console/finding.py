"""One result of the doctor's examination."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from django.utils.translation import gettext_lazy as _

Level = Literal["ok", "note", "bad"]


TITLES: Final = {
    "SQLite journal": _("SQLite journal"),
    "SQLite transactions": _("SQLite transactions"),
    "application": _("application"),
    "binding": _("binding"),
    "bindings": _("bindings"),
    "capture": _("capture"),
    "channel layer": _("channel layer"),
    "classes": _("classes"),
    "code": _("code"),
    "database": _("database"),
    "debug": _("debug"),
    "errors": _("errors"),
    "files": _("files"),
    "log": _("log"),
    "migrations": _("migrations"),
    "processes": _("processes"),
    "secrets": _("secrets"),
    "sequencer": _("sequencer"),
    "server": _("server"),
    "settings": _("settings"),
    "snapshots": _("snapshots"),
}


#: The age from which an event without a number, or a process on an old version, counts as a fault.
PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Finding:
    """One result: "ok", "note" (worth knowing) or "bad", its meaning, and the remedy if it is not ok."""

    name: str
    level: Level
    meaning: str
    action: str = ""

    @property
    def title(self) -> str:
        """What was examined, in words. ``name`` is the same for programs."""
        return str(TITLES.get(self.name, self.name))

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
