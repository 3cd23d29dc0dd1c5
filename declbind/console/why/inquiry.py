"""Explanations of why a frame arrived or did not: from a row, through the log, to each connection of a user.

Nothing is recorded for this. The log holds each change with its groups. The table of connections holds the offsets
from and to which each connection was subscribed to a group. Both together show whether a frame was delivered. For a
change that was never announced, the stored row is compared with its last event.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta

from django.utils import timezone

from declbind import value_validation
from declbind.bindings import Binding
from declbind.checks import foreign_database
from declbind.console.shown import shown
from declbind.console.withheld import load_withheld
from declbind.console.writers import describe_writer
from declbind.live import changes
from declbind.models import BindingRevision, Event, Traffic
from declbind.outbound import history, log
from declbind.registry import get_registry
from declbind.serializers import encode_key

from .causes import Answer, Cause
from .delivery import explain_event, groups_of
from .explanation import Explanation
from .missed import explain_bulk, explain_uncaptured, find_bulk
from .question import WINDOW, Question
from .stored_row import compare, find_latest, load_row, row_groups, says_it_is_there


def explain(question: Question, using: str) -> Explanation:
    """Return why a change of a row arrived or did not.

    An unknown stream, row or user raises no exception.
    """
    binding = get_registry().by_stream.get(question.stream)
    event = find_event(question, binding, using)
    if event is None:
        silence = list(_explain_silence(question, binding, using))
        bulk = _find_bulk_of_row(question, binding, using) if _is_uncaptured(silence) else None
        if bulk is not None:
            return _explain_bulk(question, bulk, binding, using)
        return Explanation(question, tuple(silence))
    if event.kind == Event.BULK:
        return _explain_bulk(question, event, binding, using)
    answers = [*explain_event(event, question.user, question.connection, binding, using)]
    if question.offset is None and binding is not None:
        missed, latest = _find_missed_write(question, event, binding, using)
        bulk = _find_bulk_of_row(question, binding, using, latest) if _is_uncaptured(missed) else None
        if bulk is not None:
            return _explain_bulk(question, bulk, binding, using)
        answers = [*missed, *answers]
    if held_back := load_withheld(using, question.stream).get(question.stream):
        answers.append(Answer(Cause.HELD_BACK, held_back))
    return Explanation(question, tuple(answers), event)


def _is_uncaptured(answers: Collection[Answer]) -> bool:
    causes = {answer.cause for answer in answers}
    # While marks of triggers are waiting, it is unknown whether the row belongs to a bulk event.
    return Cause.NOT_CAPTURED in causes and Cause.NOT_SEQUENCED not in causes


def _explain_bulk(question: Question, event: Event, binding: type[Binding] | None, using: str) -> Explanation:
    return Explanation(question, tuple(explain_bulk(event, question.user, question.connection, binding, using)), event)


def _find_bulk_of_row(
    question: Question, binding: type[Binding] | None, using: str, latest: Event | None = None
) -> Event | None:
    """Return the bulk event that may have been for a row: after its own last event, to one of its groups."""
    if binding is None:
        return None
    row = load_row(binding, question.row, using)
    groups = row_groups(binding(using=using), row) if row is not None else []
    if latest is not None:
        groups += [group for group, _ in groups_of(latest)]
    return find_bulk(question.stream, groups, using, after=latest, at=question.at, window=WINDOW)


# --- announced changes --------------------------------------------------------------------------------------------


def find_event(question: Question, binding: type[Binding] | None, using: str) -> Event | None:
    """Return the change in question: the one at the offset, the nearest to the time, or the row's last one."""
    events = shown(Event, using).filter(stream=question.stream).exclude(kind__in=(Event.CONTROL, Event.MARK))
    if question.offset is not None:
        return events.filter(**{history.offset_column(using): question.offset}).first()
    events = events.filter(object_pk__in=_keys(question.row, binding)).order_by("-pk")
    if question.at is None:
        return events.first()
    near = events.filter(created_at__range=(question.at - WINDOW, question.at + WINDOW))
    at = question.at
    return min(near[:200], key=lambda event: abs(event.created_at - at), default=None)


def _keys(row: str, binding: type[Binding] | None) -> set[str]:
    """Return the forms in which the log may hold a typed key."""
    keys = {json.dumps(row)}
    if binding is not None:
        try:
            key = binding.model_class()._meta.pk
            keys.add(encode_key(value_validation.coerce(key, row), key))
        except ValueError:
            pass
    elif row.lstrip("-").isdigit():
        keys.add(row)
    return keys


# --- writes without a change --------------------------------------------------------------------------------------


def _explain_silence(question: Question, binding: type[Binding] | None, using: str) -> Iterator[Answer]:
    yield from _explain_binding(question, binding, using)
    if binding is None or not binding.spec().outbound:
        return
    oldest = _oldest_kept(using)
    at = question.at
    if question.offset is not None and question.offset < log.load_head(using).min_offset:
        yield Answer(Cause.EXPIRED, f"The log begins at offset {log.load_head(using).min_offset}.")
        return
    if at is not None and oldest is not None and at < oldest:
        yield Answer(Cause.EXPIRED, "The log no longer reaches back so far.", (("the oldest change kept", oldest),))
        return
    kept = binding.spec().retention
    if at is not None and kept is not None and at < timezone.now() - timedelta(seconds=kept):
        yield Answer(Cause.EXPIRED, f"The log keeps values of this binding for {kept} s.", (("retention", kept),))
        return
    failed = _find_failure(question, using)
    if failed is not None:
        yield Answer(Cause.BINDING_FAILED, failed.message, (("time", failed.at), ("error", failed.outcome)))
        return
    edit = _find_edit(question.stream, at, using) if at is not None else None
    if edit is not None:
        yield Answer(
            Cause.OLD_VERSION,
            f"The binding was changed {edit.created_at:%H:%M:%S}; for {changes.grace().total_seconds():g} s after that "
            "some process may have written under the configuration before.",
            (("configuration version", edit.version), ("changed at", edit.created_at)),
        )
    yield from _explain_row(question, binding, using)


