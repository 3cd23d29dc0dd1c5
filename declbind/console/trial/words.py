"""The phrases of a trial, and the whole trial as text for a ticket."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from declbind.core.course import Check

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise as Text

    from .answer import Trial

OK, REFUSED, SKIPPED, NOTE = "ok", "refused", "skipped", "note"

#: The actions that can be tried, in an operator's words.
ACTIONS: Final[Mapping[str, Text]] = {
    "view": _("sees rows (subscribes)"),
    "create": _("creates a row"),
    "update": _("changes a row"),
    "delete": _("deletes a row"),
    "outbound": _("a row changes: what is sent"),
    "outbound-create": _("a row is created: what is sent"),
    "outbound-delete": _("a row is deleted: what is sent"),
}
#: What is said of groups and rows instead of a text that contains values.
WITHOUT_VALUES: Final[Mapping[Check, Text]] = {
    Check.GROUP: _("The params select a group."),
    Check.GROUPS: _("Not shown, because the names of the groups contain values of the row."),
    Check.ROW: _("The row is in the group."),
}
TITLES: Final[Mapping[Check, Text]] = {
    Check.BINDINGS: _("Bindings"),
    Check.BINDING: _("Binding found"),
    Check.REQUEST: _("Request readable"),
    Check.WHO: _("User"),
    Check.DIRECTION: _("Direction open"),
    Check.PERMISSION: _("Permission"),
    Check.FIELDS: _("Fields accepted"),
    Check.SCOPE: _("Own rows only"),
    Check.GROUP: _("Group"),
    Check.ROW: _("Row visible"),
    Check.VALUES: _("Values valid"),
    Check.STORE: _("Stored"),
    Check.INSIDE: _("Stays in scope"),
    Check.GROUPS: _("Groups before and after"),
    Check.FRAMES: _("Frames"),
    Check.SECRETS: _("Withheld secrets"),
    Check.CONNECTIONS: _("Connections that receive them"),
}
SIGNS: Final[Mapping[str, Text | str]] = {OK: _("ok"), REFUSED: _("REFUSED"), SKIPPED: "-", NOTE: _("note")}
#: The directions of a stream, for a step that passed and for one that was refused.
OPEN: Final[Mapping[str, Text]] = {
    "both": _("Open both ways."),
    "outbound": _("Open only to clients."),
    "inbound": _("Open only from clients."),
}
CLOSED: Final[Mapping[str, Text]] = {
    "both": _("The stream is open both ways."),
    "outbound": _("The stream is open only to clients."),
    "inbound": _("The stream is open only from clients."),
}
#: What is said of a step that passed, for those that need no values.
PASSED: Final[Mapping[Check, Text]] = {
    Check.REQUEST: _("The request can be read."),
    Check.ROW: _("The row exists for this user."),
    Check.VALUES: _("The values are valid."),
    Check.INSIDE: _("The row stays within what this stream covers."),
}


def hidden_group() -> str:
    """Return what replaces the name of a group that contains values of a row."""
    return gettext("(not shown)")


def write_ticket(trial: Trial) -> Iterator[str]:
    """Yield the lines of a whole trial as plain text."""
    question = trial.question
    yield _headline(trial)
    for title, given in ((gettext("values"), question.values), (gettext("params"), question.params)):
        if given:
            yield f"  {title}: {json.dumps(given, ensure_ascii=False, default=str)}"
    width = max((len(step.title) for step in trial.steps), default=0)
    for step in trial.steps:
        yield f"{SIGNS[step.verdict]!s:<8} {step.title:<{width}}  {step.text}"
    if trial.answer:
        yield gettext("Answer: %(frame)s") % {"frame": trial.answer}
    for frame in trial.frames:
        yield gettext("Frame: %(frame)s") % {"frame": frame.text}
    names = [
        listener.username or gettext("anonymous") for each in trial.listening for listener in each.audience.listeners
    ]
    if names:
        yield gettext("Received by: %(names)s") % {"names": ", ".join(dict.fromkeys(names))}
    if trial.rows is not None:
        yield trial.rows.words()
        for row in trial.rows.shown:
            yield f"  {json.dumps(row.pk)}: {json.dumps(row.data, ensure_ascii=False)}"
    if trial.viewers is not None:
        yield trial.viewers.words()
    for part in trial.parts:
        end = part.refusal
        yield f"{SIGNS[part.verdict]!s:<8} {part.question.stream}{f': {end.title}: {end.text}' if end else ''}"


def _headline(trial: Trial) -> str:
    question = trial.question
    stream = question.stream or gettext("(every binding)")
    asked = [f"{trial.user}: {ACTIONS[question.action]}", gettext("stream %(stream)s") % {"stream": stream}]
    if question.pk is not None:
        asked.append(gettext("row %(key)s") % {"key": question.pk})
    asked.append(gettext("configuration: %(configuration)s") % {"configuration": question.configuration_text})
    return gettext("Try it: %(question)s") % {"question": ", ".join(asked)}
