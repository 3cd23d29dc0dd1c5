"""The closed list of reasons why a frame arrived or did not, each with its meaning and advice."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True)
class Meaning:
    """The meaning of a cause, as a sentence without particulars, and the advice; "" for no advice."""

    title: str
    remedy: str = ""


class Cause(Enum):
    """A reason why a frame arrived or did not."""

    NO_BINDING = Meaning(
        "No binding has this stream, so nothing could be sent.",
        "Bind the model under this stream, or look for the stream's right name in the list.",
    )
    NOT_IN_FORCE = Meaning(
        "The binding was disabled or invalid, so nothing was sent.",
        "Enable it, or correct what its page says is wrong.",
    )
    CLOSED_DIRECTION = Meaning(
        "The binding only accepts changes from clients and sends none.",
        "Open its direction if clients should receive changes.",
    )
    NOT_CAPTURED = Meaning(
        "The row was written in a way that the binding does not capture.",
        "Write the row through the ORM, or announce it with declbind.touch().",
    )
    BULK_RESYNC = Meaning(
        "The row was one of many: its groups were asked to take a snapshot, and the rows were not sent singly.",
        "Nothing, if the client takes a snapshot after a `resync`. To send more rows one by one, raise "
        "DECLBIND['BULK_LIMIT'].",
    )
    ROLLED_BACK = Meaning(
        "Nothing was committed: the write was rolled back, or it changed nothing.",
        "Check whether the request or task that wrote the row failed.",
    )
    BINDING_FAILED = Meaning(
        "The binding failed while the write was captured.", "Fix the error named above, then save the row again."
    )
    OUTSIDE_WHERE = Meaning(
        "The row does not match the binding's conditions, so for clients it does not exist.",
        "Change the row, or the binding's 'Only rows where'.",
    )
    NO_GROUP = Meaning(
        "A field that the group names need is empty, so the row is in no group and is not sent.",
        "Fill in the field, or add a group template without it.",
    )
    NOBODY_SUBSCRIBED = Meaning("Nobody was subscribed to the groups of this change.")
    NOT_CONNECTED = Meaning(
        "The user was not connected then.", "Let the client reconnect; it resumes from its last offset."
    )
    NOT_SUBSCRIBED = Meaning(
        "The user was connected and not subscribed to a group of this change.",
        "Compare the groups of the change with those that the client subscribes to.",
    )
    REFUSED = Meaning(
        "The subscription was refused.", "Grant the permission that the rule requires, or change the rule."
    )
    REVOKED = Meaning(
        "The permission was revoked before this change.", "Grant it again, and let the client subscribe again."
    )
    KICKED = Meaning("An operator had disconnected the client.", "Check the admin's log, or lift the block.")
    ORIGIN = Meaning(
        "A connection was refused because of the page that it came from.",
        "Add the page's origin to DECLBIND['ALLOWED_ORIGINS'] if it is yours.",
    )
    OVER_LIMIT = Meaning(
        "The client was over a limit.", "Let it send fewer requests, or raise the limit in the settings."
    )
    OLD_VERSION = Meaning(
        "A process still used an older configuration; subscribers were asked to take a snapshot.",
        "Nothing: this ends by itself. If it does not, find the process that still uses the older configuration.",
    )
    NOT_SEQUENCED = Meaning(
        "The change is stored and has no number yet, so it cannot be sent.",
        "Run an ASGI process or `manage.py declbind relay`, which number the log.",
    )
    PROCESS_BEHIND = Meaning(
        "The client's process has not reached this change yet.", "Check the lag and the last error of the process."
    )
    PROCESS_LOST = Meaning(
        "The client's process ended unexpectedly.", "Let the client reconnect; it resumes from its last offset."
    )
    TOO_SLOW = Meaning(
        "The client read too slowly: its queue overflowed, and the connection was closed with 4408.",
        "Let the client reconnect; it resumes. Find out what keeps it from reading.",
    )
    SENT = Meaning("It was sent.")
    HELD_BACK = Meaning(
        "Values that look like secrets were sent as null.",
        "Take them out of the code of the binding, or name them in 'sensitive' if they are to be sent.",
    )
    EXPIRED = Meaning(
        "The change is older than the log, so nothing is known about it any more.",
        "Raise DECLBIND['RETENTION_SECONDS'] if you need a longer history.",
    )

    @property
    def code(self) -> str:
        """Return the name for machines."""
        return self.name.lower()


@dataclass(frozen=True)
class Answer:
    """One cause with its evidence: (description, value) pairs.

    ``connection`` is the connection that the answer is about, "" for none. ``advice`` is advice for this case, if it
    is more specific than the cause's.
    """

    cause: Cause
    text: str
    evidence: tuple[tuple[str, object], ...] = ()
    connection: str = ""
    advice: str = ""

    @property
    def remedy(self) -> str:
        """Return the advice."""
        return self.advice or self.cause.value.remedy

    def as_json(self) -> dict[str, object]:
        """Return the answer as JSON values."""
        return {
            "cause": self.cause.code,
            "meaning": self.cause.value.title,
            "text": self.text,
            "evidence": [{"what": what, "value": value} for what, value in self.evidence],
            "remedy": self.remedy,
            "connection": self.connection,
        }
