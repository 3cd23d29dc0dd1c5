"""The delivery of an announced change to each connection of a user: sent, missed, or not subscribed to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial

from django.db.models import Q
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from declbind.bindings import Binding
from declbind.console.bulk import is_concerned, list_groups
from declbind.console.connections import ListedConnection, ListedSubscription, describe_connections
from declbind.console.lag import MOMENT
from declbind.console.overview import describe_rules
from declbind.console.shown import shown
from declbind.console.stored import read_json
from declbind.live import changes
from declbind.live.snapshots import BLOCKED
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
#: How a frame, or the request to take a snapshot, went to a connection.
FRAME_SENT = {
    "sent": _("It was sent with offset %(offset)s."),
    "queue": _("It was queued for the connection, which was closed with 4408 at offset %(offset)s."),
    "resume": _(
        "It was sent by a resume: the client reconnected with offset %(after)s and received the events up to %(until)s."
    ),
}
SNAPSHOT_SENT = {
    "sent": _("The request to take a snapshot was sent with offset %(offset)s."),
    "queue": _(
        "The request to take a snapshot was queued for the connection, which was closed with 4408 at offset %(offset)s."
    ),
    "resume": _(
        "The request to take a snapshot was sent by a resume: the client reconnected with offset %(after)s and "
        "received the events up to %(until)s."
    ),
}
#: A connection that ends so soon after a change may have ended before its frame arrived.
LEAVING = timedelta(seconds=2)
#: Where a front-end developer finds a frame.
IN_BROWSER = _(
    "Look at the page's own code: the frame with offset %(offset)s is in the browser's network tab, under the "
    "WebSocket."
)
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
        text = gettext("It was written under configuration %(old)s when %(new)s had already changed the subscribers.")
        evidence = (
            (gettext("sent a `resync`"), gettext("clients that were subscribed explicitly")),
            (gettext("offset"), offset),
            (gettext("by"), event.process),
        )
        yield Answer(Cause.OLD_VERSION, text % {"old": event.version, "new": config.version}, evidence)
        return
    empty = _find_empty_payload(event, binding)
    if empty:
        text = gettext("The log holds the change at offset %(offset)s, and its payload is empty: %(payloads)s.")
        words = {"offset": offset, "payloads": ", ".join(empty)}
        yield Answer(Cause.NOTHING_MADE, text % words, ((gettext("offset"), offset),))
        return
    found = _connections(user, connection, event, using)
    groups = [group for group, _ in groups_of(event)]
    answers = [_explain_connection(item, event, offset, groups, binding, using) for item in found]
    if not (user or connection):
        sent = [answer for answer in answers if answer.cause is Cause.SENT]
        text = gettext("It went to %(groups)s.") % {"groups": list_groups(groups)}
        yield from sent or [Answer(Cause.NOBODY_SUBSCRIBED, text, ((gettext("offset"), offset),))]
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
        text = gettext("Its subscription to %(group)s had ended before: %(reason)s.")
        ended_at = (gettext("ended at offset"), last.until)
        return answer(cause, text % {"group": last.group, "reason": last.end}, ended_at)
    later = [subscription for subscription in mine if subscription.after >= offset]
    if later:
        first = min(later, key=lambda subscription: subscription.after)
        text = gettext("It subscribed to %(group)s only later; its first event came after offset %(offset)s.")
        return answer(Cause.NOT_SUBSCRIBED, text % {"group": first.group, "offset": first.after})
    refusal = _find_refusal(connection, event, using)
    if refusal is not None:
        rule = describe_rules(binding)["view"] if binding is not None else gettext("not known")
        evidence = ((gettext("at"), refusal.at), (gettext("view is for"), rule))
        return answer(_cause_of(refusal), f"{refusal.outcome}: {refusal.message}", *evidence)
    own = sorted(
        {subscription.group for subscription in connection.subscriptions if subscription.stream == event.stream}
    )
    text = (
        gettext("The change went to %(groups)s; it was subscribed to %(own)s.")
        if own
        else gettext("The change went to %(groups)s; it was subscribed to no group of this stream.")
    )
    absent = answer(Cause.NOT_SUBSCRIBED, text % {"groups": list_groups(groups), "own": ", ".join(own)})
    dropped = Node.objects.using(using).filter(pk=connection.node).values_list("dropped", flat=True).first()
    if dropped:
        # One of them may have been the refusal of this subscription.
        doubt = ngettext(
            "Process %(process)s had %(count)s refusal too many to record each of them.",
            "Process %(process)s had %(count)s refusals too many to record each of them.",
            dropped,
        )
        return absent.weaken(doubt % {"process": connection.process, "count": dropped})
    return absent


def _answer(
    connection: ListedConnection, offset: int, cause: Cause, text: str, *evidence: tuple[str, object]
) -> Answer:
    advice = str(IN_BROWSER) % {"offset": offset} if cause is Cause.SENT else ""
    return Answer(cause, text, (*evidence, (gettext("connection of"), connection.who)), connection.id, advice)


def _explain_delivery(
    connection: ListedConnection, subscription: ListedSubscription, event: Event, offset: int, using: str
) -> Answer:
    answer = partial(_answer, connection, offset)
    group = (gettext("group"), subscription.group)
    number = (gettext("offset"), offset)
    texts = SNAPSHOT_SENT if event.kind == Event.BULK else FRAME_SENT
    if connection.opened_at > event.created_at:
        up_to = subscription.until if subscription.until is not None else connection.offset
        text = texts["resume"] % {"after": subscription.after, "until": up_to}
        return answer(Cause.SENT, text, group, number, (gettext("connected"), connection.opened_at))
    if connection.close_code == 4408 and connection.closed_at is not None:
        text = texts["queue"] % {"offset": connection.offset}
        closed = (gettext("closed"), connection.closed_at)
        doubt = gettext("Whether the frame was among those sent before: the client's own log.")
        return answer(Cause.TOO_SLOW, text, group, number, closed).weaken(doubt)
    if connection.is_lost and not _was_handed_over(connection, offset, using):
        text = gettext("Process %(process)s sends no heartbeat any more.") % {"process": connection.process}
        doubt = gettext("Whether the process still runs, on its host.")
        return answer(Cause.PROCESS_LOST, text, group, number).weaken(doubt)
    if _is_behind(connection, event, using):
        count = connection.behind or 0
        text = ngettext(
            "Process %(process)s is %(count)s event behind.", "Process %(process)s is %(count)s events behind.", count
        )
        words = {"process": connection.process, "count": count}
        return answer(Cause.PROCESS_BEHIND, text % words, group, number)
    written, waiting = (gettext("written"), event.created_at), (gettext("frames waiting now"), connection.queued)
    sent = answer(Cause.SENT, texts["sent"] % {"offset": offset}, group, written, waiting)
    if connection.closed_at is not None and connection.closed_at - event.created_at < LEAVING:
        return sent.weaken(gettext("The connection was closed shortly after, perhaps before the frame arrived."))
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
    text = gettext("%(method)s returned {} for %(action)s")
    return [text % {"method": name, "action": action} for action in sorted(actions)]


def _find_refusal(connection: ListedConnection, event: Event, using: str) -> Traffic | None:
    rows = shown(Traffic, using).filter(connection=connection.id, stream=event.stream)
    rows = rows.filter(kind=Traffic.REFUSED, action__in=("subscribe", "")) | rows.filter(
        kind=Traffic.ERROR, action="subscribe"
    )
    return rows.order_by("-pk").first()


def _cause_of(refusal: Traffic) -> Cause:
    if refusal.kind == Traffic.ERROR:
        return Cause.BINDING_FAILED
    if refusal.message == BLOCKED:
        return Cause.NUMBERING_BLOCKED
    return Cause.OVER_LIMIT if refusal.outcome in LIMITS else Cause.REFUSED


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
