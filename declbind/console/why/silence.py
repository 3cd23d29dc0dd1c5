"""Explanations of a row without a change at the time in question."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.utils import timezone

from declbind.bindings import Binding
from declbind.checks import foreign_database
from declbind.console.times import format_distance, format_time
from declbind.live import changes
from declbind.models import Event
from declbind.outbound import sessions

from .answer import Answer, cannot_tell, likely
from .case import Case
from .causes import Cause
from .definitions import PLACING
from .elsewhere import find_change, find_other_rows, find_relatives, last_key
from .events import events_of, groups_of, offset_of
from .missed import explain_alternatives, explain_missed_write, explain_uncaptured
from .question import NEAR, WINDOW

#: A key that is this far above the last one may belong to a row that was rolled back.
NEW_KEYS = 20
NAME_THE_TIME = "Name the time of the write."
REPEAT = "Repeat the write while you watch the live page."


def explain_silence(case: Case) -> Iterator[Answer]:
    """Yield why there is no change of the row at the time, for a binding that sends."""
    if case.is_named:
        yield from _explain_offset(case)
        return
    expired = _explain_expiry(case)
    if expired is not None and expired.certainty.rank == 0:
        yield expired
        return
    edit = _explain_edit(case)
    if edit is not None:
        yield edit
    assert case.binding is not None
    yield from _explain_row(case, case.binding, expired)


def explain_quiet(case: Case) -> Iterator[Answer]:
    """Yield why nothing was announced at the time, although the stored row equals its last announcement."""
    yield from _explain_open_transaction(case)
    yield from _explain_other_places(case)
    yield from _explain_hidden(case)
    latest, after = case.latest, case.neighbours.after
    evidence = (("the last change announced", latest.created_at),) if latest is not None else ()
    if after is not None and case.at is not None and after.created_at - case.at > NEAR:
        yield cannot_tell(
            Cause.UNEXPLAINED,
            f"The row was written again at {format_time(after.created_at)}, so its values at the time asked are not "
            "stored any more. The write was rolled back, changed nothing, or left no event.",
            "What the row held then. If database triggers capture the table, later writes leave a trace.",
            *evidence,
            advice=REPEAT,
        )
        return
    near = " near that time" if case.at is not None else " since then"
    yield likely(
        Cause.ROLLED_BACK,
        f"The stored row equals its last announcement, so nothing that lasted was committed{near}.",
        f"The log of the program that wrote the row. {REPEAT}",
        *evidence,
    )


# --- the log ----------------------------------------------------------------------------------------------------------


def _explain_offset(case: Case) -> Iterator[Answer]:
    offset = case.question.offset
    assert offset is not None
    if offset < case.head.min_offset:
        yield Answer(Cause.EXPIRED, f"The log begins at offset {case.head.min_offset}.")
    elif offset > case.head.offset:
        yield cannot_tell(
            Cause.UNEXPLAINED, f"The log ends at offset {case.head.offset}.", "A change with this offset."
        )
    else:
        yield cannot_tell(
            Cause.UNEXPLAINED,
            f"The change at offset {offset} is not one of stream {case.question.stream!r}.",
            "The right stream, or the right offset.",
        )


def _explain_expiry(case: Case) -> Answer | None:
    """Return that the change may have been removed from the log."""
    at, oldest, trimmed = case.at, case.oldest, case.trimmed_until
    kept = case.binding.spec().retention if case.binding is not None else None
    if at is None:
        if case.latest is None and trimmed is not None:
            reach = (("trimmed until", trimmed), *((("the oldest change kept", oldest),) if oldest is not None else ()))
            return likely(
                Cause.EXPIRED,
                "The log holds no change of the row, and its beginning was removed.",
                NAME_THE_TIME,
                *reach,
            )
        return _explain_emptied(case)
    if trimmed is not None and at <= trimmed:
        evidence = (("trimmed until", trimmed), *((("the oldest change kept", oldest),) if oldest is not None else ()))
        return Answer(Cause.EXPIRED, "The log no longer reaches back so far.", evidence)
    if trimmed is not None and at <= trimmed + WINDOW:
        return likely(
            Cause.EXPIRED,
            f"The changes up to {format_distance(at - trimmed)} before the time asked were removed from the log.",
            "Name the time more exactly.",
            ("trimmed until", trimmed),
        )
    if oldest is not None and at < oldest and case.head.min_offset > 1:
        return likely(
            Cause.EXPIRED,
            "The log does not reach back so far.",
            "When the log began is not known.",
            ("the oldest change kept", oldest),
        )
    if kept is not None and at < timezone.now() - timedelta(seconds=kept):
        return Answer(Cause.EXPIRED, f"The log keeps values of this binding for {kept} s.", (("retention", kept),))
    return _explain_emptied(case)


def _explain_emptied(case: Case) -> Answer | None:
    """Return that an event of the stream, whose row is no longer known, may have been the one."""
    events = events_of(case.question.stream, case.using).filter(kind=Event.EXPIRED)
    if case.at is not None:
        events = events.filter(created_at__range=(case.at - WINDOW, case.at + WINDOW))
    elif case.latest is not None:
        return None
    found = events.order_by("-pk").first()
    if found is None:
        return None
    return likely(
        Cause.EXPIRED,
        f"The values and the row of the change at {format_time(found.created_at)} were removed from the log.",
        "Nothing: the key of that change is not kept.",
        ("offset", offset_of(found)),
    )


def _explain_edit(case: Case) -> Answer | None:
    """Return that the binding began to show more shortly before, when a writer may not have known it yet."""
    if case.at is None:
        return None
    grace = changes.grace()
    for edit in case.definitions.edges_near(case.at - grace, case.at):
        before = case.definitions.before(edit)
        if changes.shows_more(before.definition if before is not None else None, edit.definition):
            return likely(
                Cause.OLD_VERSION,
                f"The binding was changed at {format_time(edit.created_at)}; for {grace.total_seconds():g} s after "
                "that some process may have written under the configuration before. Open connections were then sent a "
                "`resync`.",
                "Compare the version of each process with `manage.py declbind processes`.",
                ("configuration version", edit.version),
                ("changed at", edit.created_at),
            )
    return None


# --- the row ----------------------------------------------------------------------------------------------------------


def _explain_row(case: Case, binding: type[Binding], expired: Answer | None) -> Iterator[Answer]:
    """Examine the row as it is stored now."""
    label, row = binding.model_class()._meta.label, case.row
    alias = foreign_database(binding)
    if alias:
        text = f"{label} is written to database {alias!r}, where changes are not captured."
        yield from explain_uncaptured(binding, text, (), case.using)
        return
    if row is None:
        yield from _explain_no_row(case, binding, expired)
        return
    bound = binding(using=case.using)
    if not bound.get_queryset().filter(pk=row.pk).exists():
        conditions = ", ".join(f"{name} = {value}" for name, value in bound.resolved().spec.where.items())
        answer = Answer(Cause.OUTSIDE_WHERE, f"{label} {case.question.row} is not one where {conditions}.")
        yield from _weigh_hidden(case, answer)
        return
    if not case.groups:
        empty = sorted(
            name
            for template, names in bound.resolved().templates
            for name, attname in names
            if getattr(row, attname, None) is None
        )
        text = f"{', '.join(empty) or 'The code of the binding'} gives no group for this row."
        yield from _weigh_hidden(case, Answer(Cause.NO_GROUP, text))
        return
    if case.latest is not None:
        missed = list(explain_missed_write(case))
        yield from missed
        if expired is not None:
            yield expired
        if not missed:
            yield from explain_quiet(case)
        return
    yield from _explain_unannounced(case, binding, expired)


def _weigh_hidden(case: Case, answer: Answer) -> Iterator[Answer]:
    """Yield that the row is hidden now: for certain, unless it was still shown by its last event."""
    missed = list(explain_missed_write(case)) if case.latest is not None else []
    is_shown = case.latest is not None and any(action != "delete" for _, action in groups_of(case.latest))
    if is_shown:
        yield from missed
        yield answer.weaken("The row may have been moved there later. Name the time of the write.")
    elif case.definitions.has_moved_since(case.at, PLACING):
        yield answer.weaken("The conditions or groups of the binding were edited since. Name the time of the write.")
    else:
        yield answer


def _explain_unannounced(case: Case, binding: type[Binding], expired: Answer | None) -> Iterator[Answer]:
    label = binding.model_class()._meta.label
    since = " near that time" if case.at is not None else ", perhaps because it was not written since it is bound"
    settle = (
        f"Whether the row was written while it was bound is not known. {NAME_THE_TIME if case.at is None else REPEAT}"
    )
    if expired is not None:
        yield expired
    answers = list(
        explain_uncaptured(
            binding,
            f"{label} {case.question.row} is there, and the log has no change of it{since}.",
            (("groups it would be in", ", ".join(case.groups)),),
            case.using,
            settle,
        )
    )
    yield from _explain_open_transaction(case)
    yield from explain_alternatives(case, answers, None)
    yield from _explain_other_places(case)


def _explain_no_row(case: Case, binding: type[Binding], expired: Answer | None) -> Iterator[Answer]:
    label, key = binding.model_class()._meta.label, case.question.row
    missed = list(explain_missed_write(case))
    if missed:
        yield from missed
        return
    others = list(_explain_other_places(case))
    if others:
        yield from others
        return
    if case.latest is not None:
        yield likely(
            Cause.ROLLED_BACK,
            f"The row was deleted at {format_time(case.latest.created_at)}, as the log says. No later write of it is "
            "stored.",
            f"The log of the program that wrote the row. {REPEAT}",
            ("offset", offset_of(case.latest)),
        )
        return
    if expired is not None:
        yield expired
    pk = binding.model_class()._meta.pk
    try:
        pk.to_python(key)
        number = int(key) if pk.get_internal_type().endswith("AutoField") else None
    except Exception:  # each field raises its own exception
        yield Answer(Cause.WRONG_KEY, f"{key!r} cannot be a key of {label}.", (("the key's field", pk.name),))
        return
    yield from _explain_open_transaction(case)
    last = last_key(binding, case.using)
    text = f"There is no {label} with the key {key}, and nothing of it is in the log."
    if number is not None and last is not None and not 0 < number <= last + NEW_KEYS:
        yield likely(
            Cause.WRONG_KEY, text, "Look the key up in the admin's list of the model.", ("the last key given out", last)
        )
        return
    evidence = (("the last key given out", last),) if last is not None else ()
    yield likely(
        Cause.ROLLED_BACK, text, "The log of the program that wrote the row, and whether the key is right.", *evidence
    )
    if number is None:
        yield cannot_tell(Cause.WRONG_KEY, text, "The key of the row as the database has it.")


# --- other explanations of a row that is what was announced -----------------------------------------------------------


def _explain_open_transaction(case: Case) -> Iterator[Answer]:
    binding = case.binding
    if binding is None:
        return
    model = binding.model_class()
    locked = case.row is not None and sessions.is_row_locked(
        model._base_manager.using(case.using).filter(pk=case.row.pk), case.using
    )
    writers = sessions.find_writers(model._meta.db_table, case.using)
    first = writers[0] if writers else None
    evidence = first.evidence if first is not None and first.pid else ()
    age = sessions.age_of(first) if first is not None else None
    since = f", open for {format_distance(age)}" if age is not None else ""
    if locked:
        answer = Answer(Cause.OPEN_TRANSACTION, f"Another transaction holds the lock of the row{since}.", evidence)
        has_written = first is not None and first.writes_table
        yield (
            answer if has_written else answer.weaken("Whether that transaction has written the row, or only locked it.")
        )
    elif first is not None and _may_hold_it(first, case):
        table = f" to {model._meta.db_table}" if first.writes_table else ""
        yield likely(
            Cause.OPEN_TRANSACTION,
            f"A transaction that has written{table} has not ended{since}.",
            "Ask again when it has ended.",
            *evidence,
        )


def _may_hold_it(session: sessions.Session, case: Case) -> bool:
    """Return whether a transaction may be that of the write: it has written the table, and began before the time."""
    if session.began_at is not None and case.at is not None and session.began_at > case.at + WINDOW:
        return False
    # Only PostgreSQL shows states, and with them the tables.
    return session.writes_table or not session.state


def _explain_other_places(case: Case) -> Iterator[Answer]:
    binding, key = case.binding, case.question.row
    if binding is None:
        return
    label = binding.model_class()._meta.label
    for other in find_other_rows(binding, key, case.row, case.using):
        text = f"Database {other.alias!r} has {label} {key}"
        if case.row is None:
            yield Answer(Cause.OTHER_DATABASE, f"{text}, and database {case.using!r} has not.")
        elif other.differs:
            yield likely(Cause.OTHER_DATABASE, f"{text} with other values.", "Whether the program used that database.")
    for relative in find_relatives(binding, key, case.using):
        kind = "parent" if relative.is_parent else "child"
        streams = ", ".join(relative.streams) or "no stream"
        if case.row is None and relative.is_parent:
            yield Answer(
                Cause.OTHER_MODEL,
                f"The key belongs to a {relative.label} that is no {label}. It is sent by {streams}.",
            )
            continue
        since = case.at - NEAR if case.at is not None else case.latest.created_at if case.latest is not None else None
        change = find_change(relative, key, since, case.using)
        if change is not None and (case.at is None or change.created_at <= case.at + WINDOW):
            yield likely(
                Cause.OTHER_MODEL,
                f"The {kind} {relative.label} of the row was changed at {format_time(change.created_at)}, which stream "
                f"{change.stream!r} sent.",
                f"Ask about stream {change.stream!r}.",
                ("offset", offset_of(change)),
            )
        elif not relative.is_parent and case.row is not None:
            yield cannot_tell(
                Cause.OTHER_MODEL,
                f"The row is a {relative.label} too. Columns of that model are not sent by {case.question.stream!r}.",
                "Which columns were written.",
            )


def _explain_hidden(case: Case) -> Iterator[Answer]:
    """Yield that the row was outside of the conditions, or in no group, at a time between two of its events."""
    binding, after, before = case.binding, case.neighbours.after, case.neighbours.before
    if binding is None or case.at is None or after is None:
        return
    if not all(action == "create" for _, action in groups_of(after)):
        return
    was_hidden = before is not None and all(action == "delete" for _, action in groups_of(before))
    cause = Cause.OUTSIDE_WHERE if binding.spec().where else Cause.NO_GROUP
    if before is None or was_hidden:
        what = "left what this stream sends" if was_hidden else "was not sent before"
        yield likely(
            cause,
            f"The row {what}, and came in only at {format_time(after.created_at)}.",
            "Whether the row existed at that time." if before is None else "What the row held at that time.",
            ("the change after", after.created_at),
        )
