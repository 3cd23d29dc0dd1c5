"""One answer: a cause, how sure it is, and its evidence."""

from __future__ import annotations

from dataclasses import dataclass, replace

from declbind.console.times import show_value

from .causes import Cause
from .certainty import Certainty


@dataclass(frozen=True)
class Answer:
    """One cause with its evidence: (description, value) pairs.

    ``connection`` is the connection that the answer is about, "" for none. ``advice`` is advice for this case, if it
    is more specific than the cause's. ``settle`` is empty for a certain answer. For a likely one it says what would
    settle it, and for one that cannot be told what is missing.
    """

    cause: Cause
    text: str
    evidence: tuple[tuple[str, object], ...] = ()
    connection: str = ""
    advice: str = ""
    certainty: Certainty = Certainty.CERTAIN
    settle: str = ""
    #: The action of the client's request that the answer is about, "" for none.
    request: str = ""

    @property
    def remedy(self) -> str:
        """Return the advice."""
        return self.advice or str(self.cause.value.remedy)

    @property
    def shown_evidence(self) -> list[tuple[str, str]]:
        """Return the evidence as text, all times in one format."""
        return [(what, show_value(value)) for what, value in self.evidence]

    def weaken(self, settle: str, certainty: Certainty = Certainty.LIKELY) -> Answer:
        """Return the answer with at most this certainty. ``settle`` is kept if it was given already."""
        if certainty.rank <= self.certainty.rank:
            return self if self.settle else replace(self, settle=settle)
        return replace(self, certainty=certainty, settle=self.settle or settle)

    def as_json(self) -> dict[str, object]:
        """Return the answer as JSON values."""
        return {
            "cause": self.cause.code,
            "certainty": self.certainty.value,
            "meaning": str(self.cause.value.title),
            "text": self.text,
            "evidence": [{"what": what, "value": value} for what, value in self.evidence],
            "settle": self.settle,
            "remedy": self.remedy,
            "connection": self.connection,
        }


def likely(cause: Cause, text: str, settle: str, *evidence: tuple[str, object], advice: str = "") -> Answer:
    """Return a likely answer."""
    return Answer(cause, text, evidence, advice=advice, certainty=Certainty.LIKELY, settle=settle)


def cannot_tell(cause: Cause, text: str, missing: str, *evidence: tuple[str, object], advice: str = "") -> Answer:
    """Return an answer that cannot be told, with what is missing."""
    return Answer(cause, text, evidence, advice=advice, certainty=Certainty.CANNOT_TELL, settle=missing)
