"""The closed list of reasons why a frame arrived or did not, each with what it means and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


@dataclass(frozen=True)
class Meaning:
    """What a cause means, in a sentence without the particulars, and what to do about it; "" for nothing."""

    title: str
    remedy: str = ""


class Cause(Enum):
    """Why something arrived or did not."""

    NO_BINDING = Meaning(
        "No binding has this stream, so nothing could be sent.",
        "Bind the model under this stream, or look for the stream's right name in the list.",
    )
    NOT_IN_FORCE = Meaning(
        "The binding was disabled or invalid, so nothing was sent.",
        "Enable it, or correct what its page says is wrong.",
    )
    CLOSED_DIRECTION = Meaning(
        "The binding only takes changes from clients and sends none.", "Open its direction if clients should hear."
    )
    NOT_CAPTURED = Meaning(
        "The row was written in a way that the binding does not see.",
        "Write the row through the ORM, or announce it with declbind.touch().",
    )
    TOLD_IN_BULK = Meaning(
        "The row was one of many: its groups were told to take a snapshot, and nothing was said of single rows.",
        "Nothing, if the client takes a snapshot when it is told to resync. To have more rows told one by one, raise "
        "DECLBIND['BULK_LIMIT'].",
    )
    ROLLED_BACK = Meaning(
        "Nothing was committed: the write was rolled back, or it changed nothing.",
        "Look whether the request or task that wrote the row failed.",
    )
    BINDING_FAILED = Meaning(
        "The binding failed while the write was captured.", "Correct the fault that is named, then save the row again."
    )
    OUTSIDE_WHERE = Meaning(
        "The row lies outside of what the binding covers, so for clients it does not exist.",
        "Change the row, or the binding's 'Only rows where'.",
    )
    NO_GROUP = Meaning(
        "A field that the groups are named by is empty, so the row is in no group and nobody hears of it.",
        "Fill the field, or add a group template that does without it.",
    )
    NOBODY_SUBSCRIBED = Meaning("Nobody was subscribed to the groups of this change.")
    NOT_CONNECTED = Meaning(
        "The user was not connected then.", "Have the client connect again; it catches up from where it was."
    )
    NOT_SUBSCRIBED = Meaning(
        "The user was connected and not subscribed to a group of this change.",
        "Compare the groups of the change with those that the client asks for.",
    )
    REFUSED = Meaning("The subscription was refused.", "Grant the right that the rule asks for, or change the rule.")
    REVOKED = Meaning(
        "The right was taken back before this change.", "Grant it again, and have the client subscribe again."
    )
    KICKED = Meaning("An operator had disconnected the client.", "Look into the admin's log, or lift the block.")
    ORIGIN = Meaning(
        "A connection was refused because of the page that it came from.",
        "Add the page's origin to DECLBIND['ALLOWED_ORIGINS'] if it is yours.",
    )
    OVER_LIMIT = Meaning("The client was over a limit.", "Have it ask for less, or raise the limit in the settings.")
    OLD_VERSION = Meaning(
        "Some process still followed an older configuration; subscribers were told to look anew.",
        "Nothing: it is over by itself. If it is not, see which process stays behind.",
    )
    NOT_SEQUENCED = Meaning(
        "The change is stored and has no number yet, so nobody can have it.",
        "Run an ASGI process or `manage.py declbind relay`, which number the log.",
    )
    PROCESS_BEHIND = Meaning(
        "The client's process has not come to this change yet.", "Look at the process: its lag and its last error."
    )
    PROCESS_LOST = Meaning(
        "The client's process ended without a word.", "Have the client connect again; it catches up from where it was."
    )
    TOO_SLOW = Meaning(
        "The client read too slowly: its queue overran, and the connection was closed with 4408.",
        "Have the client connect again; it catches up. Look at what keeps it from reading.",
    )
    SENT = Meaning("It was sent.")
    HELD_BACK = Meaning(
        "Values that look like secrets were sent as null.",
        "Take them out of the code of the binding, or name them in 'sensitive' if they are to be sent.",
    )
    EXPIRED = Meaning(
        "The change is older than what the log keeps, so nothing can be said of it any more.",
        "Raise DECLBIND['RETENTION_SECONDS'] if you have to look further back.",
    )

    @property
    def code(self) -> str:
        """The name for machines."""
        return self.name.lower()


@dataclass(frozen=True)
class Answer:
    """One cause with its evidence: (what, value) pairs; ``connection`` is whose answer it is, "" for nobody's.

    ``advice`` is what to do in this case, where more is known than what to do about such a cause.
    """

    cause: Cause
    text: str
    evidence: tuple[tuple[str, Any], ...] = ()
    connection: str = ""
    advice: str = ""

    @property
    def remedy(self) -> str:
        """What to do."""
        return self.advice or self.cause.value.remedy

    def as_json(self) -> dict[str, Any]:
        """Return what a machine reads."""
        return {
            "cause": self.cause.code,
            "meaning": self.cause.value.title,
            "text": self.text,
            "evidence": [{"what": what, "value": value} for what, value in self.evidence],
            "remedy": self.remedy,
            "connection": self.connection,
        }
