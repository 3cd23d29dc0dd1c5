"""The wording of a trial's steps: the check, its result, and the reason."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Model

from declbind.bindings import Binding
from declbind.console.output import format_count
from declbind.console.reasons import describe_user, explain_permission
from declbind.core.course import Check
from declbind.core.errors import ClientError
from declbind.core.spec import BindingSpec
from declbind.core.wording import suggest
from declbind.django_types import User
from declbind.registry import BindingRegistry

from .answer import NOTE, OK, REFUSED, SKIPPED, Frame, Listening, Question, Step
from .frames import Faults
from .inbound import Course
from .outbound import Change
from .subscription import Grant, find_row, look_for_row

DIRECTIONS = {"both": "both ways", "outbound": "only to clients", "inbound": "only from clients"}
#: The steps of each action.
PASSED_BY = {
    "create": {Check.ROW},
    "delete": {Check.FIELDS, Check.VALUES, Check.INSIDE},
    "outbound-create": {Check.ROW},
    "outbound-delete": {Check.FIELDS, Check.VALUES},
}
SIDE_EFFECTS = "mail, tasks and other effects outside the database"


def describe_faults(faults: Faults) -> str:
    """Describe the faults of bindings."""
    return " ".join(f"Stream {stream!r}: {name_fault(fault)}." for stream, fault in faults)


def name_fault(fault: BaseException) -> str:
    """Return the class of an exception as shown to people."""
    return f"{type(fault).__name__}: {fault}".strip().rstrip(".:")


@dataclass(frozen=True)
class StepDescriptions:
    """The wording of the steps of one trial. ``bound`` is the binding with its user, ``fault`` an exception."""

    question: Question
    registry: BindingRegistry
    user: User
    binding: type[Binding] | None = None
    bound: Binding | None = None
    fault: BaseException | None = None

    def concerns(self, name: Check) -> bool:
        """Return whether a step applies to this question."""
        if name in (Check.GROUPS, Check.FRAMES, Check.CONNECTIONS) and self.question.is_outbound:
            return False
        if self.binding is not None:
            spec = self.binding.spec()
            if (name == Check.SCOPE and not spec.scope) or (name == Check.INSIDE and not (spec.where or spec.scope)):
                return False
        return name not in PASSED_BY.get(self.question.action, ())

    def skip(self, name: Check) -> Step:
        """Return a step that was not reached."""
        return Step(name, SKIPPED, "Not reached.")

    def describe(
        self,
        names: Sequence[Check],
        entered: Collection[Check],
        last: Check | None,
        error: ClientError | None,
        course: Any = None,
    ) -> list[Step]:
        """Return one step for each name, in order.

        A step is skipped if its name was not ``entered``, and refused if it is ``last``, at which the request ended (""
        if the request passed).
        """
        if last and last not in names:
            last = [name for name in names if name in entered][-1]
        return [
            self.skip(name)
            if name not in entered
            else self._refused(name, error)
            if name == last
            else self._passed(name, course)
            for name in names
        ]

    # --- refused -----------------------------------------------------------------------------------------------------

    def _refused(self, name: Check, error: ClientError | None) -> Step:
        evidence: dict[str, object] = {}
        if error is not None:
            evidence = {"code": error.code, "message": error.message, "fields": error.fields}
        if self.fault is not None and error is not None and error.code == "internal":
            evidence["fault"] = name_fault(self.fault)
            return Step(name, REFUSED, f"internal: the project's code failed with {evidence['fault']}.", evidence)
        text = ""
        if name == Check.BINDING:
            text, found = self._no_binding()
            evidence |= found
        elif name == Check.WHO:
            text = f"{describe_user(self.user)} is not active or was deleted: the session is over."
        elif name == Check.DIRECTION:
            text = f"The stream is open {DIRECTIONS[self._spec().direction]}."
        elif name == Check.PERMISSION:
            text, found = self._permission(False)
            evidence |= found
        elif name == Check.FIELDS:
            evidence |= self._writable()
        elif name == Check.ROW and self.binding is not None:
            text = self._why_no_row()
        if self.fault is not None:
            evidence["fault"] = name_fault(self.fault)
        said = f"{error.code}: {error.message}" if error is not None else ""
        fields = "; ".join(f"{field}: {' '.join(texts)}" for field, texts in (error.fields if error else {}).items())
        return Step(
            name, REFUSED, " ".join(part for part in (text, said, f"({fields})" if fields else "") if part), evidence
        )

    def _no_binding(self) -> tuple[str, dict[str, object]]:
        entry = self.registry.entry(self.question.stream)
        if entry is None:
            near = suggest(self.question.stream, sorted(self.registry.by_stream))
            return f"No binding has the stream {self.question.stream!r}.{near}", {}
        if entry.problems:
            problems = [str(problem) for problem in entry.problems]
            return f"The binding is invalid and therefore not in force: {' '.join(problems)}", {"problems": problems}
        return "The binding is disabled.", {"where": entry.where}

    def _why_no_row(self) -> str:
        assert self.binding is not None
        bound = self.bound or self.binding(user=self.user)
        try:
            row = find_row(self.binding, self.question.pk, bound.get_queryset().db)
            if row is None:
                return f"There is no such row of {self.binding.model_name()}. "
            if kept_out := bound.outside_where(row):
                return f"The row is outside 'where' ({', '.join(kept_out)}). "
            if self._spec().scope and not bound.scoped(bound.get_queryset()).filter(pk=row.pk).exists():
                return f"The row belongs to another user (scope: {', '.join(self._spec().scope)}). "
        except Exception:
            return ""
        return ""

    # --- passed ------------------------------------------------------------------------------------------------------

    def _passed(self, name: Check, course: Any) -> Step:
        if name == Check.PERMISSION:
            text, evidence = self._permission(True, course)
            return Step(name, OK, text, evidence)
        if name == Check.STORE and isinstance(course, Course):
            return self._stored(course)
        if name == Check.FIELDS:
            sent = ", ".join(self.question.values) or "none"
            return Step(name, OK, f"Sent: {sent}. All of them are writable.", self._writable())
        if name == Check.GROUP and isinstance(course, Grant):
            params = json.loads(json.dumps(dict(course.params), default=str))
            given = ", ".join(f"{key} = {json.dumps(value)}" for key, value in params.items())
            text = f"The subscription is to the group {course.group}{f' ({given})' if given else ''}."
            return Step(name, OK, text, {"group": course.group, "params": params})
        return Step(name, OK, self._words(name), self._place() if name == Check.BINDING else {})

    def _words(self, name: Check) -> str:
        spec = self._spec() if self.binding is not None else None
        scope = ", ".join(f"{name} is {source}" for name, source in spec.scope.items()) if spec else ""
        configuration = self.question.configuration
        return {
            Check.BINDING: f"Stream {self.question.stream!r} binds {spec.model if spec else '?'}"
            f"{'' if configuration == 'active' else f' ({configuration})'}.",
            Check.REQUEST: "The request can be read.",
            Check.WHO: f"{describe_user(self.user).capitalize()}, as the database has it now."
            if not getattr(self.user, "is_authenticated", False)
            else f"{describe_user(self.user)}, as the database has it now.",
            Check.DIRECTION: f"Open {DIRECTIONS[spec.direction]}." if spec else "",
            Check.SCOPE: f"Own rows only: {scope}." if scope else "The rows of this stream have no owner.",
            Check.ROW: "The row exists for this user.",
            Check.VALUES: "The values are valid.",
            Check.INSIDE: "The row stays within what this stream covers.",
        }.get(name, "Passed.")

    def _place(self) -> dict[str, object]:
        entry = self.registry.entry(self.question.stream)
        where = {"defined in": entry.where, "source": entry.source} if entry is not None else {}
        return {**where, "configuration": self.question.configuration, "version": self.registry.version}

    def _permission(self, is_granted: bool, course: Any = None) -> tuple[str, dict[str, object]]:
        if self.bound is None:
            return "", {}
        action = "view" if self.question.action == "view" else self.question.action
        key = course.found.get(Check.PERMISSION) if isinstance(course, Course) and action != "create" else None
        try:
            reason = explain_permission(self.bound, action, key, is_granted)
        except Exception as fault:
            return f"The reason is not known: {name_fault(fault)}.", {}
        return reason.text, {"rule": reason.rule, "granted by": list(reason.granted_by)}

    def _writable(self) -> dict[str, object]:
        if self.binding is None:
            return {}
        return {
            "writable": [field.name for field in self.binding.writable_fields()],
            "sent": list(self.question.values),
        }

    def _stored(self, course: Course) -> Step:
        if course.is_left_to_code:
            text = "Project code stores the row: only carrying it out shows the result."
            return Step(Check.STORE, NOTE, text)
        if not course.stores:
            what = "deleted" if self.question.action == "delete" else "stored"
            text = f"Not {what}: only validated, because {SIDE_EFFECTS} could not be rolled back."
            return Step(Check.STORE, NOTE, text)
        text = "Carried out and rolled back."
        if self.question.action == "create":
            text += " A real write may get another key."
        if not course.callbacks:
            return Step(Check.STORE, OK, text)
        text += f" These would have run after the commit: {', '.join(course.callbacks)}."
        return Step(Check.STORE, OK, text, {"after commit": course.callbacks})

    def _spec(self) -> BindingSpec:
        assert self.binding is not None
        return self.binding.spec()

    # --- what is sent ------------------------------------------------------------------------------------------------

    def describe_row(self, grant: Grant, row: Model | None, pk: object, using: str) -> Step:
        """Describe whether a subscription would show the row."""
        if grant.bound is None:
            return self.skip(Check.ROW)
        sight = look_for_row(grant, row, pk, using)
        return Step(Check.ROW, OK if sight.is_seen else REFUSED, sight.text, {"group": grant.group})

    def describe_change(self, names: Sequence[Check], change: Change, action: str) -> list[Step]:
        """Describe the steps of a row's change up to its groups."""
        entered = names[: names.index(change.failed) + 1] if change.failed in names else names
        steps = []
        for name in names:
            if name == change.failed:
                steps.append(Step(name, REFUSED, change.text, change.evidence))
            elif name not in entered:
                steps.append(self.skip(name))
            elif name == Check.ROW:
                steps.append(self._stored_row(change))
            elif name == Check.FIELDS:
                text = f"Set: {', '.join(self.question.values)}." if self.question.values else "Nothing else is set."
                steps.append(Step(name, OK, text))
            else:
                steps.append(self._passed(name, None))
        if change.failed:
            last = Step(Check.FRAMES, REFUSED, f"internal: {change.text}") if change.failed not in names else None
            steps += [self.skip(Check.GROUPS), last or self.skip(Check.FRAMES), self.skip(Check.CONNECTIONS)]
        elif action == "create" and self.question.pk is None:
            steps.append(Step(Check.STORE, NOTE, "The row's key is given when it is stored; here it is null."))
        return steps

    def _stored_row(self, change: Change) -> Step:
        assert self.binding is not None
        kept_out = self.binding().outside_where(change.row) if change.row is not None else []
        if kept_out and self.question.action == "outbound":
            return Step(
                Check.ROW, NOTE, f"The row is stored; after the change it is outside 'where' ({', '.join(kept_out)})."
            )
        return Step(Check.ROW, OK, "The row is stored.")

    def describe_groups(
        self,
        frames: Sequence[Frame],
        is_left_to_code: bool,
        row: Model | None = None,
        faults: Faults = (),
    ) -> Step:
        """Describe the groups of the row before and after, by stream."""
        found: dict[str, dict[str, list[str]]] = {}
        for frame in frames:
            places = found.setdefault(frame.stream, {"before": [], "after": []})
            if frame.action != "create" and frame.group not in places["before"]:
                places["before"].append(frame.group)
            if frame.action != "delete" and frame.group not in places["after"]:
                places["after"].append(frame.group)
        if not found:
            why = "Only carrying it out shows this." if is_left_to_code else self._why_silent(row, faults)
            return Step(Check.GROUPS, NOTE, why)
        text = " ".join(
            f"{stream}: {_names(places['before'])} \N{RIGHTWARDS ARROW} {_names(places['after'])}."
            for stream, places in found.items()
        )
        return Step(Check.GROUPS, OK, text, found)

    def _why_silent(self, row: Model | None, faults: Faults) -> str:
        if self.binding is None or not self.binding.spec().outbound:
            return "The stream is only from clients: it sends nothing."
        if faults:
            return "Not known: the binding's code failed."
        if row is not None and (kept_out := self.binding().outside_where(row)):
            return f"None: the row is outside 'where' ({', '.join(kept_out)}), before and after."
        return "None: the row is in no group, for example because a field of the group template is null."

    def describe_frames(
        self,
        frames: Sequence[Frame],
        faults: Faults,
        is_left_to_code: bool,
        also: Sequence[str] = (),
        *,
        is_whole: bool = False,
    ) -> Step:
        """Describe the number of frames, and which binding's code failed."""
        evidence: dict[str, object] = {"streams": list(dict.fromkeys(frame.stream for frame in frames))}
        if faults:
            evidence["faults"] = [f"{stream}: {name_fault(fault)}" for stream, fault in faults]
            text = f"a binding's code failed, so its subscribers are sent a resync. {describe_faults(faults)}"
            if is_whole:
                return Step(Check.FRAMES, REFUSED, f"internal: {text}", evidence)
            return Step(Check.FRAMES, NOTE, f"{text[0].upper()}{text[1:]}", evidence)
        if is_left_to_code:
            return Step(Check.FRAMES, NOTE, "Only carrying it out shows this.", evidence)
        beside = f" Other streams that report it: {', '.join(also)}." if also else ""
        if not frames:
            return Step(Check.FRAMES, NOTE, f"None is sent.{beside}", evidence)
        return Step(Check.FRAMES, OK, f"{format_count(len(frames), 'frame')}, one for each group.{beside}", evidence)

    def describe_connections(self, listening: Sequence[Listening]) -> Step:
        """Describe the number of connections that would receive the frames."""
        total = sum(each.audience.total for each in listening)
        if not total:
            return Step(Check.CONNECTIONS, NOTE, "No connection is subscribed to these groups now.", {"total": 0})
        return Step(Check.CONNECTIONS, OK, f"{format_count(total, 'connection')} now.", {"total": total})


def _names(groups: Sequence[str]) -> str:
    return ", ".join(groups) or "none"
