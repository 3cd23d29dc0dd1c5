"""The ``subscribe`` and ``unsubscribe`` requests: permission, group, snapshot, replay, and the switch to live events.

There is neither a gap nor an overlap between a snapshot and the live events. A snapshot is the state of the database
after the event at its offset. From there the log is read up to the hub's cursor. The hub takes over at that moment,
with no step of the event loop in between.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from declbind import registry as registries
from declbind.bindings import Binding
from declbind.conf import settings
from declbind.core import course, frames
from declbind.core.errors import ClientError
from declbind.core.hub import LogEvent, Subscription, frames_for
from declbind.fields import concrete_field
from declbind.inbound import permissions
from declbind.models import Event
from declbind.outbound import history, log
from declbind.stored_values import comparable
from declbind.tenancy import EVERYBODY, run_in

from . import changes
from .hub import LiveHub
from .proofs import Holder
from .snapshots import Snapshot
from .socket import Socket

READ_BATCH = 500
#: The number of events that are made into frames before other clients get a turn.
PORTION = 50
#: The longest replay, in events of all streams. Beyond it, a snapshot is cheaper, and the client is sent a `resync`.
MAX_REPLAY_EVENTS = 20_000
#: The error message if the token is for other streams, whether the stream exists or not.
NOT_COVERED = "The token is not for this stream."


@dataclass(frozen=True)
class Granted:
    """A subscription that is allowed.

    Attributes:
        params: The params, with the values that the scope filled in.
        resync: The reason why missed events cannot be replayed, or ``None``.
        head: The last offset of the log when the permission was checked; 0 if nothing is to be replayed.
        held_from: The offset since which the permission has been held, by a proof of the client.
    """

    bound: Binding
    group: str
    params: Mapping[str, Any]
    resync: str | None = None
    head: int = 0
    held_from: int | None = None


async def subscribe(hub: LiveHub, socket: Socket, binding: type[Binding], request: frames.Request) -> str:
    """Carry out a ``subscribe`` request, including its reply, and return the group.

    Raises:
        ClientError: The request is refused.
    """
    held: list[Subscription] = []
    try:
        return await _subscribe(hub, socket, binding, request, held)
    finally:
        # If the subscription was not replaced, it continues where it was held.
        for subscription in held:
            await catch_up(hub, socket, subscription)


async def _subscribe(
    hub: LiveHub, socket: Socket, binding: type[Binding], request: frames.Request, held: list[Subscription]
) -> str:
    while True:
        turn = hub.turns, socket.checks
        granted = await hub.requests.run(
            run_in, socket.identity.tenant, _grant, hub.using, hub.epoch, binding, request, socket.identity
        )
        snapshot = None
        if request.snapshot and not socket.closed.done():
            snapshot = await _take_snapshot(hub, socket, granted, held)
        elif granted.resync == "unproven":
            # The hub may not have reached the end of the log, and the client must not be sent events that are in the
            # snapshot.
            await hub.settle()
        if socket.is_over():
            return granted.group
        if turn == (hub.turns, socket.checks):
            break
        # Permissions or bindings changed in the meantime, so the subscription may no longer be allowed.
        current = hub.registry.by_stream.get(request.stream)
        if current is None:
            raise ClientError("unknown_stream", f"There is no stream {request.stream!r}.")
        binding = current
    key = (request.stream, granted.group)
    asked = sum(other.tagged for place, other in socket.subscriptions.items() if place != key)
    if asked >= settings.MAX_SUBSCRIPTIONS:
        raise ClientError(
            "too_many_subscriptions", f"Expected at most {settings.MAX_SUBSCRIPTIONS} subscriptions; end one first."
        )
    subscription = Subscription(
        connection=socket.connection,
        # The text of the binding, not of the request, so that all subscribers share it.
        stream=binding.stream or request.stream,
        group=granted.group,
        tagged=True,
        params=granted.params,
        offset=hub.core.cursor,
    )
    if snapshot is not None:
        subscription.live, subscription.offset = False, snapshot.offset
    elif request.since is not None and granted.resync is None:
        subscription.live, subscription.offset = False, request.since.offset
    hub.subscribe(subscription)
    offset = snapshot.offset if snapshot else max(granted.head, hub.core.cursor)
    if request.ref is not frames.MISSING:
        held_from = subscription.offset if granted.held_from is None else granted.held_from
        resume = _holder(hub.epoch, request, granted.group, socket.identity).issue(held_from)
        result = {"group": granted.group, "epoch": hub.epoch, "offset": offset, "resume": resume}
        socket.push(frames.encode_reply(request.stream, request.ref, result))
    if granted.resync is not None:
        hub.resync(subscription, granted.resync)
    if snapshot is not None:
        await _send_snapshot(hub, socket, binding.model_label(), subscription, snapshot)
    if not subscription.live:
        await catch_up(hub, socket, subscription)
    return granted.group


async def unsubscribe(hub: LiveHub, socket: Socket, binding: type[Binding], request: frames.Request) -> str:
    """End a subscription and return its group. It is no error if the subscription does not exist."""
    # Subscribers had the view permission. To other clients, errors about params would disclose fields.
    is_known = any(stream == request.stream for stream, _ in socket.subscriptions)
    group = await hub.requests.run(
        run_in, socket.identity.tenant, _group_of, binding, request.params, socket.identity, is_known
    )
    subscription = socket.subscriptions.get((request.stream, group))
    if subscription is not None:
        hub.unsubscribe(subscription, "client")
    if request.ref is not frames.MISSING:
        socket.push(frames.encode_reply(request.stream, request.ref, {"group": group}))
    return group


async def catch_up(hub: LiveHub, socket: Socket, subscription: Subscription) -> None:
    """Read the log for one subscription up to the hub's cursor, at the reader's pace. Then the hub takes over."""
    position = subscription.offset
    while not subscription.live and _is_wanted(socket, subscription):
        cursor = hub.core.cursor
        if position >= cursor:
            subscription.live = True
            return
        recent = hub.recent.since(subscription.stream, position, socket.identity.tenant)
        if recent is not None:
            events, is_all = recent, True
        else:
            async with hub.replays.hold():
                min_offset, events = await hub.requests.run(
                    _read, position, subscription.stream, hub.using, socket.identity.tenant
                )
            is_all = len(events) < READ_BATCH
            if position < min_offset - 1:
                hub.start_anew(subscription, position)
                hub.resync(subscription, "expired")
                return
        if any(event.kind == Event.EXPIRED and event.offset <= cursor for event in events):
            hub.start_anew(subscription, position)
            hub.resync(subscription, "expired")
            return
        for start in range(0, len(events), PORTION):
            portion = [event for event in events[start : start + PORTION] if event.offset <= cursor]
            # Clients take turns here, because making frames takes time of the event loop.
            async with hub.replays.hold():
                texts = [
                    text
                    for event in portion
                    if event.kind != Event.CONTROL and subscription.wants(event) and hub.is_in_force(event)
                    for text in frames_for(subscription, event, hub.variants(event))
                ]
                await asyncio.sleep(0)
            await socket.push_paced(texts, partial(_is_wanted, socket, subscription))
        # The pump handles control events, and has handled all up to the cursor.
        position = cursor if is_all else min(events[-1].offset, cursor)
        subscription.offset = position


async def _take_snapshot(hub: LiveHub, socket: Socket, granted: Granted, held: list[Subscription]) -> Snapshot:
    """Return a snapshot that is not older than any frame sent to its subscription.

    Clients drop offsets that they have seen. After an older snapshot, they would drop the events that it lacks.

    Args:
        held: Receives the live subscription if it had to be held. The caller replaces it or lets it catch up.
    """
    while True:
        snapshot = await hub.snapshots.take(
            granted.bound, granted.group, granted.params, hub.using, socket.identity.tenant
        )
        subscription = socket.subscriptions.get((granted.bound.stream or "", granted.group))
        if subscription is None or socket.closed.done() or not _is_ahead(hub, subscription, snapshot.offset):
            return snapshot
        if subscription.live:
            # Frames were sent while the rows were read. Under constant writes that could happen every time. A held
            # subscription is sent no frames, so the next snapshot includes all sent ones.
            subscription.live, subscription.offset = False, hub.core.cursor
            held.append(subscription)


def _is_ahead(hub: LiveHub, subscription: Subscription, offset: int) -> bool:
    """Return whether the client of a subscription may have received a frame with a higher offset."""
    if max(subscription.offset, subscription.resynced_at) > offset:
        return True
    if not subscription.live:
        return False
    events = hub.recent.since(subscription.stream, offset, subscription.connection.tenant)
    return events is None or any(event.concerns(subscription.group) for event in events)


async def _send_snapshot(
    hub: LiveHub, socket: Socket, model: str, subscription: Subscription, snapshot: Snapshot
) -> None:
    last = len(snapshot.pages) - 1
    is_wanted = partial(_is_wanted, socket, subscription)
    for number, page in enumerate(snapshot.pages):
        if not is_wanted():
            return
        async with hub.replays.hold():
            text = frames.encode_snapshot(
                subscription.stream, subscription.group, snapshot.offset, model, page, final=number == last
            )
            if last:
                await asyncio.sleep(0)
        await socket.push_paced([text], is_wanted)


def _is_wanted(socket: Socket, subscription: Subscription) -> bool:
    key = (subscription.stream, subscription.group)
    return socket.subscriptions.get(key) is subscription and not socket.is_over()


# --- in a worker thread ----------------------------------------------------------------------------------------------


def _grant(
    using: str, epoch: str, binding: type[Binding], request: frames.Request, identity: permissions.Identity
) -> Granted:
    registries.check_version()
    bound, group, params = judge(using, binding, request, identity)
    if request.since is None or request.snapshot:
        return Granted(bound, group, params)
    since, head = request.since, log.load_head(using)
    held_from = _holder(since.epoch, request, group, identity).read(since.resume)
    if held_from is None or since.offset < held_from:
        return Granted(bound, group, params, resync="unproven", head=head.offset)
    obstacle = _obstacle(head, epoch, since) or _find_break(request.stream, since.offset, identity, using)
    return Granted(bound, group, params, obstacle, head.offset, held_from if obstacle is None else None)


def _holder(epoch: str, request: frames.Request, group: str, identity: permissions.Identity) -> Holder:
    return Holder(epoch, identity.user_pk, request.stream, group, identity.tenant)


def judge(
    using: str, binding: type[Binding], request: frames.Request, identity: permissions.Identity
) -> tuple[Binding, str, dict[str, Any]]:
    """Check a subscription against the current state of the database.

    Returns:
        The binding for the user, the group, and the params.

    Raises:
        ClientError: The subscription is not allowed.
    """
    course.enter("direction")
    if not binding.spec().outbound:
        raise ClientError("closed_direction", f"Stream {request.stream!r} sends nothing.")
    course.enter("who")
    user = permissions.load_current_user(identity)
    if user is None:
        raise ClientError("denied", "The session is over.")
    if not identity.covers(request.stream):
        # After the request arrived, the token was replaced by one for other streams.
        raise ClientError("denied", NOT_COVERED)
    # Rows are read from the database of the log, in one transaction with it, and never from a replica.
    bound = binding(user=user, using=using)
    group, params = judge_user(bound, request.params)
    return bound, group, params


def judge_user(bound: Binding, sent: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the group and the params of a subscription that the binding's user may have.

    Raises:
        ClientError: The user may not have it.
    """
    if not bound.overrides("has_view_permission") and not bound.has_view_permission(bound.user, {}):
        # The rule needs no params, and errors about params would disclose fields.
        course.enter("scope", bound)
        course.enter("permission", {})
        raise ClientError("denied", "Not allowed.")
    group, params = _locate(bound, bound.user, sent)
    course.enter("permission", params)
    if not bound.has_view_permission(bound.user, params):
        raise ClientError("denied", "Not allowed.")
    return group, params


