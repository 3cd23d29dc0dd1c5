"""Trials of a binding without side effects: who may do what, why, and what would be sent to whom.

Every verdict comes from the code that serves clients, run for a freshly loaded user under a chosen configuration.
Nothing is stored, sent or recorded. However, a trial cannot undo what project code does outside the database (mail,
tasks, other databases). Writes of clients are therefore only checked unless ``carry_out`` is set.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from django.db import DatabaseError
from django.db.models import Model
from django.utils.translation import gettext

from declbind import tenancy
from declbind.bindings import Binding
from declbind.console import preview
from declbind.console.audience import load_audience
from declbind.console.reasons import describe_user
from declbind.console.visibility import Viewers, has_fixed_groups, load_rows, load_viewers
from declbind.core import frames
from declbind.core.course import Check
from declbind.core.errors import ClientError, ConfigError
from declbind.core.frames import Request
from declbind.django_types import User
from declbind.inbound.permissions import Identity, load_user
from declbind.live.conversation import read_envelope, read_request
from declbind.models import BindingRevision
from declbind.outbound import index as indexes
from declbind.outbound import log
from declbind.outbound.drafts import gather_withheld
from declbind.outbound.index import Index
from declbind.registry import BindingRegistry, database_alias, get_registry
from declbind.registry_entries import build_alternative
from declbind.serializers.guard import describe_withheld

from . import inbound, outbound, subscription
from .answer import ALIASES, Frame, Listening, Question, Step, Trial
from .frames import build_frames
from .steps import StepDescriptions, describe_faults, describe_internal_fault, name_fault
from .words import ACTIONS, NOTE, OK, REFUSED

#: The maximum number of bindings that are tried if the question is about all.
MAX_STREAMS = 100
#: The seconds after which no further binding is tried. Project code may be slow, and a user waits for the page.
MAX_SECONDS = 10.0


def make_trial(question: Question, using: str | None = None) -> Trial:
    """Return the result of a trial. Faults of project code become steps of the result and are never raised.

    Raises:
        ConfigError: There is no such action, user or revision.
    """
    using = using or database_alias()
    question = dataclasses.replace(question, action=ALIASES.get(question.action, question.action))
    if question.action not in ACTIONS:
        text = gettext("Expected an action of %(actions)s; got %(given)r.")
        raise ConfigError(text % {"actions": ", ".join(ACTIONS), "given": question.action})
    identity, user = find_user(question.who)
    registry, question = choose_registry(question, using)
    with indexes.trying(registry) as index, gather_withheld() as held_back:
        if not question.stream:
            made = _try_all(question, registry, index, identity, user, using)
            return _with_secrets(made, held_back)
        attempt = _Attempt(question, registry, index, identity, user, using)
        try:
            return _with_secrets(attempt.make(), held_back)
        except (ConfigError, DatabaseError):
            raise
        except Exception as fault:
            # The code of a model or a field failed outside the steps. Such a fault is shown, not raised.
            said = name_fault(fault)
            step = Step(Check.BINDING, REFUSED, describe_internal_fault(said), {"fault": said})
            return Trial(question, describe_user(user), (step,))


def find_user(who: str) -> tuple[Identity, User]:
    """Return the identity of a user in a connection without a session, and the user without cached permissions."""
    named = preview.load_user(who)
    tenant = tenancy.of_connection(database_alias())
    if not named.is_authenticated:
        return Identity(connection_id="try", tenant=tenant), named
    identity = Identity(user_pk=str(named.pk), connection_id="try", username=str(named.get_username()), tenant=tenant)
    return identity, load_user(identity) if getattr(named, "is_active", True) else named


def choose_registry(question: Question, using: str) -> tuple[BindingRegistry, Question]:
    """Return the registry of the tried configuration, and the question with the stream's name in that configuration."""
    registry = get_registry()
    document, stream = question.document, question.stream
    if question.revision is not None:
        revision = BindingRevision.objects.using(using).filter(pk=question.revision).first()
        if revision is None or (stream and revision.stream != stream):
            text = (
                gettext("There is no revision %(key)s of stream %(stream)r.")
                if stream
                else gettext("There is no revision %(key)s.")
            )
            raise ConfigError(text % {"key": question.revision, "stream": stream})
        stream, document = revision.stream, revision.definition
        registry = build_alternative(registry, stream, document)
    elif document is not None:
        registry = build_alternative(registry, stream or str(document.get("stream", "")), document)
        stream = str(document.get("stream", stream))
    if question.as_if_enabled and stream:
        entry = registry.entry(stream)
        if entry is not None and entry.binding is not None and not entry.problems and not entry.binding.enabled:
            enabled = {**entry.binding.spec().to_dict(), "enabled": True}
            registry = build_alternative(registry, stream, enabled)
    return registry, dataclasses.replace(question, stream=stream)