def _explain_binding(question: Question, binding: type[Binding] | None, using: str) -> Iterator[Answer]:
    entry = get_registry().entry(question.stream)
    revision = _revision_at(question, using)
    if binding is None and entry is None:
        removed = BindingRevision.objects.using(using).filter(stream=question.stream, definition__isnull=True).first()
        evidence = (("removed at", removed.created_at), ("by", removed.author_name)) if removed else ()
        yield Answer(Cause.NO_BINDING, f"There is no binding {question.stream!r}.", evidence)
    elif entry is not None and entry.problems:
        text = " ".join(str(problem) for problem in entry.problems[:3])
        yield Answer(Cause.NOT_IN_FORCE, f"It is invalid: {text}", (("defined in", entry.where),))
    elif binding is None:
        yield Answer(Cause.NOT_IN_FORCE, "It is disabled now.")
    elif not binding.spec().outbound:
        yield Answer(Cause.CLOSED_DIRECTION, f"Its direction is {binding.spec().direction!r}.")
    elif question.at is not None and revision is not None and not _was_in_force(revision):
        yield Answer(
            Cause.NOT_IN_FORCE,
            "It was not in force at that time.",
            (("since", revision.created_at), ("configuration version", revision.version)),
        )


def _explain_row(question: Question, binding: type[Binding], using: str) -> Iterator[Answer]:
    """Examine the row as it is stored now."""
    model = binding.model_class()
    label = model._meta.label
    alias = foreign_database(binding)
    if alias:
        text = f"{label} is written to database {alias!r}, where changes are not captured."
        yield from explain_uncaptured(binding, text, (), using)
        return
    row = load_row(binding, question.row, using)
    if row is None:
        yield Answer(
            Cause.ROLLED_BACK, f"There is no {label} with the key {question.row}, and nothing of it is in the log."
        )
        return
    bound = binding(using=using)
    if not bound.get_queryset().filter(pk=row.pk).exists():
        conditions = ", ".join(f"{name} = {value}" for name, value in bound.resolved().spec.where.items())
        yield Answer(Cause.OUTSIDE_WHERE, f"{label} {question.row} is not one where {conditions}.")
        return
    if not row_groups(bound, row):
        empty = sorted(
            name
            for template, names in bound.resolved().templates
            for name, attname in names
            if getattr(row, attname, None) is None
        )
        yield Answer(Cause.NO_GROUP, f"{', '.join(empty) or 'The code of the binding'} gives no group for this row.")
        return
    latest = find_latest(question.stream, _keys(question.row, binding), using)
    if latest is not None and compare(binding, row, latest, using) == []:
        yield Answer(
            Cause.ROLLED_BACK,
            "The stored row equals its last announcement, so nothing was committed near that time.",
            (("the last change announced", latest.created_at),),
        )
        return
    since = " near that time" if question.at is not None else ", perhaps because it was not written since it is bound"
    yield from explain_uncaptured(
        binding,
        f"{label} {question.row} is there, and the log has no change of it{since}.",
        (("groups it would be in", ", ".join(row_groups(bound, row))),),
        using,
    )


def _find_missed_write(
    question: Question, event: Event, binding: type[Binding], using: str
) -> tuple[list[Answer], Event | None]:
    """Return that the row was written since its last event, if they differ, and that event."""
    row = load_row(binding, question.row, using)
    latest = find_latest(event.stream, {event.object_pk}, using)
    if latest is None:
        return [], None
    if row is not None:
        differs = compare(binding, row, latest, using)
        text = f"What is stored is not what was announced last: {', '.join(differs or ())}."
    else:
        differs = ["the row"] if says_it_is_there(latest) else []
        text = "The row is gone, and the log does not say so."
    if not differs:
        return [], latest
    # The row may have been announced between the two reads.
    newest = find_latest(event.stream, {event.object_pk}, using)
    if newest is None or newest.pk != latest.pk:
        return [], latest
    evidence = (("the last change announced", latest.created_at), ("by", describe_writer(latest.actor, latest.origin)))
    return list(explain_uncaptured(binding, text, evidence, using)), latest


# --- evidence ---------------------------------------------------------------------------------------------------------


def _oldest_kept(using: str) -> datetime | None:
    column = history.offset_column(using)
    return shown(Event, using).order_by(column).values_list("created_at", flat=True).first()


def _find_failure(question: Question, using: str) -> Traffic | None:
    rows = shown(Traffic, using).filter(kind=Traffic.ERROR, stream=question.stream, object_pk=question.row)
    if question.at is not None:
        rows = rows.filter(at__range=(question.at - WINDOW, question.at + WINDOW))
    return rows.order_by("-pk").first()


def _revision_at(question: Question, using: str) -> BindingRevision | None:
    rows = BindingRevision.objects.using(using).filter(stream=question.stream)
    return rows.filter(created_at__lte=question.at).first() if question.at is not None else rows.first()


def _was_in_force(revision: BindingRevision) -> bool:
    return revision.definition is not None and revision.definition.get("enabled", True)


def _find_edit(stream: str, at: datetime, using: str) -> BindingRevision | None:
    """Return the edit of the binding that some writer may not have known yet."""
    rows = BindingRevision.objects.using(using).filter(stream=stream)
    return rows.filter(created_at__range=(at - changes.grace(), at)).first()