def _locate(bound: Binding, user: Any, sent: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the group, and the params as values of the fields: a rule that knows room 3 must not be asked for "03"."""
    course.enter("scope", bound)
    params = _full_params(bound, sent)
    course.enter("group", params)
    group = bound.subscription_group(user, params)
    if group is None:
        raise ClientError("invalid", f"Stream {bound.stream!r} cannot be subscribed to with params.")
    return group, params if bound.overrides("group_names", "subscription_group") else bound.param_values(params)


def _full_params(bound: Binding, params: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the scope's params from the user.

    Raises:
        ClientError: The client has sent other values (``denied``).
    """
    full = dict(params)
    for name, value in bound.scope_values().items():
        if value is None:
            raise ClientError("denied", "Not allowed.")
        if name in full:
            field = concrete_field(bound.model_class(), name)
            sent = bound.param_values({name: full[name]})[name]
            if comparable(field, sent) != comparable(field, value):
                raise ClientError("denied", "Not allowed.")
        full[name] = value
    return full


def _group_of(binding: type[Binding], params: Mapping[str, Any], identity: permissions.Identity, is_known: bool) -> str:
    user = permissions.load_user(identity)
    bound = binding(user=user)
    group, _ = _locate(bound, user, params) if is_known else judge_user(bound, params)
    return group


def _obstacle(head: log.HeadState, epoch: str, since: frames.Since) -> str | None:
    """Return why the log cannot replay the missed events; ``None`` if it can."""
    if since.epoch != epoch or head.epoch != epoch or since.offset > head.offset or not head.is_whole:
        return "epoch"
    if since.offset < head.min_offset - 1:
        return "expired"
    return "overflow" if head.offset - since.offset > MAX_REPLAY_EVENTS else None


def _find_break(stream: str, offset: int, identity: permissions.Identity, using: str) -> str | None:
    """Return why a replay from an offset would not be right; ``None`` if it would be.

    It is not right if the binding changed after the client left, or shortly before, when some writers may still have
    used the previous configuration. It is not right either if the permissions of the user changed after that, because
    they may have been revoked and granted again.
    """
    column = history.offset_column(using)
    controls = Event.objects.using(using).filter(kind=Event.CONTROL, tenant__in=(EVERYBODY, identity.tenant))
    last_known = (
        Event.objects.using(using).filter(**{f"{column}__lte": offset}).order_by(f"-{column}").values("created_at")[:1]
    )
    later = [json.loads(text) for text in controls.filter(**{f"{column}__gt": offset}).values_list("data", flat=True)]
    if any(_may_break_right(content, stream, identity.user_pk) for content in later):
        return "unproven"
    seen = last_known.first()
    if seen is not None:
        just_before = controls.filter(**{f"{column}__lte": offset}, created_at__gt=seen["created_at"] - changes.grace())
        later += [json.loads(text) for text in just_before.values_list("data", flat=True)]
    return "config" if any(_breaks_replay(content, stream) for content in later) else None


def _may_break_right(content: dict[str, Any], stream: str, user_pk: str | None) -> bool:
    """Return whether a control event may have interrupted a user's permission to view a stream."""
    match content:
        case {"type": "users", "users": users}:
            return user_pk is not None and (users is None or user_pk in users)
        case {"type": "kick", "user": user}:
            # An operator may have blocked the user for a time. Events during that time are not for this user.
            return user_pk is not None and user == user_pk
        case {"type": "config", "changes": edits} if stream in edits:
            return changes.moves_view(*edits[stream])
    return False


def _breaks_replay(content: dict[str, Any], stream: str) -> bool:
    match content:
        case {"type": "config", "changes": edits} if stream in edits:
            return changes.breaks_replay(*edits[stream])
        case {"type": "written", "streams": streams}:
            return stream in streams
    return False


def _read(position: int, stream: str, using: str, tenant: str) -> tuple[int, list[LogEvent]]:
    events = log.read(position, READ_BATCH, using, stream, tenant or None)
    return log.load_head(using).min_offset, events
