"""The delivery of an announced change to each connection of a user: sent, missed, or not subscribed to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial

from django.db.models import Q

from declbind.bindings import Binding
from declbind.console.bulk import is_concerned, list_groups
from declbind.console.connections import ListedConnection, ListedSubscription, describe_connections
from declbind.console.lag import MOMENT
from declbind.console.overview import describe_rules
from declbind.console.shown import shown
from declbind.console.stored import read_json
from declbind.live import changes
from declbind.models import Connection, Event, Node, Traffic
from declbind.outbound import history

from .absence import explain_absence, is_user
from .answer import Answer
from .causes import Cause
from .events import groups_of, offset_of
from .numbering import explain_waiting

#: The number of connections that are examined.
MAX_CONNECTIONS = 50
#: Why a subscription ended, as stored in the table of connections.
ENDS = {
    "permission": Cause.REVOKED,
    "disabled": Cause.NOT_IN_FORCE,
    "removed": Cause.NOT_IN_FORCE,
    "changed": Cause.NOT_SUBSCRIBED,
    "client": Cause.NOT_SUBSCRIBED,
}
#: A connection that ends so soon after a change may have ended before its frame arrived.
LEAVING = timedelta(seconds=2)
#: Where a front-end developer finds a frame.
IN_BROWSER = "in the browser's network tab, under the WebSocket."
LIMITS = ("rate_limited", "too_many_subscriptions", "too_large")


def explain_event(
    event: Event, user: str, connection: str, binding: type[Binding] | None, using: str
) -> Iterator[Answer]:
    """Yield the answers about an event, the most relevant first; "" for user and connection means any."""
    offset = offset_of(event)
    if offset is None:
        yield explain_waiting(event, using)
        return
    config = _find_overtaking_edit(event, offset, using)
    if config is not None:
        yield Answer(
            Cause.OLD_VERSION,
            f"It was written under configuration {event.version} when {config.version} had already changed the "
            "subscribers.",
            (("sent a `resync`", "clients that were subscribed explicitly"), ("offset", offset), ("by", event.process)),
        )
        return
    empty = _find_empty_payload(event, binding)
    if empty:
        text = f"The log holds the change at offset {offset}, and its payload is empty: {', '.join(empty)}."
        yield Answer(Cause.NOTHING_MADE, text, (("offset", offset),))
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
        yield from explain_absence(user, connection, event, using)
        return
    order = list(Cause)
    yield from sorted(answers, key=lambda answer: (answer.cause is not Cause.SENT, -order.index(answer.cause)))


def _connections(user: str, connection: str, event: Event, using: str) -> list[ListedConnection]:
    """Return the relevant connections: open at that time, or opened later with an earlier offset."""
    # One that had been handed the event was open then, whatever the clocks of the two hosts say.
    gone = Q(closed_at__lt=event.created_at, offset__lt=offset_of(event) or 0)
    rows = shown(Connection, using).exclude(gone).order_by("-opened_at")
    if connection:
        rows = rows.filter(pk=connection)
    elif user:
        rows = rows.filter(is_user(user))
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
        subscription
        for subscription in connection.subscriptions
        if subscription.stream == event.stream and is_concerned(subscription.group, groups)
    ]


def _explain_connection(
    connection: ListedConnection,
    event: Event,
    offset: int,
    groups: Sequence[str],
    binding: type[Binding] | None,
    using: str,
) -> Answer:
    answer = partial(_answer, connection, offset)
    mine = _of(connection, event)
    covering = next((subscription for subscription in mine if subscription.covers(offset)), None)
    if covering is not None:
        return _explain_delivery(connection, covering, event, offset, using)
    ended = [subscription for subscription in mine if subscription.until is not None and subscription.until < offset]
    if ended:
        # The subscription that ended last says why there was none at the change.
        last = max(ended, key=lambda subscription: subscription.until or 0)
        cause = ENDS.get(last.reason, Cause.NOT_SUBSCRIBED)
        return answer(
            cause, f"Its subscription to {last.group} had ended before: {last.end}.", ("ended at offset", last.until)
        )
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
    own = sorted(
        {subscription.group for subscription in connection.subscriptions if subscription.stream == event.stream}
    )
    absent = answer(
        Cause.NOT_SUBSCRIBED,
        f"The change went to {list_groups(groups)}; it was subscribed to "
        f"{', '.join(own) or 'no group of this stream'}.",
    )
    dropped = Node.objects.using(using).filter(pk=connection.node).values_list("dropped", flat=True).first()
    if dropped:
        # One of them may have been the refusal of this subscription.
        return absent.weaken(f"Process {connection.process} had {dropped} refusals too many to record each of them.")
    return absent


def _answer(
    connection: ListedConnection, offset: int, cause: Cause, text: str, *evidence: tuple[str, object]
) -> Answer:
    advice = (
        f"Look at the page's own code: the frame with offset {offset} is {IN_BROWSER}" if cause is Cause.SENT else ""
    )
    return Answer(cause, text, (*evidence, ("connection of", connection.who)), connection.id, advice)


def _explain_delivery(
    connection: ListedConnection, subscription: ListedSubscription, event: Event, offset: int, using: str
) -> Answer:
    answer = partial(_answer, connection, offset)
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
        ).weaken("Whether the frame was among those sent before: the client's own log.")
    if connection.is_lost and not _was_handed_over(connection, offset, using):
        return answer(
            Cause.PROCESS_LOST, f"Process {connection.process} sends no heartbeat any more.", group, ("offset", offset)
        ).weaken("Whether the process still runs, on its host.")
    if _is_behind(connection, event, using):
        return answer(
            Cause.PROCESS_BEHIND,
            f"Process {connection.process} is {connection.behind} events behind.",
            group,
            ("offset", offset),
        )
    sent = answer(
        Cause.SENT,
        f"{what} was sent with offset {offset}.",
        group,
        ("written", event.created_at),
        ("frames waiting now", connection.queued),
    )
    if connection.closed_at is not None and connection.closed_at - event.created_at < LEAVING:
        return sent.weaken("The connection was closed shortly after, perhaps before the frame arrived.")
    return sent


def _was_handed_over(connection: ListedConnection, offset: int, using: str) -> bool:
    """Return whether a process had handed an event to its connections by its last heartbeat."""
    reached = Node.objects.using(using).filter(pk=connection.node).values_list("offset", flat=True).first()
    return reached is not None and reached >= offset


def _is_behind(connection: ListedConnection, event: Event, using: str) -> bool:
    """Return whether the process had not reached the event, which was old enough at its last heartbeat."""
    node = Node.objects.using(using).filter(pk=connection.node).first()
    if node is None or not connection.behind:
        return False
    return node.offset < (offset_of(event) or 0) and event.created_at < node.seen_at - MOMENT


def _find_empty_payload(event: Event, binding: type[Binding] | None) -> list[str]:
    """Return the actions of an event whose payload the code of the binding left empty, if it left all of them so."""
    if event.kind != Event.PAYLOAD:
        return []
    made = read_json(event.data)
    actions = {action for _, action in groups_of(event)}
    if not isinstance(made, dict) or any(made.get(action, "not made") for action in actions):
        return []
    name = "serialize" if binding is None else f"{binding.__module__}.{binding.__qualname__}.serialize"
    return [f"{name} returned {{}} for {action}" for action in sorted(actions)]


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
