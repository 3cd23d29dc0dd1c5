"""The delivery of an announced change to each connection of a user: sent, missed, or not subscribed to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial

from django.db.models import Q
from django.utils import timezone

from declbind.bindings import Binding
from declbind.console.bulk import is_concerned, list_groups
from declbind.console.connections import ListedConnection, ListedSubscription, describe_connections
from declbind.console.lag import MOMENT
from declbind.console.overview import describe_rules
from declbind.console.shown import shown
from declbind.console.stored import read_changes
from declbind.live import changes
from declbind.models import Connection, Event, Node, Traffic
from declbind.outbound import history

from .causes import Answer, Cause

#: How far a refused handshake may lie from the time in question.
HANDSHAKES = timedelta(minutes=10)
#: The number of connections that are examined.
MAX_CONNECTIONS = 50
#: What a close code means for a connection that missed a later change.
CLOSES = {
    4401: Cause.REVOKED,
    4403: Cause.KICKED,
    4408: Cause.TOO_SLOW,
    4429: Cause.OVER_LIMIT,
    1006: Cause.PROCESS_LOST,
}
#: Why a subscription ended, as stored in the table of connections.
ENDS = {
    "permission": Cause.REVOKED,
    "disabled": Cause.NOT_IN_FORCE,
    "removed": Cause.NOT_IN_FORCE,
    "changed": Cause.NOT_SUBSCRIBED,
    "client": Cause.NOT_SUBSCRIBED,
}
LIMITS = ("rate_limited", "too_many_subscriptions", "too_large")
ANONYMOUS = "anonymous"


def offset_of(event: Event) -> int | None:
    """Return an event's offset, or ``None`` if it has none yet."""
    return event.seq if history.needs_sequencer(event._state.db or "default") else event.pk


def groups_of(event: Event) -> list[tuple[str, str]]:
    """Return the groups of an event with the action for each."""
    return list(read_changes(event.changes))


def explain_event(
    event: Event, user: str, connection: str, binding: type[Binding] | None, using: str
) -> Iterator[Answer]:
    """Yield the answers about an event, the most relevant first; "" for user and connection means any."""
    offset = offset_of(event)
    if offset is None:
        age = (timezone.now() - event.created_at).total_seconds()
        evidence = (("stored", event.created_at),)
        yield Answer(Cause.NOT_SEQUENCED, f"It has waited for its number for {age:.0f} s.", evidence)
        return
    config = _find_overtaking_edit(event, offset, using)
    if config is not None:
        yield Answer(
            Cause.OLD_VERSION,
            f"It was written under configuration {event.version} when {config.version} had already changed the "
            "subscribers.",
            (("asked to take a snapshot", "all subscribers"), ("offset", offset)),
        )
        return
    found = _connections(user, connection, event, using)
    groups = [group for group, _ in groups_of(event)]
    answers = [_explain_connection(item, event, offset, groups, binding, using) for item in found]
    if not (user or connection):
        sent = [answer for answer in answers if answer.cause is Cause.SENT]
        yield from sent or [
            Answer(Cause.NOBODY_SUBSCRIBED, f"It went to {list_groups(groups)}.", (("offset", offset),))
        ]
        return
    if not answers:
        yield from _explain_absence(user, connection, event, using)
        return
    order = list(Cause)
    yield from sorted(answers, key=lambda answer: (answer.cause is not Cause.SENT, -order.index(answer.cause)))


def _connections(user: str, connection: str, event: Event, using: str) -> list[ListedConnection]:
    """Return the relevant connections: open at that time, or opened later with an earlier offset."""
    rows = shown(Connection, using).exclude(closed_at__lt=event.created_at).order_by("-opened_at")
    if connection:
        rows = rows.filter(pk=connection)
    elif user:
        rows = rows.filter(_is_user(user))
    else:
        stream = json.dumps(event.stream)
        rows = rows.filter(subscriptions__contains=f"[{stream},")
    found = describe_connections(list(rows[:MAX_CONNECTIONS]), using)
    offset = offset_of(event) or 0
    return [
        item
        for item in found
        if item.opened_at <= event.created_at or any(subscription.covers(offset) for subscription in _of(item, event))
    ]


def _of(connection: ListedConnection, event: Event) -> list[ListedSubscription]:
    groups = {group for group, _ in groups_of(event)}
    return [
        item for item in connection.subscriptions if item.stream == event.stream and is_concerned(item.group, groups)
    ]


