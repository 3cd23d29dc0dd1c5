"""Explanations of a row without a change at the time in question."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from declbind.bindings import Binding
from declbind.checks import foreign_database
from declbind.console.times import format_distance, format_time
from declbind.live import changes
from declbind.models import Event

from .answer import Answer, cannot_tell, likely
from .case import Case
from .causes import Cause
from .definitions import PLACING
from .elsewhere import find_change, find_other_rows, find_relatives, last_key
from .events import events_of, groups_of, offset_of
from .missed import explain_alternatives, explain_missed_write, explain_uncaptured
from .question import NEAR, WINDOW
from .transactions import explain_open_transaction

#: A key that is this far above the last one may belong to a row that was rolled back.
NEW_KEYS = 20
NAME_THE_TIME = _("Name the time of the write.")
REPEAT = _("Repeat the write while you watch the live page.")
PROGRAM_LOG = _("The log of the program that wrote the row.")


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
    yield from explain_open_transaction(case)
    yield from _explain_other_places(case)
    yield from _explain_hidden(case)
    latest, after = case.latest, case.neighbours.after
    evidence = ((gettext("the last change announced"), latest.created_at),) if latest is not None else ()
    if after is not None and case.at is not None and after.created_at - case.at > NEAR:
        text = gettext(
            "The row was written again at %(time)s, so its values at the time asked are not stored any more. The write "
            "was rolled back, changed nothing, or left no event."
        ) % {"time": format_time(after.created_at)}
        missing = gettext("What the row held then. If database triggers capture the table, later writes leave a trace.")
        yield cannot_tell(Cause.UNEXPLAINED, text, missing, *evidence, advice=str(REPEAT))
        return
    text = (
        gettext("The stored row equals its last announcement, so nothing that lasted was committed since then.")
        if case.at is None
        else gettext(
            "The stored row equals its last announcement, so nothing that lasted was committed near that time."
        )
    )
    yield likely(Cause.ROLLED_BACK, text, f"{PROGRAM_LOG} {REPEAT}", *evidence)


# --- the log ----------------------------------------------------------------------------------------------------------


def _explain_offset(case: Case) -> Iterator[Answer]:
    offset = case.question.offset
    assert offset is not None
    if offset < case.head.min_offset:
        text = gettext("The log begins at offset %(offset)s.") % {"offset": case.head.min_offset}
        yield Answer(Cause.EXPIRED, text)
    elif offset > case.head.offset:
        text = gettext("The log ends at offset %(offset)s.") % {"offset": case.head.offset}
        yield cannot_tell(Cause.UNEXPLAINED, text, gettext("A change with this offset."))
    else:
        text = gettext("The change at offset %(offset)s is not one of stream %(stream)r.")
        yield cannot_tell(
            Cause.UNEXPLAINED,
            text % {"offset": offset, "stream": case.question.stream},
            gettext("The right stream, or the right offset."),
        )


def _explain_expiry(case: Case) -> Answer | None:
    """Return that the change may have been removed from the log."""
    at, oldest, trimmed = case.at, case.oldest, case.trimmed_until
    kept = case.binding.spec().retention if case.binding is not None else None
    kept_since = ((gettext("the oldest change kept"), oldest),) if oldest is not None else ()
    if at is None:
        if case.latest is None and trimmed is not None:
            text = gettext("The log holds no change of the row, and its beginning was removed.")
            reach = ((gettext("trimmed until"), trimmed), *kept_since)
            return likely(Cause.EXPIRED, text, str(NAME_THE_TIME), *reach)
        return _explain_emptied(case)
    if trimmed is not None and at <= trimmed:
        reach = ((gettext("trimmed until"), trimmed), *kept_since)
        return Answer(Cause.EXPIRED, gettext("The log no longer reaches back so far."), reach)
    if trimmed is not None and at <= trimmed + WINDOW:
        text = gettext("The changes up to %(distance)s before the time asked were removed from the log.")
        text %= {"distance": format_distance(at - trimmed)}
        reach = ((gettext("trimmed until"), trimmed), *kept_since)
        return likely(Cause.EXPIRED, text, gettext("Name the time more exactly."), *reach)
    if oldest is not None and at < oldest and case.head.min_offset > 1:
        text, settle = gettext("The log does not reach back so far."), gettext("When the log began is not known.")
        return likely(Cause.EXPIRED, text, settle, *kept_since)
    if kept is not None and at < timezone.now() - timedelta(seconds=kept):
        text = gettext("The log keeps values of this binding for %(seconds)s s.") % {"seconds": kept}
        return Answer(Cause.EXPIRED, text, ((gettext("retention"), kept),))
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
        gettext("The values and the row of the change at %(time)s were removed from the log.")
        % {"time": format_time(found.created_at)},
        gettext("Nothing: the key of that change is not kept."),
        (gettext("offset"), offset_of(found)),
    )


def _explain_edit(case: Case) -> Answer | None:
    """Return that the binding began to show more shortly before, when a writer may not have known it yet."""
    if case.at is None:
        return None
    grace = changes.grace()
    for edit in case.definitions.edges_near(case.at - grace, case.at):
        before = case.definitions.before(edit)
        if changes.shows_more(before.definition if before is not None else None, edit.definition):
            text = gettext(
                "The binding was changed at %(time)s; for %(seconds)s s after that some process may have written under "
                "the configuration before. Open connections were then sent a `resync`."
            ) % {"time": format_time(edit.created_at), "seconds": f"{grace.total_seconds():g}"}
            return likely(
                Cause.OLD_VERSION,
                text,
                gettext("Compare the version of each process with `manage.py declbind processes`."),
                (gettext("configuration version"), edit.version),
                (gettext("changed at"), edit.created_at),
            )
    return None


# --- the row ----------------------------------------------------------------------------------------------------------


def _explain_row(case: Case, binding: type[Binding], expired: Answer | None) -> Iterator[Answer]:
    """Examine the row as it is stored now."""
    label, row = binding.model_class()._meta.label, case.row
    alias = foreign_database(binding)
    if alias:
        text = gettext("%(model)s is written to database %(database)r, where changes are not captured.")
        yield from explain_uncaptured(binding, text % {"model": label, "database": alias}, (), case.using)
        return
    if row is None:
        yield from _explain_no_row(case, binding, expired)
        return
    bound = binding(using=case.using)
    if not bound.get_queryset().filter(pk=row.pk).exists():
        conditions = ", ".join(f"{name} = {value}" for name, value in bound.resolved().spec.where.items())
        text = gettext("%(model)s %(key)s is not one where %(conditions)s.") % {
            "model": label,
            "key": case.question.row,
            "conditions": conditions,
        }
        yield from _weigh_hidden(case, Answer(Cause.OUTSIDE_WHERE, text))
        return
    if not case.groups:
        empty = sorted(
            name
            for template, names in bound.resolved().templates
            for name, attname in names
            if getattr(row, attname, None) is None
        )
        text = (
            gettext("%(fields)s gives no group for this row.") % {"fields": ", ".join(empty)}
            if empty
            else gettext("The code of the binding gives no group for this row.")
        )
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
        yield answer.weaken(gettext("The row may have been moved there later. Name the time of the write."))
    elif case.definitions.has_moved_since(case.at, PLACING):
        yield answer.weaken(
            gettext("The conditions or groups of the binding were edited since. Name the time of the write.")
        )
    else:
        yield answer


def _explain_unannounced(case: Case, binding: type[Binding], expired: Answer | None) -> Iterator[Answer]:
    if expired is not None:
        yield expired
    text = (
        gettext(
            "%(model)s %(key)s is there, and the log has no change of it, perhaps because it was not written since it "
            "is bound."
        )
        if case.at is None
        else gettext("%(model)s %(key)s is there, and the log has no change of it near that time.")
    )
    text %= {"model": binding.model_class()._meta.label, "key": case.question.row}
    unknown = gettext("Whether the row was written while it was bound is not known.")
    settle = f"{unknown} {NAME_THE_TIME if case.at is None else REPEAT}"
    groups = ((gettext("groups it would be in"), ", ".join(case.groups)),)
    answers = list(explain_uncaptured(binding, text, groups, case.using, settle))
    yield from explain_open_transaction(case)
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
        text = gettext("The row was deleted at %(time)s, as the log says. No later write of it is stored.")
        text %= {"time": format_time(case.latest.created_at)}
        number = (gettext("offset"), offset_of(case.latest))
        yield likely(Cause.ROLLED_BACK, text, f"{PROGRAM_LOG} {REPEAT}", number)
        return
    if expired is not None:
        yield expired
    yield from _explain_no_trace(case, binding, label, key)


def _explain_no_trace(case: Case, binding: type[Binding], label: str, key: str) -> Iterator[Answer]:
    """Yield why neither the table nor the log has a row with the key."""
    pk = binding.model_class()._meta.pk
    try:
        pk.to_python(key)
        number = int(key) if pk.get_internal_type().endswith("AutoField") else None
    except Exception:  # each field raises its own exception
        text = gettext("%(key)r cannot be a key of %(model)s.") % {"key": key, "model": label}
        yield Answer(Cause.WRONG_KEY, text, ((gettext("the key's field"), pk.name),))
        return
    yield from explain_open_transaction(case)
    last = last_key(binding, case.using)
    text = gettext("There is no %(model)s with the key %(key)s, and nothing of it is in the log.")
    text %= {"model": label, "key": key}
    evidence = ((gettext("the last key given out"), last),) if last is not None else ()
    if number is not None and last is not None and not 0 < number <= last + NEW_KEYS:
        yield likely(Cause.WRONG_KEY, text, gettext("Look the key up in the admin's list of the model."), *evidence)
        return
    settle = gettext("The log of the program that wrote the row, and whether the key is right.")
    yield likely(Cause.ROLLED_BACK, text, settle, *evidence)
    if number is None:
        yield cannot_tell(Cause.WRONG_KEY, text, gettext("The key of the row as the database has it."))


# --- other explanations of a row that is what was announced -----------------------------------------------------------


def _explain_other_places(case: Case) -> Iterator[Answer]:
    binding, key = case.binding, case.question.row
    if binding is None:
        return
    label = binding.model_class()._meta.label
    for other in find_other_rows(binding, key, case.row, case.using):
        words = {"other": other.alias, "model": label, "key": key, "own": case.using}
        if case.row is None:
            text = gettext("Database %(other)r has %(model)s %(key)s, and database %(own)r has not.") % words
            yield Answer(Cause.OTHER_DATABASE, text)
        elif other.differs:
            text = gettext("Database %(other)r has %(model)s %(key)s with other values.") % words
            yield likely(Cause.OTHER_DATABASE, text, gettext("Whether the program used that database."))
    for relative in find_relatives(binding, key, case.using):
        if case.row is None and relative.is_parent:
            text = gettext("The key belongs to a %(other)s that is no %(model)s. It is sent by %(streams)s.") % {
                "other": relative.label,
                "model": label,
                "streams": ", ".join(relative.streams) or gettext("no stream"),
            }
            yield Answer(Cause.OTHER_MODEL, text)
            continue
        since = case.at - NEAR if case.at is not None else case.latest.created_at if case.latest is not None else None
        change = find_change(relative, key, since, case.using)
        if change is not None and (case.at is None or change.created_at <= case.at + WINDOW):
            text = (
                gettext("The parent %(other)s of the row was changed at %(time)s, which stream %(stream)r sent.")
                if relative.is_parent
                else gettext("The child %(other)s of the row was changed at %(time)s, which stream %(stream)r sent.")
            )
            text %= {"other": relative.label, "time": format_time(change.created_at), "stream": change.stream}
            settle = gettext("Ask about stream %(stream)r.") % {"stream": change.stream}
            yield likely(Cause.OTHER_MODEL, text, settle, (gettext("offset"), offset_of(change)))
        elif not relative.is_parent and case.row is not None:
            text = gettext("The row is a %(other)s too. Columns of that model are not sent by %(stream)r.")
            text %= {"other": relative.label, "stream": case.question.stream}
            yield cannot_tell(Cause.OTHER_MODEL, text, gettext("Which columns were written."))


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
        text = (
            gettext("The row left what this stream sends, and came in only at %(time)s.")
            if was_hidden
            else gettext("The row was not sent before, and came in only at %(time)s.")
        )
        settle = (
            gettext("Whether the row existed at that time.")
            if before is None
            else gettext("What the row held at that time.")
        )
        text %= {"time": format_time(after.created_at)}
        yield likely(cause, text, settle, (gettext("the change after"), after.created_at))
