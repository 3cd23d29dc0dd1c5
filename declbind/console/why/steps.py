"""The next step after an answer: a page of the console and a command, with everything filled in."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Literal

from django.utils.translation import gettext

from .absence import ANONYMOUS
from .answer import Answer
from .causes import Cause
from .question import Question

Page = Literal["changelist", "live", "try", "connections", "processes", "doctor"]

#: What an operator looks at next, by cause.
_LOOKS: dict[Cause, str] = {
    Cause.NO_BINDING: "bindings",
    Cause.NOT_IN_FORCE: "binding",
    Cause.CLOSED_DIRECTION: "binding",
    Cause.NOT_CAPTURED: "capture",
    Cause.BULK_RESYNC: "traffic",
    Cause.OTHER_DATABASE: "capture",
    Cause.OTHER_MODEL: "bindings",
    Cause.WRONG_KEY: "traffic of the stream",
    Cause.UNKNOWN_USER: "connections of anyone",
    Cause.OPEN_TRANSACTION: "traffic",
    Cause.ROLLED_BACK: "traffic",
    Cause.BINDING_FAILED: "frame",
    Cause.NOTHING_MADE: "frame",
    Cause.OUTSIDE_WHERE: "frame",
    Cause.NO_GROUP: "frame",
    Cause.NOBODY_SUBSCRIBED: "connections of the stream",
    Cause.NOT_CONNECTED: "connections",
    Cause.NOT_SUBSCRIBED: "connections",
    Cause.NOT_MOUNTED: "doctor",
    Cause.NO_LOGIN: "doctor",
    Cause.NOT_THEIRS: "rights",
    Cause.REFUSED: "rights",
    Cause.WRITE_REFUSED: "write",
    Cause.REVOKED: "rights",
    Cause.KICKED: "connections",
    Cause.ORIGIN: "refusals",
    Cause.OVER_LIMIT: "refusals",
    Cause.OLD_VERSION: "processes",
    Cause.OLD_CODE: "processes",
    Cause.CLOCKS: "processes",
    Cause.NUMBERING_BLOCKED: "doctor",
    Cause.NOT_SEQUENCED: "doctor",
    Cause.PROCESS_BEHIND: "processes",
    Cause.PROCESS_LOST: "processes",
    Cause.TOO_SLOW: "connections",
    Cause.SENT: "traffic",
    Cause.HELD_BACK: "doctor",
    Cause.EXPIRED: "doctor",
    Cause.UNEXPLAINED: "traffic",
}


@dataclass(frozen=True)
class NextStep:
    """What to look at next: a page of the console with its query, and the command that shows the same."""

    words: str
    page: Page
    query: tuple[tuple[str, str], ...]
    command: str


def find_step(answer: Answer, question: Question) -> NextStep:
    """Return the next step after an answer."""
    stream, row, user = question.stream, question.row, question.user
    who = f" --user {shlex.quote(user)}" if user and user != ANONYMOUS else ""
    quoted, key = shlex.quote(stream), shlex.quote(row)
    write = answer.request or "update"
    steps: dict[str, tuple[str, Page, dict[str, str], str]] = {
        "bindings": (gettext("The list of bindings"), "changelist", {}, "list"),
        "binding": (
            gettext("The binding %(stream)s") % {"stream": stream}, "changelist", {"q": stream}, f"show {quoted}",
        ),
        "capture": (gettext("The doctor, which lists what is not captured"), "doctor", {}, "doctor"),
        "traffic": (
            gettext("Live traffic of this row"), "live", {"stream": stream, "row": row}, f"tail --stream {quoted}",
        ),
        "traffic of the stream": (
            gettext("Live traffic of the stream"), "live", {"stream": stream}, f"tail --stream {quoted}",
        ),
        "frame": (
            gettext("Try a change of this row"), "try", {"stream": stream, "row": row, "action": "outbound"},
            f"try {quoted} --action outbound" + (f" --pk {key}" if row else ""),
        ),
        "connections": (
            gettext("The connections of this user"), "connections", {"user": user, "state": "all"},
            f"connections --state all{who}",
        ),
        "connections of anyone": (gettext("The connections"), "connections", {}, "connections"),
        "connections of the stream": (
            gettext("The connections of this stream"), "connections", {"stream": stream},
            f"connections --stream {quoted}",
        ),
        "rights": (
            gettext("Try what this user sees"), "try", {"stream": stream, "row": row, "who": user, "action": "view"},
            f"try {quoted}{who}" + (f" --pk {key}" if row else ""),
        ),
        "write": (
            gettext("Try this request"), "try", {"stream": stream, "row": row, "who": user, "action": write},
            f"try {quoted}{who} --action {write}" + (f" --pk {key}" if row else ""),
        ),
        "refusals": (gettext("Refused requests and connections"), "live", {"only": "refused"}, "tail --refused"),
        "processes": (gettext("The processes"), "processes", {}, "processes"),
        "doctor": (gettext("The doctor"), "doctor", {}, "doctor"),
    }  # fmt: skip
    words, page, query, command = steps[_LOOKS[answer.cause]]
    given = tuple((name, value) for name, value in query.items() if value)
    return NextStep(words, page, given, f"manage.py declbind {command}")