def _try_all(
    question: Question, registry: BindingRegistry, index: Index, identity: Identity, user: User, using: str
) -> Trial:
    streams = sorted(registry.by_stream)
    parts: list[Trial] = []
    until = time.monotonic() + MAX_SECONDS
    for stream in streams[:MAX_STREAMS]:
        if time.monotonic() > until:
            break
        asked = dataclasses.replace(question, stream=stream, wide=False, carry_out=False)
        parts.append(_Attempt(asked, registry, index, identity, user, using).make())
    allowed = sum(part.verdict == OK for part in parts)
    text = (
        gettext("Possible on %(allowed)s of %(tried)s streams in force.")
        if len(parts) == len(streams)
        else gettext(
            "Possible on %(allowed)s of %(tried)s streams in force. The first %(tried)s of %(total)s were tried."
        )
    )
    text %= {"allowed": allowed, "tried": len(parts), "total": len(streams)}
    step = Step(Check.BINDINGS, NOTE, text, {"tried": len(parts), "in force": len(streams)})
    return Trial(question, describe_user(user), (step,), parts=tuple(parts))


@dataclasses.dataclass(frozen=True)
class _Attempt:
    """The trial of one stream under one registry, which is in force for this thread."""

    question: Question
    registry: BindingRegistry
    index: Index
    identity: Identity
    user: User
    using: str

    def make(self) -> Trial:
        binding, request, refusal = self._ask()
        if refusal is not None or binding is None:
            return self._refused_at_the_door(refusal)
        if self.question.is_outbound:
            return self._change(binding)
        assert request is not None
        return self._write(binding, request) if self.question.is_inbound else self._view(binding, request)

    # --- the request, as a client would send it ----------------------------------------------------------------------

    def _ask(self) -> tuple[type[Binding] | None, Request | None, ClientError | None]:
        question = self.question
        if question.is_outbound:
            return self.registry.by_stream.get(question.stream), None, None
        payload: dict[str, object] = {"action": "subscribe" if question.action == "view" else question.action, "ref": 1}
        if question.action == "view":
            payload["params"] = dict(question.params or {})
        if question.is_inbound and question.action != "create" and question.pk is not None:
            payload["pk"] = question.pk
        if question.action in ("create", "update"):
            payload["data"] = dict(question.values)
        try:
            text = frames.encode({"stream": question.stream, "payload": payload})
        except (TypeError, ValueError) as error:
            raise ConfigError(gettext("Expected values that JSON can hold: %(error)s.") % {"error": error}) from error
        try:
            binding, request = read_request(read_envelope(text), self.registry.by_stream)
        except ClientError as error:
            return self.registry.by_stream.get(question.stream), None, error
        return binding, request, None

    def _refused_at_the_door(self, error: ClientError | None) -> Trial:
        texts = self._descriptions()
        binding = self.registry.by_stream.get(self.question.stream)
        if self.question.is_outbound:
            steps: Sequence[Check] = outbound.STEPS
        else:
            steps = inbound.STEPS if self.question.is_inbound else (*subscription.STEPS, Check.ROW)
        at = Check.BINDING if binding is None else Check.REQUEST
        passed = {Check.BINDING} if binding is not None else set()
        described = texts.describe([name for name in steps if texts.concerns(name)], passed | {at}, at, error)
        return self._answer(described, binding, error=error)

    # --- see rows ----------------------------------------------------------------------------------------------------

    def _view(self, binding: type[Binding], request: Request) -> Trial:
        question = self.question
        row = None if question.pk is None else subscription.find_row(binding, question.pk, self.using)
        grants = []
        wanted = [request.params]
        if question.params is None and row is not None:
            wanted = list(subscription.choose_params(binding, row, self.user, self.using))
        for params in wanted:
            asked = dataclasses.replace(request, params=params, payload={**request.payload, "params": params})
            grants.append(subscription.try_subscription(asked, binding, self.identity, self.using))
        grant = next((grant for grant in grants if grant.error is None), grants[0])
        texts = self._descriptions(binding, grant.asker, grant.fault)
        entered = {Check.BINDING, Check.REQUEST, *grant.passage.entered}
        last = grant.passage.entered[-1] if grant.error is not None and grant.passage.entered else None
        names = [name for name in subscription.STEPS if texts.concerns(name)]
        steps = texts.describe(names, entered, last, grant.error, grant)
        reply = self._granted(grant) if grant.error is None else None
        rows = viewers = None
        listening: tuple[Listening, ...] = ()
        if question.pk is not None:
            steps.append(texts.describe_row(grant, row, question.pk, self.using))
        if grant.bound is not None:
            listening = self._listening(((question.stream, (grant.group,)),))
            steps.append(texts.describe_connections(listening))
            if question.wide:
                with subscription.rolled_back(binding, self.using, *subscription.CODE):
                    rows = load_rows(grant.bound, grant.group, grant.full)
        if question.wide and row is not None and binding.spec().outbound:
            viewers = self._viewers(binding, row)
        return self._answer(
            steps, binding, reply=reply, error=grant.error, listening=listening, rows=rows, viewers=viewers
        )

    def _granted(self, grant: subscription.Grant) -> dict[str, object]:
        head = log.load_head(self.using)
        return {"group": grant.group, "epoch": head.epoch, "offset": head.offset}

    # --- write -------------------------------------------------------------------------------------------------------

    def _write(self, binding: type[Binding], request: Request) -> Trial:
        question = self.question
        done = inbound.try_write(request, binding, self.identity, self.index, carry_out=question.carry_out)
        course, error = done.course, done.error
        texts = self._descriptions(binding, course.bound or binding(user=course.user or self.user), done.fault)
        names = [name for name in inbound.STEPS if texts.concerns(name)]
        last = course.last if error is not None else None
        if error is not None and error.code == "denied" and last == Check.ROW:
            last = Check.PERMISSION
        entered = {Check.BINDING, Check.REQUEST, *course.passed} | ({last} if last is not None else set())
        steps = texts.describe(names, entered, last, error, course)
        frames_: tuple[Frame, ...] = ()
        listening: tuple[Listening, ...] = ()
        if error is None:
            faults = list(done.faults)
            frames_ = build_frames(self.registry, done.events, faults)
            listening = self._listening(_by_stream(frames_, question.stream))
            steps += [
                texts.describe_groups(frames_, course.is_left_to_code),
                texts.describe_frames(frames_, faults, course.is_left_to_code),
                texts.describe_connections(listening),
            ]
        else:
            steps += [texts.skip(name) for name in (Check.GROUPS, Check.FRAMES, Check.CONNECTIONS)]
        return self._answer(
            steps, binding, reply=course.reply if error is None else None, error=error, frames=frames_,
            listening=listening,
        )  # fmt: skip

    # --- send --------------------------------------------------------------------------------------------------------

    def _change(self, binding: type[Binding]) -> Trial:
        question = self.question
        action = question.action.partition("-")[2] or "update"
        bound = binding(user=self.user, using=self.using)
        texts = self._descriptions(binding, bound)
        names = [name for name in outbound.STEPS if texts.concerns(name)]
        if not binding.spec().outbound:
            steps = texts.describe(names, {Check.BINDING, Check.DIRECTION}, Check.DIRECTION, None)
            return self._answer(steps, binding)
        try:
            change = outbound.try_change(
                binding, action, question.pk, question.values, self.registry, self.index, self.using
            )
        except Exception as fault:
            change = outbound.RowChange(failed=Check.FRAMES, faults=[(question.stream, fault)], text=describe_faults([
                (question.stream, fault)
            ]))  # fmt: skip
        steps = texts.describe_change(names, change, action)
        listening: tuple[Listening, ...] = ()
        viewers = None
        if not change.failed:
            groups = tuple(dict.fromkeys(frame.group for frame in change.frames))
            listening = self._listening(((question.stream, groups),))
            steps += [
                texts.describe_groups(change.frames, False, change.row, change.faults),
                texts.describe_frames(change.frames, change.faults, False, change.also, is_whole=True),
                texts.describe_connections(listening),
            ]
            if question.wide:
                viewers = self._viewers(binding, change.row)
        return self._answer(steps, binding, frames=change.frames, listening=listening, viewers=viewers)

    # --- what all have in common -------------------------------------------------------------------------------------

    def _descriptions(
        self, binding: type[Binding] | None = None, bound: Binding | None = None, fault: BaseException | None = None
    ) -> StepDescriptions:
        return StepDescriptions(self.question, self.registry, self.user, binding, bound, fault)

    def _listening(self, wanted: Sequence[tuple[str, Sequence[str]]]) -> tuple[Listening, ...]:
        return tuple(
            Listening(stream, load_audience(stream, groups, self.using)) for stream, groups in wanted if groups
        )

    def _viewers(self, binding: type[Binding], row: Model | None) -> Viewers | None:
        if row is None:
            return None
        bound = binding(user=self.user, using=self.using)
        with subscription.rolled_back(binding, self.using, *subscription.CODE):
            try:
                groups = list(bound.group_names(row)) if bound.is_inside(row) else []
            except Exception:
                groups = []  # The step of the groups has reported it.
            return load_viewers(binding, row, groups, self.using)

    def _answer(
        self,
        steps: Sequence[Step],
        binding: type[Binding] | None,
        *,
        reply: dict[str, object] | None = None,
        error: ClientError | None = None,
        **rest: Any,
    ) -> Trial:
        answer = ""
        if error is not None:
            answer = frames.encode_refusal(self.question.stream, 1, error)
        elif reply is not None:
            answer = frames.encode_reply(self.question.stream, 1, reply)
        model = binding.model_label() if binding is not None else ""
        user = describe_user(self.user)
        fixed = binding is not None and has_fixed_groups(binding)
        return Trial(self.question, user, tuple(steps), reply, error, answer, model, has_fixed_groups=fixed, **rest)


def _with_secrets(made: Trial, held_back: Sequence[tuple[str, tuple[str, ...]]]) -> Trial:
    """Add a note on the values of project code that are withheld because they look like secrets."""
    if not held_back:
        return made
    texts = {stream: describe_withheld(names) for stream, names in held_back}
    sentence = gettext("Stream %(stream)r: %(text)s")
    text = " ".join(sentence % {"stream": stream, "text": words} for stream, words in texts.items())
    step = Step(Check.SECRETS, NOTE, text, {"streams": list(texts)})
    return dataclasses.replace(made, steps=(*made.steps, step))


def _by_stream(found: Sequence[Frame], first: str) -> list[tuple[str, list[str]]]:
    groups: dict[str, dict[str, None]] = {first: {}}
    for frame in found:
        groups.setdefault(frame.stream, {})[frame.group] = None
    return [(stream, list(names)) for stream, names in groups.items()]
