"""The definitions that a stream had in the past, from the revisions of its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from declbind.models import BindingRevision

Definition = Mapping[str, Any]

#: Keys of a record that determine the data of an event, and those that determine its groups.
MAKING = ("model", "fields", "exclude", "serializer", "sensitive", "grow")
PLACING = ("model", "groups", "where", "scope")
#: The number of revisions that are read.
MAX_REVISIONS = 500


@dataclass(frozen=True)
class Definitions:
    """The revisions of one stream, newest first; none for a binding of a file or a class."""

    revisions: tuple[BindingRevision, ...] = ()

    @classmethod
    def load(cls, stream: str, using: str) -> Definitions:
        """Load the revisions. Takes one query."""
        rows = BindingRevision.objects.using(using).filter(stream=stream).order_by("-id")
        return cls(tuple(rows[:MAX_REVISIONS]))

    @property
    def are_whole(self) -> bool:
        """Return whether the first revision is among them."""
        return len(self.revisions) < MAX_REVISIONS

    def at(self, moment: datetime) -> BindingRevision | None:
        """Return the revision in force at a moment; ``None`` if there was none yet."""
        return next((revision for revision in self.revisions if revision.created_at <= moment), None)

    def in_version(self, version: int) -> BindingRevision | None:
        """Return the revision in force at a version of the configuration; ``None`` if there was none yet."""
        return next((revision for revision in self.revisions if revision.version <= version), None)

    def has_changed_since(self, version: int, keys: tuple[str, ...]) -> bool:
        """Return whether one of the keys was edited after a version of the configuration."""
        later = [revision.definition for revision in self.revisions if revision.version > version]
        then = self.in_version(version)
        if not later:
            return False
        first = then.definition if then is not None else None
        return any(_choose(one, keys) != _choose(first, keys) for one in later if one is not None) or first is None

    def off_since(self, moment: datetime | None) -> tuple[BindingRevision, BindingRevision | None] | None:
        """Return the last time after a moment at which the binding was off: its begin, and its end if it is over.

        ``None`` as the moment stands for the beginning.
        """
        end = None
        for revision in self.revisions:
            if not is_in_force(revision):
                return None if end is not None and moment is not None and end.created_at < moment else (revision, end)
            if moment is not None and revision.created_at < moment:
                return None
            end = revision
        return None

    def edges_near(self, since: datetime, until: datetime) -> list[BindingRevision]:
        """Return the revisions that were made in a period."""
        return [revision for revision in self.revisions if since <= revision.created_at <= until]

    def has_moved_since(self, moment: datetime | None, keys: tuple[str, ...]) -> bool:
        """Return whether one of the keys was edited after a moment; ``None`` stands for the first definition."""
        then = self.revisions[-1] if moment is None and self.revisions else self.at(moment) if moment else None
        return then is not None and self.has_changed_since(then.version, keys)

    def before(self, revision: BindingRevision) -> BindingRevision | None:
        """Return the revision that an edit replaced."""
        older = [one for one in self.revisions if one.pk < revision.pk]
        return older[0] if older else None


def is_in_force(revision: BindingRevision) -> bool:
    """Return whether a revision sends anything."""
    definition = revision.definition
    return definition is not None and definition.get("enabled", True)


def _choose(definition: Definition | None, keys: tuple[str, ...]) -> list[Any]:
    return [] if definition is None else [definition.get(key) for key in keys]
