"""The question and the result of a trial as values. ``attempt`` computes the result."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from django.utils.translation import gettext, pgettext

from declbind.console.audience import Audience
from declbind.console.visibility import Viewers, VisibleRows
from declbind.core.course import Check
from declbind.core.errors import ClientError
from declbind.core.frames import encode_reply

from .words import ACTIONS, NOTE, OK, REFUSED, SIGNS, TITLES, WITHOUT_VALUES, hidden_group

#: Other names of actions.
ALIASES: Final = {"subscribe": "view", "outbound-update": "outbound"}
INBOUND: Final = frozenset({"create", "update", "delete"})


@dataclass(frozen=True)
class Question:
    """The question of a trial: who may do what, or what would be sent.

    ``who`` is a user's name or key, or "" for an anonymous visitor. ``stream`` "" means every binding in force.
    ``action`` is one of ``ACTIONS``. If ``params`` is ``None``, the params of a subscription are derived from the row
    ``pk``. ``document`` (an edited record) or ``revision`` (the key of a ``BindingRevision``) replaces the active
    definition of the stream. With ``as_if_enabled``, a disabled definition is tried as if it were enabled. Writes of
    clients are only checked unless ``carry_out`` is set; then they are carried out and rolled back. With ``wide``, the
    result includes the other users who see the row.
    """

    who: str = ""
    stream: str = ""
    action: str = "view"
    pk: object = None
    values: Mapping[str, object] = field(default_factory=dict)
    params: Mapping[str, object] | None = None
    document: Mapping[str, object] | None = None
    revision: int | None = None
    as_if_enabled: bool = False
    carry_out: bool = False
    wide: bool = True

    @property
    def is_inbound(self) -> bool:
        """Whether a client's write is tried."""
        return self.action in INBOUND

    @property
    def is_outbound(self) -> bool:
        """Whether the question is what a change of a row sends, whoever makes the change."""
        return self.action.startswith("outbound")

    def as_json(self) -> dict[str, object]:
        """Return the question as JSON values."""
        return {
            "who": self.who,
            "stream": self.stream,
            "action": self.action,
            "pk": self.pk,
            "values": dict(self.values),
            "params": None if self.params is None else dict(self.params),
            "configuration": self.configuration,
            "as_if_enabled": self.as_if_enabled,
            "carry_out": self.carry_out,
        }

    @property
    def configuration(self) -> str:
        """The tried definition, for programs."""
        if self.document is not None:
            return "edited record"
        return "active" if self.revision is None else f"revision {self.revision}"

    @property
    def configuration_text(self) -> str:
        """The tried definition, in words."""
        if self.document is not None:
            return gettext("edited record")
        if self.revision is None:
            return pgettext("configuration", "active")
        return gettext("revision %(key)s") % {"key": self.revision}


