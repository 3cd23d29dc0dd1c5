"""Everything that the modules of an inquiry share: the question, the binding, the row and its events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from declbind.bindings import Binding
from declbind.models import Event, Head
from declbind.outbound import log
from declbind.registry import get_registry

from .definitions import Definitions
from .events import Neighbours, find_event, find_neighbours, keys_of, oldest_kept
from .question import NEAR, Question
from .stored_row import Comparison, compare, load_row, row_groups


@dataclass
class Case:
    """One question with what is known about it. Each fact is read once, when it is first needed."""

    question: Question
    using: str
    binding: type[Binding] | None
    event: Event | None
    neighbours: Neighbours

    @classmethod
    def open(cls, question: Question, using: str) -> Case:
        """Read the event in question and its neighbours."""
        binding = get_registry().by_stream.get(question.stream)
        neighbours = find_neighbours(question.stream, keys_of(question.row, binding), question.at, using)
        if question.offset is not None:
            event = find_event(question, binding, using)
        else:
            event = neighbours.latest if question.at is None else neighbours.nearest(question.at)
        return cls(question, using, binding, event, neighbours)

    @property
    def at(self) -> datetime | None:
        """Return the time in question."""
        return self.question.at

    @property
    def is_named(self) -> bool:
        """Return whether the question names one change, so that no other can be meant."""
        return self.question.offset is not None

    @property
    def distance(self) -> timedelta | None:
        """Return how far the event lies from the time in question."""
        return None if self.at is None or self.event is None else abs(self.event.created_at - self.at)

    @property
    def is_near(self) -> bool:
        """Return whether the event is so near to the time that it is likely the one in question."""
        return self.distance is not None and self.distance <= NEAR

    @property
    def latest(self) -> Event | None:
        """Return the row's last event."""
        return self.neighbours.latest

    @cached_property
    def definitions(self) -> Definitions:
        """The past definitions of the stream; none for a binding of a file or a class, even if it once was a record."""
        entry = get_registry().entry(self.question.stream)
        if entry is not None and entry.source != "database":
            return Definitions()
        return Definitions.load(self.question.stream, self.using)

    @cached_property
    def row(self) -> Any | None:
        """The row as it is stored now."""
        return None if self.binding is None else load_row(self.binding, self.question.row, self.using)

    @cached_property
    def groups(self) -> list[str]:
        """The groups that the stored row is in."""
        if self.binding is None or self.row is None:
            return []
        return row_groups(self.binding(using=self.using), self.row)

    @cached_property
    def comparison(self) -> Comparison | None:
        """How the stored row differs from its last event."""
        if self.binding is None or self.row is None:
            return None
        return compare(self.binding, self.row, self.latest, self.definitions, self.using)

    @property
    def is_unchanged(self) -> bool:
        """Return whether the stored row is what was announced last."""
        return self.comparison is not None and not self.comparison.names

    @cached_property
    def head(self) -> log.HeadState:
        """The ends of the log."""
        return log.load_head(self.using)

    @cached_property
    def trimmed_until(self) -> datetime | None:
        """The time up to which the log was trimmed, ``None`` if it never was."""
        return Head.objects.using(self.using).values_list("trimmed_until", flat=True).filter(pk=1).first()

    @cached_property
    def oldest(self) -> datetime | None:
        """The time of the oldest event that is kept."""
        event = oldest_kept(self.using)
        return event.created_at if event is not None else None
