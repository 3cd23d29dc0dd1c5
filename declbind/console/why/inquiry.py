"""The course of an inquiry: which module is asked when, and how far its answers can be trusted.

Nothing is recorded for this. The log holds each change with its groups. The table of connections holds the offsets
from and to which each connection was subscribed to a group. Both together show whether a frame was delivered. For a
change that was never announced, the stored row is compared with its last event.

Only an offset names one change. By its key and a time, a row may have been written twice, so a change that was found
in this way is likely the one in question, and a certain answer about it needs facts that hold for any other as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from declbind.console.connections import describe_connections
from declbind.console.old_code import Present
from declbind.console.shown import shown
from declbind.console.times import format_distance, format_time
from declbind.console.withheld import load_withheld
from declbind.models import Connection, Event

from .absence import explain_unknown_user, is_user
from .answer import Answer
from .case import Case
from .causes import Cause
from .certainty import Certainty
from .clocks import explain_clocks, weaken_by_clocks
from .code import explain_maker, explain_old_processes, explain_old_writers
from .delivery import explain_event
from .events import groups_of, offset_at, offset_of
from .explanation import Explanation
from .failures import explain_failure
from .missed import explain_bulk, explain_missed_write
from .question import WINDOW, Question
from .refusals import explain_refused_write
from .rights import explain_rights
from .silence import explain_quiet, explain_silence
from .standing import explain_standing

#: The number of connections of a user that are examined.
MAX_CONNECTIONS = 200
#: Causes that concern the log as a whole, and so every change.
OF_THE_LOG = frozenset({Cause.NOT_SEQUENCED, Cause.NUMBERING_BLOCKED})
#: The processes store their connections once a second. What they do not show of the last seconds is not certain.
FRESH = timedelta(seconds=3)
BY_CONNECTIONS = frozenset({Cause.NOBODY_SUBSCRIBED, Cause.NOT_CONNECTED, Cause.NOT_SUBSCRIBED})
#: A connection keeps this many of its past subscriptions.
MAX_PAST = 100
#: Causes that an older process may explain as well.
BY_OLD_CODE = frozenset(
    {Cause.NOT_CAPTURED, Cause.NOT_SUBSCRIBED, Cause.REFUSED, Cause.UNEXPLAINED, Cause.NO_BINDING, Cause.OLD_VERSION}
)
OLD = frozenset({Cause.OLD_CODE, Cause.OLD_VERSION})
NAME_THE_OFFSET = _("Name the offset of the change, which the browser's network tab and the live page show.")


def explain(question: Question, using: str) -> Explanation:
    """Return why a change of a row arrived or did not.

    An unknown stream, row or user raises no exception.
    """
    case = Case.open(question, using)
    answers = weaken_by_clocks(list(_find_answers(case)), explain_clocks(case))
    if not case.is_named and any(answer.cause in BY_OLD_CODE for answer in answers):
        present = Present.load(using)
        answers += explain_old_processes(present)
        if not any(answer.cause in OLD for answer in answers):
            answers += explain_old_writers(present)
    # A request that was refused made no change, so none is shown as the one in question.
    event = None if any(map(_is_refusal, answers)) else case.event
    return Explanation(question, tuple(_order(answers)), event, case.neighbours.before, case.neighbours.after)


def _is_refusal(answer: Answer) -> bool:
    return answer.cause is Cause.WRITE_REFUSED and answer.certainty is Certainty.CERTAIN


def _order(answers: Iterable[Answer]) -> list[Answer]:
    """Return the answers with the surest first; a cause that is named twice for one connection is named once."""
    unique: dict[tuple[Cause, str, str], Answer] = {}
    for answer in answers:
        unique.setdefault((answer.cause, answer.connection, answer.text), answer)
    return sorted(unique.values(), key=lambda answer: answer.certainty.rank)


def _find_answers(case: Case) -> Iterator[Answer]:
    refusal = explain_refused_write(case)
    if refusal is not None:
        yield refusal
        if _is_refusal(refusal):
            return
    stranger = explain_unknown_user(case.question.user, case.using)
    if stranger is not None:
        yield stranger
    failure = explain_failure(case)
    if failure is not None:
        yield failure
    if case.event is None:
        found = list(explain_standing(case))
        yield from found
        is_over = case.binding is None or not case.binding.spec().outbound
        if not (is_over or any(answer.certainty is Certainty.CERTAIN for answer in found)):
            silence = list(explain_silence(case))
            yield from _weaken_all(silence, failure)
        return
    if case.event.kind in Event.WORDLESS:
        yield from explain_bulk(case, case.event, is_named=case.is_named)
        return
    yield from _explain_change(case, case.event, stranger is not None, failure)
    if held_back := load_withheld(case.using, case.question.stream).get(case.question.stream):
        yield Answer(Cause.HELD_BACK, held_back, certainty=Certainty.LIKELY, settle=str(NAME_THE_OFFSET))


def _weaken_all(answers: list[Answer], failure: Answer | None) -> Iterator[Answer]:
    """Yield what the stored row shows, which a fault of the binding explains as well."""
    for answer in answers:
        yield answer if failure is None else answer.weaken(gettext("The fault of the binding may explain this."))


def _explain_change(case: Case, event: Event, is_stranger: bool, failure: Answer | None) -> Iterator[Answer]:
    """Yield the answers about an event of the row, and about a write after it that left none."""
    question = case.question
    delivered: list[Answer] = []
    if not is_stranger:
        delivered = list(explain_event(event, question.user, question.connection, case.binding, case.using))
        delivered = explain_rights(case, delivered)
        delivered = _explain_maker(case, event, delivered)
    delivered = list(_weaken_fresh(case, event, delivered))
    if case.is_named:
        yield from delivered
        return
    missed = list(_weaken_all(list(explain_missed_write(case)), failure)) if case.binding is not None else []
    standing = [answer for answer in explain_standing(case) if case.at is not None or case.binding is None]
    # A write without an event came after the row's last one, and so after a change that another followed.
    is_later = case.is_near and case.latest is not None and case.latest.pk != event.pk
    if not is_later:
        yield from missed
    yield from (answer.weaken(gettext("The change in the log may be the one in question.")) for answer in standing)
    weighed = list(_weigh(case, event, delivered))
    if missed:
        weighed = [answer.weaken(gettext("The row was written again since this change.")) for answer in weighed]
    quiet = [] if missed or case.binding is None or not case.is_unchanged else list(explain_quiet(case))
    if any(answer.certainty is Certainty.CERTAIN for answer in weighed):
        quiet = []
    if case.at is None or case.is_near:
        yield from weighed
        if is_later:
            yield from missed
        yield from (answer.weaken(_other_write(case, event)) for answer in quiet)
    else:
        yield from quiet
        yield from weighed


def _explain_maker(case: Case, event: Event, answers: list[Answer]) -> list[Answer]:
    """Return answers about an event, with the process that made it if its code or configuration was another one."""
    made = explain_maker(case, event, Present.load(case.using))
    if made is None or any(answer.cause is Cause.OLD_VERSION for answer in answers):
        return answers
    has_sent = any(answer.cause is Cause.SENT for answer in answers)
    return [*answers, made] if has_sent else [made, *answers]


def _weaken_fresh(case: Case, event: Event, answers: list[Answer]) -> Iterator[Answer]:
    """Yield answers about connections, which may be older than what they are asked about."""
    newest = max(filter(None, (event.created_at, case.at if not case.is_named else None)))
    is_fresh = timezone.now() - newest < FRESH
    for answer in answers:
        if is_fresh and answer.cause in BY_CONNECTIONS:
            yield answer.weaken(
                gettext("Ask again in a few seconds: the processes store their connections once a second.")
            )
        else:
            yield answer


def _other_write(case: Case, event: Event) -> str:
    if case.at is None:
        text = gettext("Name the time, if another write than that of %(time)s is meant.")
        return text % {"time": format_time(event.created_at)}
    return str(NAME_THE_OFFSET)


def _weigh(case: Case, event: Event, answers: list[Answer]) -> Iterator[Answer]:
    """Yield answers about an event that was found by its row and a time, as far as they hold for another one too."""
    has_sent = any(answer.cause is Cause.SENT for answer in answers)
    is_steady = not has_sent and _is_steady(case, event)
    if case.at is None:
        doubt = gettext("The last change in the log, of %(time)s, is taken.")
        doubt %= {"time": format_time(event.created_at)}
    else:
        doubt = (
            gettext("The change in the log is %(distance)s before the time asked.")
            if event.created_at <= case.at
            else gettext("The change in the log is %(distance)s after the time asked.")
        )
        doubt %= {"distance": format_distance(event.created_at - case.at)}
    doubt = f"{doubt} {NAME_THE_OFFSET}"
    for answer in answers:
        if answer.cause in OF_THE_LOG or (is_steady and answer.cause is not Cause.OLD_VERSION):
            yield answer
        else:
            yield answer.weaken(doubt)


def _is_steady(case: Case, event: Event) -> bool:
    """Return whether no client in question would have received any other change of the row at about that time."""
    question = case.question
    rows = shown(Connection, case.using)
    if question.connection:
        rows = rows.filter(pk=question.connection)
    elif question.user:
        rows = rows.filter(is_user(question.user))
    groups = {*case.groups, *(group for group, _ in groups_of(event))}
    low = high = None
    if case.at is not None:
        moments = (event.created_at, case.at - WINDOW, case.at + WINDOW)
        low = offset_at(min(moments), case.using)
        high = max(offset_at(max(moments) + timedelta(seconds=1), case.using), offset_of(event) or 0) + 1
        rows = rows.exclude(closed_at__lt=min(moments)).filter(opened_at__lte=max(moments))
    found = list(rows.order_by("-opened_at")[: MAX_CONNECTIONS + 1])
    if len(found) > MAX_CONNECTIONS:
        return False
    for connection in describe_connections(found, case.using):
        if len(connection.subscriptions) >= MAX_PAST:
            return False
        for subscription in connection.subscriptions:
            if subscription.stream != question.stream or subscription.group not in groups:
                continue
            if low is None or high is None:
                return False
            if subscription.after < high and (subscription.until is None or subscription.until > low):
                return False
    return True