def _explain_connection(
    connection: ListedConnection,
    event: Event,
    offset: int,
    groups: Sequence[str],
    binding: type[Binding] | None,
    using: str,
) -> Answer:
    answer = partial(_answer, connection)
    mine = _of(connection, event)
    covering = next((subscription for subscription in mine if subscription.covers(offset)), None)
    if covering is not None:
        return _explain_delivery(connection, covering, event, offset, using)
    ended = [subscription for subscription in mine if subscription.until is not None and subscription.until < offset]
    if ended:
        last = max(ended, key=lambda subscription: subscription.until or 0)
        cause = ENDS.get(last.reason, Cause.NOT_SUBSCRIBED)
        return answer(cause, f"Its subscription to {last.group} ended at offset {last.until}. Reason: {last.reason}.")
    later = [subscription for subscription in mine if subscription.after >= offset]
    if later:
        first = min(later, key=lambda subscription: subscription.after)
        return answer(
            Cause.NOT_SUBSCRIBED,
            f"It subscribed to {first.group} only later; its first event came after offset {first.after}.",
        )
    refusal = _find_refusal(connection, event, using)
    if refusal is not None:
        cause = Cause.OVER_LIMIT if refusal.outcome in LIMITS else Cause.REFUSED
        rule = describe_rules(binding)["view"] if binding is not None else "not known"
        return answer(
            cause,
            f"{refusal.outcome}: {refusal.message}",
            ("at", refusal.at),
            ("view is for", rule),
        )
    own = sorted({item.group for item in connection.subscriptions if item.stream == event.stream})
    return answer(
        Cause.NOT_SUBSCRIBED,
        f"The change went to {list_groups(groups)}; it was subscribed to "
        f"{', '.join(own) or 'no group of this stream'}.",
    )


def _answer(connection: ListedConnection, cause: Cause, text: str, *evidence: tuple[str, object]) -> Answer:
    return Answer(cause, text, (*evidence, ("connection of", connection.who)), connection.id)


def _explain_delivery(
    connection: ListedConnection, subscription: ListedSubscription, event: Event, offset: int, using: str
) -> Answer:
    answer = partial(_answer, connection)
    group = ("group", subscription.group)
    what = "The request to take a snapshot" if event.kind == Event.BULK else "It"
    if connection.opened_at > event.created_at:
        up_to = subscription.until if subscription.until is not None else connection.offset
        return answer(
            Cause.SENT,
            f"{what} was sent by a resume: the client reconnected with offset {subscription.after} and received the "
            f"events up to {up_to}.",
            group,
            ("offset", offset),
            ("connected", connection.opened_at),
        )
    if connection.close_code == 4408 and connection.closed_at is not None:
        return answer(
            Cause.TOO_SLOW,
            f"{what} was queued for the connection, which was closed with 4408 at offset {connection.offset}.",
            group,
            ("offset", offset),
            ("closed", connection.closed_at),
        )
    if connection.is_lost:
        return answer(Cause.PROCESS_LOST, f"Process {connection.process} is gone.", group)
    if _is_behind(connection, event, using):
        return answer(
            Cause.PROCESS_BEHIND,
            f"Process {connection.process} is {connection.behind} events behind.",
            group,
            ("offset", offset),
        )
    return answer(
        Cause.SENT,
        f"{what} was sent with offset {offset}.",
        group,
        ("written", event.created_at),
        ("frames waiting now", connection.queued),
    )


def _is_behind(connection: ListedConnection, event: Event, using: str) -> bool:
    """Return whether the process had not reached the event, which was old enough at its last heartbeat."""
    node = Node.objects.using(using).filter(pk=connection.node).first()
    if node is None or not connection.behind:
        return False
    return node.offset < (offset_of(event) or 0) and event.created_at < node.seen_at - MOMENT


def _explain_absence(user: str, connection: str, event: Event, using: str) -> Iterator[Answer]:
    """Explain why the user was not connected."""
    rows = shown(Connection, using)
    rows = rows.filter(pk=connection) if connection else rows.filter(_is_user(user))
    before = rows.filter(closed_at__lt=event.created_at).order_by("-closed_at").first()
    if before is None:
        yield Answer(
            Cause.NOT_CONNECTED, "No connection of this user is known from that time.", (("at", event.created_at),)
        )
    else:
        cause = CLOSES.get(before.close_code or 0, Cause.NOT_CONNECTED)
        yield Answer(
            cause,
            f"The last connection before it was closed with {before.close_code}"
            f"{': ' + before.close_reason if before.close_reason else '.'}",
            (("closed", before.closed_at), ("at offset", before.offset)),
            before.pk,
        )
    refused = (
        shown(Traffic, using)
        .filter(outcome="origin", at__range=(event.created_at - HANDSHAKES, event.created_at + HANDSHAKES))
        .order_by("-pk")
        .first()
    )
    if refused is not None:
        yield Answer(Cause.ORIGIN, refused.message or "A handshake was refused.", (("at", refused.at),))


def _is_user(user: str) -> Q:
    return Q(user_pk="") if user == ANONYMOUS else Q(username=user) | Q(user_pk=user)


def _find_refusal(connection: ListedConnection, event: Event, using: str) -> Traffic | None:
    rows = shown(Traffic, using).filter(
        kind=Traffic.REFUSED, connection=connection.id, stream=event.stream, action__in=("subscribe", "")
    )
    return rows.order_by("-pk").first()


def _find_overtaking_edit(event: Event, offset: int, using: str) -> Event | None:
    """Return the edit that precedes the event in the log and is newer than the event's configuration."""
    column = history.offset_column(using)
    edits = shown(Event, using).filter(
        **{f"{column}__lt": offset},
        kind=Event.CONTROL,
        version__gt=event.version,
        data__contains=json.dumps(event.stream),
    )
    for edit in edits.order_by(f"-{column}")[:20]:
        content = json.loads(edit.data).get("changes") or {}
        if event.stream in content and changes.shows_more(*content[event.stream]):
            return edit
    return None