@dataclass(frozen=True)
class Step:
    """One check: its verdict, the reason, and the evidence. ``evidence`` contains no values of rows."""

    name: Check
    verdict: str
    text: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The check, in words."""
        return str(TITLES[self.name])


@dataclass(frozen=True)
class Frame:
    """One frame that would be sent.

    ``text`` is the form for explicit subscriptions, ``plain`` the form for automatic ones. A resync has no ``plain``
    form. ``model`` is the lower-case label of the model whose values the frame carries. ``offset`` is the next number
    of the log, which the event gets if no other event precedes it. If ``is_shape`` is set, the values were removed.
    """

    stream: str
    model: str
    group: str
    action: str
    offset: int
    text: str
    plain: str
    is_shape: bool = False


@dataclass(frozen=True)
class Listening:
    """The present subscribers who would receive the frames of one stream."""

    stream: str
    audience: Audience


@dataclass(frozen=True)
class Trial:
    """The result of a trial.

    ``reply`` is the content of the reply to the client, ``error`` the refusal, and ``answer`` the frame of either.
    ``parts`` are the trials of each binding if the question was about all.
    """

    question: Question
    user: str
    steps: tuple[Step, ...]
    reply: Mapping[str, object] | None = None
    error: ClientError | None = None
    answer: str = ""
    model: str = ""
    frames: tuple[Frame, ...] = ()
    listening: tuple[Listening, ...] = ()
    rows: VisibleRows | None = None
    viewers: Viewers | None = None
    parts: tuple[Trial, ...] = ()
    #: Whether no group name of the stream contains values of rows.
    has_fixed_groups: bool = False

    @property
    def verdict(self) -> str:
        """Return "refused" if any step was refused, else "ok"."""
        return REFUSED if any(step.verdict == REFUSED for step in self.steps) else OK

    @property
    def refusal(self) -> Step | None:
        """The step at which the request was refused, or ``None``."""
        return next((step for step in self.steps if step.verdict == REFUSED), None)

    def step(self, name: Check) -> Step | None:
        """Return the step with this ``name``."""
        return next((step for step in self.steps if step.name == name), None)

    def groups(self, stream: str) -> tuple[list[str], list[str]]:
        """Return the groups of a stream before and after the change of the row."""
        changes = [(frame.group, frame.action) for frame in self.frames if frame.stream == stream]
        return (
            list(dict.fromkeys(group for group, action in changes if action != "create")),
            list(dict.fromkeys(group for group, action in changes if action != "delete")),
        )

    @property
    def shown_rows(self) -> list[tuple[str, object]]:
        """All rows whose values the result discloses, as pairs of model and key."""
        found = [(frame.model, key_of(frame)) for frame in self.frames]
        found.append((self.model, self.question.pk))
        found += [(self.model, row.pk) for row in self.rows.shown] if self.rows is not None else []
        return found + [row for part in self.parts for row in part.shown_rows]

    def without_values(
        self,
        is_readable: Callable[[str], bool],
        shape: Callable[[object, int], Any],
        sees: Callable[[str, object], bool] = lambda model, pk: True,
    ) -> Trial:
        """Return the trial with shapes in place of the values of rows.

        The values are removed for models that the viewer may not read, and for single rows, given by model and key,
        that the viewer may not see.
        """

        def reads(model: str, pk: object) -> bool:
            return is_readable(model) and sees(model, pk)

        frames = tuple(frame if reads(frame.model, key_of(frame)) else _hide(frame, shape) for frame in self.frames)
        steps, rows, viewers = self.steps, self.rows, self.viewers
        if rows is not None:
            hidden = {number for number, row in enumerate(rows.shown) if not reads(self.model, row.pk)}
            shown = tuple(
                replace(row, data=shape(dict(row.data), 1)) if number in hidden else row
                for number, row in enumerate(rows.shown)
            )
            rows = replace(rows, shown=shown, is_shape=bool(hidden) or not is_readable(self.model))
        if not reads(self.model, self.question.pk):
            steps = tuple(map(_without_messages, steps))
            if rows is not None:
                rows = replace(rows, fault=rows.fault.partition(":")[0])
            if viewers is not None:
                viewers = replace(viewers, fault=viewers.fault.partition(":")[0])
        parts = tuple(part.without_values(is_readable, shape, sees) for part in self.parts)
        return replace(self, steps=steps, frames=frames, rows=rows, viewers=viewers, parts=parts)

    def without_groups(
        self, is_readable: Callable[[str], bool], sees: Callable[[str, object], bool] = lambda model, pk: True
    ) -> Trial:
        """Return the trial without the names of groups that contain values of rows, unless the viewer may read these.

        The reason why a row is not seen is removed too, because it also discloses values.
        """
        parts = tuple(part.without_groups(is_readable, sees) for part in self.parts)
        frames = tuple(
            frame
            if (is_readable(frame.model) and sees(frame.model, key_of(frame)))
            or (self.has_fixed_groups and frame.stream == self.question.stream)
            else _without_group_of(frame)
            for frame in self.frames
        )
        made = replace(self, frames=frames, parts=parts)
        if is_readable(self.model) and sees(self.model, self.question.pk):
            return made
        steps = tuple(_without_row(step) for step in self.steps)
        if self.has_fixed_groups:
            return replace(made, steps=steps)
        steps = tuple(_without_group(step) for step in steps)
        reply, answer, rows = self.reply, self.answer, self.rows
        if reply is not None and "group" in reply:
            reply = {**reply, "group": hidden_group()}
            answer = encode_reply(self.question.stream, 1, reply)
        if rows is not None:
            rows = replace(rows, group=hidden_group())
        return replace(made, steps=steps, reply=reply, answer=answer, rows=rows)

    def without_names(self) -> Trial:
        """Return the trial without the names of connected users and viewers of the row. Only their number remains."""
        listening = tuple(replace(each, audience=replace(each.audience, listeners=())) for each in self.listening)
        parts = tuple(part.without_names() for part in self.parts)
        return replace(self, listening=listening, viewers=None, parts=parts)

    def as_json(self) -> dict[str, object]:
        """Return the trial as JSON values."""
        error = self.error
        return {
            "question": self.question.as_json(),
            "user": self.user,
            "verdict": self.verdict,
            "steps": [
                {"name": step.name, "verdict": step.verdict, "text": step.text, "evidence": dict(step.evidence)}
                for step in self.steps
            ],
            "reply": None if self.reply is None else dict(self.reply),
            "error": error and {"code": error.code, "message": error.message, "fields": error.fields},
            "answer": self.answer,
            "frames": [vars(frame) for frame in self.frames],
            "connections": [
                {
                    "stream": each.stream,
                    "total": each.audience.total,
                    "shown": [vars(listener) for listener in each.audience.listeners],
                }
                for each in self.listening
            ],
            "rows": None if self.rows is None else self.rows.as_json(),
            "viewers": None if self.viewers is None else self.viewers.as_json(),
            "parts": [part.as_json() for part in self.parts],
        }

    def as_text(self) -> str:
        """Return the whole trial as plain text, for a ticket."""
        return "\n".join(_lines(self))


def _lines(trial: Trial) -> Iterator[str]:
    """Yield the lines of a whole trial as plain text, for a ticket."""
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


def _without_messages(step: Step) -> Step:
    """Replace exceptions by their class, because the text of an exception may quote a row."""
    text, evidence = step.text, dict(step.evidence)
    for fault in (evidence.get("fault", ""), *(each.partition(": ")[2] for each in evidence.get("faults", ()))):
        if fault:
            text = text.replace(fault, fault.partition(":")[0])
    if "fault" in evidence:
        evidence["fault"] = evidence["fault"].partition(":")[0]
    if "faults" in evidence:
        evidence["faults"] = [":".join(each.split(":")[:2]) for each in evidence["faults"]]
    return replace(step, text=text, evidence=evidence)


def _without_row(step: Step) -> Step:
    """Replace the reason why a row is not seen by the fact that it is not seen."""
    if step.name != Check.ROW or "fault" in step.evidence or step.verdict not in (REFUSED, NOTE):
        return step
    return replace(step, text=gettext("It does not exist, or this stream does not show it."), evidence={})


def _without_group(step: Step) -> Step:
    """Replace the names of groups by the statement that there are groups."""
    if step.name not in WITHOUT_VALUES or step.verdict != OK:
        return step
    return replace(step, text=str(WITHOUT_VALUES[step.name]), evidence={})


def _without_group_of(frame: Frame) -> Frame:
    def hidden(text: str) -> str:
        if not text:
            return text
        content = json.loads(text)
        return json.dumps(
            {**content, **({"group": hidden_group()} if "group" in content else {})},
            ensure_ascii=False,
            separators=(",", ":"),
        )

    return replace(frame, group=hidden_group(), text=hidden(frame.text), plain=hidden(frame.plain))


def key_of(frame: Frame) -> object:
    """Return the key of a frame's row as a JSON value; ``None`` if the frame concerns no row."""
    text = frame.text or frame.plain
    return json.loads(text)["payload"].get("pk") if text else None


def _hide(frame: Frame, shape: Callable[[object, int], Any]) -> Frame:
    def hidden(text: str) -> str:
        if not text:
            return text
        content = json.loads(text)
        payload = content["payload"]
        for key in payload.keys() - {"action", "pk", "model", "reason"}:
            payload[key] = shape(payload[key], 1)
        return json.dumps(content, ensure_ascii=False, separators=(",", ":"))

    return replace(frame, text=hidden(frame.text), plain=hidden(frame.plain), is_shape=True)
