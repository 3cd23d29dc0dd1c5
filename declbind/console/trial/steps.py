"""The wording of a trial's steps: the check, its result, and the reason."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Model
from django.utils.translation import gettext, ngettext

from declbind.bindings import Binding
from declbind.console.reasons import describe_user, explain_permission
from declbind.console.record_words import condition_in_words
from declbind.core.course import Check
from declbind.core.errors import ClientError
from declbind.core.spec import BindingSpec
from declbind.core.wording import suggest
from declbind.django_types import User
from declbind.registry import BindingRegistry

from .answer import Frame, Listening, Question, Step
from .frames import Faults
from .inbound import Course
from .outbound import RowChange
from .subscription import Grant, describe_foreign, find_row, look_for_row
from .words import CLOSED, NOTE, OK, OPEN, PASSED, REFUSED, SKIPPED

#: The steps of each action.
PASSED_BY = {
    "create": {Check.ROW},
    "delete": {Check.FIELDS, Check.VALUES, Check.INSIDE},
    "outbound-create": {Check.ROW},
    "outbound-delete": {Check.FIELDS, Check.VALUES},
}


def describe_faults(faults: Faults) -> str:
    """Describe the faults of bindings."""
    text = gettext("Stream %(stream)r: %(text)s.")
    return " ".join(text % {"stream": stream, "text": name_fault(fault)} for stream, fault in faults)


def describe_internal_fault(fault: str) -> str:
    """Describe the failure of project code, as which clients get the code ``internal``."""
    return gettext("internal: the project's code failed with %(fault)s.") % {"fault": fault}


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
        return Step(name, SKIPPED, gettext("Not reached."))

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
            return Step(name, REFUSED, describe_internal_fault(str(evidence["fault"])), evidence)
        text = ""
        found: dict[str, object] = {}
        if name == Check.BINDING:
            text, found = self._no_binding()
        elif name == Check.WHO:
            text = gettext("%(who)s is not active or was deleted: the session is over.")
            text %= {"who": describe_user(self.user)}
        elif name == Check.DIRECTION:
            text = str(CLOSED[self._spec().direction])
        elif name == Check.PERMISSION:
            text, found = self._permission(False)
        elif name == Check.FIELDS:
            found = self._writable()
        elif name == Check.ROW and self.binding is not None:
            text, found = self._why_no_row()
        evidence |= found
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
            text = gettext("No binding has the stream %(stream)r.") % {"stream": self.question.stream}
            return f"{text}{near}", {}
        if entry.problems:
            problems = [str(problem) for problem in entry.problems]
            text = gettext("The binding is invalid and therefore not in force: %(problems)s")
            return text % {"problems": " ".join(problems)}, {"problems": problems}
        return gettext("The binding is disabled."), {"where": entry.where}

    def _why_no_row(self) -> tuple[str, dict[str, object]]:
        assert self.binding is not None
        bound = self.bound or self.binding(user=self.user)
        try:
            row = find_row(self.binding, self.question.pk, bound.get_queryset().db)
            if row is None:
                return gettext("There is no such row of %(model)s.") % {"model": self.binding.model_name()}, {}
            if kept_out := bound.outside_where(row):
                text = gettext("The row is outside 'where' (%(conditions)s).")
                return text % {"conditions": ", ".join(kept_out)}, {}
            if self._spec().scope and not bound.scoped(bound.get_queryset()).filter(pk=row.pk).exists():
                return describe_foreign(self._spec()), {"scope": list(self._spec().scope)}
        except Exception:
            return "", {}
        return "", {}

    # --- passed ------------------------------------------------------------------------------------------------------

    def _passed(self, name: Check, course: Any) -> Step:
        if name == Check.PERMISSION:
            text, evidence = self._permission(True, course)
            return Step(name, OK, text, evidence)
        if name == Check.STORE and isinstance(course, Course):
            return self._stored(course)
        if name == Check.FIELDS:
            sent = ", ".join(self.question.values) or gettext("none")
            text = gettext("Sent: %(names)s. All of them are writable.") % {"names": sent}
            return Step(name, OK, text, self._writable())
        if name == Check.GROUP and isinstance(course, Grant):
            params = json.loads(json.dumps(dict(course.params), default=str))
            text = (
                gettext("The subscription is to the group %(group)s (%(params)s).")
                if params
                else gettext("The subscription is to the group %(group)s.")
            )
            given = ", ".join(f"{key} = {json.dumps(value)}" for key, value in params.items())
            words = {"group": course.group, "params": given}
            return Step(name, OK, text % words, {"group": course.group, "params": params})
        return Step(name, OK, self._words(name), self._place() if name == Check.BINDING else {})

    def _words(self, name: Check) -> str:
        spec = self._spec() if self.binding is not None else None
        if name == Check.BINDING:
            text = (
                gettext("Stream %(stream)r binds %(model)s.")
                if self.question.configuration == "active"
                else gettext("Stream %(stream)r binds %(model)s (%(configuration)s).")
            )
            return text % {
                "stream": self.question.stream,
                "model": spec.model if spec else "?",
                "configuration": self.question.configuration_text,
            }
        if name == Check.WHO:
            if not getattr(self.user, "is_authenticated", False):
                return gettext("An anonymous visitor, as the database has it now.")
            return gettext("%(who)s, as the database has it now.") % {"who": describe_user(self.user)}
        if name == Check.DIRECTION:
            return str(OPEN[spec.direction]) if spec else ""
        if name == Check.SCOPE:
            if spec is None or not spec.scope:
                return gettext("The rows of this stream have no owner.")
            conditions = (condition_in_words(name, [source]) for name, source in spec.scope.items())
            return gettext("Own rows only: %(conditions)s.") % {"conditions": ", ".join(conditions)}
        return str(PASSED.get(name) or gettext("Passed."))

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
            return gettext("The reason is not known: %(fault)s.") % {"fault": name_fault(fault)}, {}
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
            text = gettext("Project code stores the row: only carrying it out shows the result.")
            return Step(Check.STORE, NOTE, text)
        if not course.stores:
            text = (
                gettext(
                    "Not deleted: only validated, because mail, tasks and other effects outside the database could not "
                    "be rolled back."
                )
                if self.question.action == "delete"
                else gettext(
                    "Not stored: only validated, because mail, tasks and other effects outside the database could not "
                    "be rolled back."
                )
            )
            return Step(Check.STORE, NOTE, text)
        sentences = [gettext("Carried out and rolled back.")]
        if self.question.action == "create":
            sentences.append(gettext("A real write may get another key."))
        if not course.callbacks:
            return Step(Check.STORE, OK, " ".join(sentences))
        text = gettext("These would have run after the commit: %(names)s.") % {"names": ", ".join(course.callbacks)}
        return Step(Check.STORE, OK, " ".join([*sentences, text]), {"after commit": course.callbacks})

    def _spec(self) -> BindingSpec:
        assert self.binding is not None
        return self.binding.spec()

    # --- what is sent ------------------------------------------------------------------------------------------------

    def describe_row(self, grant: Grant, row: Model | None, pk: object, using: str) -> Step:
        """Describe whether a subscription would show the row."""
        if grant.bound is None:
            return self.skip(Check.ROW)
        sight = look_for_row(grant, row, pk, using)
        evidence: dict[str, object] = {"group": grant.group}
        if sight.scope:
            evidence["scope"] = list(sight.scope)
        return Step(Check.ROW, OK if sight.is_seen else REFUSED, sight.text, evidence)

    def describe_change(self, names: Sequence[Check], change: RowChange, action: str) -> list[Step]:
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
                text = (
                    gettext("Set: %(names)s.") % {"names": ", ".join(self.question.values)}
                    if self.question.values
                    else gettext("Nothing else is set.")
                )
                steps.append(Step(name, OK, text))
            else:
                steps.append(self._passed(name, None))
        if change.failed:
            text = gettext("internal: %(text)s") % {"text": change.text}
            last = Step(Check.FRAMES, REFUSED, text) if change.failed not in names else None
            steps += [self.skip(Check.GROUPS), last or self.skip(Check.FRAMES), self.skip(Check.CONNECTIONS)]
        elif action == "create" and self.question.pk is None:
            text = gettext("The row's key is given when it is stored; here it is null.")
            steps.append(Step(Check.STORE, NOTE, text))
        return steps

    def _stored_row(self, change: RowChange) -> Step:
        assert self.binding is not None
        kept_out = self.binding().outside_where(change.row) if change.row is not None else []
        if kept_out and self.question.action == "outbound":
            text = gettext("The row is stored; after the change it is outside 'where' (%(conditions)s).")
            return Step(Check.ROW, NOTE, text % {"conditions": ", ".join(kept_out)})
        return Step(Check.ROW, OK, gettext("The row is stored."))

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
            why = gettext("Only carrying it out shows this.") if is_left_to_code else self._why_silent(row, faults)
            return Step(Check.GROUPS, NOTE, why)
        text = " ".join(
            f"{stream}: {_names(places['before'])} \N{RIGHTWARDS ARROW} {_names(places['after'])}."
            for stream, places in found.items()
        )
        return Step(Check.GROUPS, OK, text, found)

    def _why_silent(self, row: Model | None, faults: Faults) -> str:
        if self.binding is None or not self.binding.spec().outbound:
            return gettext("The stream is only from clients: it sends nothing.")
        if faults:
            return gettext("Not known: the binding's code failed.")
        if row is not None and (kept_out := self.binding().outside_where(row)):
            text = gettext("None: the row is outside 'where' (%(conditions)s), before and after.")
            return text % {"conditions": ", ".join(kept_out)}
        return gettext("None: the row is in no group, for example because a field of the group template is null.")

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
            text = (
                gettext("internal: a binding's code failed, so its subscribers are sent a resync. %(faults)s")
                if is_whole
                else gettext("A binding's code failed, so its subscribers are sent a resync. %(faults)s")
            )
            text %= {"faults": describe_faults(faults)}
            return Step(Check.FRAMES, REFUSED if is_whole else NOTE, text, evidence)
        if is_left_to_code:
            return Step(Check.FRAMES, NOTE, gettext("Only carrying it out shows this."), evidence)
        count = {"count": len(frames)}
        sentences = [
            ngettext("%(count)s frame, one for each group.", "%(count)s frames, one for each group.", len(frames))
            % count
            if frames
            else gettext("None is sent.")
        ]
        if also:
            sentences.append(gettext("Other streams that report it: %(streams)s.") % {"streams": ", ".join(also)})
        return Step(Check.FRAMES, OK if frames else NOTE, " ".join(sentences), evidence)

    def describe_connections(self, listening: Sequence[Listening]) -> Step:
        """Describe the number of connections that would receive the frames."""
        total = sum(each.audience.total for each in listening)
        if not total:
            text = gettext("No connection is subscribed to these groups now.")
            return Step(Check.CONNECTIONS, NOTE, text, {"total": 0})
        text = ngettext("%(count)s connection now.", "%(count)s connections now.", total) % {"count": total}
        return Step(Check.CONNECTIONS, OK, text, {"total": total})


def _names(groups: Sequence[str]) -> str:
    return ", ".join(groups) or gettext("none")
