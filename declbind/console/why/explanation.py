"""The answers to a question, and the change that they are about."""

from __future__ import annotations

from dataclasses import dataclass, replace

from django.utils.translation import gettext_lazy as _

from declbind.models import Event

from .answer import Answer
from .causes import Cause
from .certainty import Certainty
from .events import groups_of, offset_of
from .question import Question
from .steps import find_step

#: Causes that come from reading the row, or from an exception that may quote it.
DISCLOSING = frozenset(
    {
        Cause.OUTSIDE_WHERE,
        Cause.NO_GROUP,
        Cause.NOT_CAPTURED,
        Cause.BINDING_FAILED,
        Cause.NOT_THEIRS,
        Cause.OTHER_DATABASE,
        Cause.OTHER_MODEL,
    }
)
NOT_SHOWN = _("The particulars are for those who may view the model.")
#: The exit status of ``manage.py declbind why``. Status 2 is that of a wrong command line.
ARRIVED, DID_NOT_ARRIVE, LIKELY, CANNOT_TELL = 0, 1, 3, 4


@dataclass(frozen=True)
class Explanation:
    """The answers, the most relevant first, and the change that they are about, if there is one.

    ``before`` and ``after`` are the row's nearest changes around the time in question.
    """

    question: Question
    answers: tuple[Answer, ...]
    event: Event | None = None
    before: Event | None = None
    after: Event | None = None

    @property
    def first(self) -> Answer | None:
        """Return the answer that decides: the first one that says more than that the row was part of a bulk event."""
        deciding = (answer for answer in self.answers if answer.cause is not Cause.BULK_RESYNC)
        return next(deciding, self.answers[0] if self.answers else None)

    @property
    def certainty(self) -> Certainty:
        """Return how sure the first answer is."""
        return self.first.certainty if self.first is not None else Certainty.CANNOT_TELL

    @property
    def has_arrived(self) -> bool:
        """Return whether a client in question, for all that is known, received it or was sent a ``resync`` instead."""
        return self.first is not None and self.first.cause is Cause.SENT

    @property
    def exit_status(self) -> int:
        """Return the exit status for a command: 0 and 1 are certain, 3 is likely, and 4 means that it cannot tell."""
        if self.certainty is Certainty.CERTAIN:
            return ARRIVED if self.has_arrived else DID_NOT_ARRIVE
        return LIKELY if self.certainty is Certainty.LIKELY else CANNOT_TELL

    def without_values(self) -> Explanation:
        """Return the answers without details of the row, which only users who may view it may read."""
        answers = tuple(
            replace(answer, text=str(NOT_SHOWN), evidence=()) if answer.cause in DISCLOSING else answer
            for answer in self.answers
        )
        return replace(self, answers=answers)

    def as_json(self) -> dict[str, object]:
        """Return the explanation as JSON values."""
        return {
            "question": vars(self.question),
            "certainty": self.certainty.value,
            "arrived": self.has_arrived,
            "change": _event_as_json(self.event),
            "before": _event_as_json(self.before),
            "after": _event_as_json(self.after),
            "answers": [
                {**answer.as_json(), "next": find_step(answer, self.question).command} for answer in self.answers
            ],
        }


def _event_as_json(event: Event | None) -> dict[str, object] | None:
    if event is None:
        return None
    return {"id": event.pk, "offset": offset_of(event), "at": event.created_at, "changes": groups_of(event)}
