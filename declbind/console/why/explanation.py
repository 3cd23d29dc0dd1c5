"""The answers to a question, and the change that they are about."""

from __future__ import annotations

from dataclasses import dataclass, replace

from declbind.models import Event

from .causes import Answer, Cause
from .delivery import groups_of, offset_of
from .question import Question

#: Causes that come from reading the row, or from an exception that may quote it.
DISCLOSING = frozenset({Cause.OUTSIDE_WHERE, Cause.NO_GROUP, Cause.NOT_CAPTURED, Cause.BINDING_FAILED})
NOT_SHOWN = "The particulars are for those who may view the model."


@dataclass(frozen=True)
class Explanation:
    """The answers, the most relevant first, and the change that they are about, if there is one."""

    question: Question
    answers: tuple[Answer, ...]
    event: Event | None = None

    @property
    def has_arrived(self) -> bool:
        """Return whether a client in question received it, or was asked to take a snapshot instead."""
        causes = [answer.cause for answer in self.answers if answer.cause is not Cause.BULK_RESYNC]
        return causes[:1] == [Cause.SENT]

    def without_values(self) -> Explanation:
        """Return the answers without details of the row, which only users who may view it may read."""
        answers = tuple(
            replace(answer, text=NOT_SHOWN, evidence=()) if answer.cause in DISCLOSING else answer
            for answer in self.answers
        )
        return replace(self, answers=answers)

    def as_json(self) -> dict[str, object]:
        """Return the explanation as JSON values."""
        event = self.event
        return {
            "question": vars(self.question),
            "change": None
            if event is None
            else {"id": event.pk, "offset": offset_of(event), "at": event.created_at, "changes": groups_of(event)},
            "answers": [answer.as_json() for answer in self.answers],
        }
