"""Replays: the events that a subscription missed, read from the log, and the reasons why the log cannot replay them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from declbind.core import frames
from declbind.core.hub import LogEvent, Subscription, frames_for
from declbind.inbound import permissions
from declbind.models import Event
from declbind.outbound import history, log
from declbind.tenancy import EVERYBODY

from . import changes
from .hub import LiveHub
from .socket import Socket

READ_BATCH = 500
#: The number of events whose frames are built before other clients get a turn.
PORTION = 50
#: The longest replay, in events of all streams. Beyond it, a snapshot is cheaper, and the client is sent a `resync`.
MAX_REPLAY_EVENTS = 20_000


async def catch_up(hub: LiveHub, socket: Socket, subscription: Subscription) -> None:
    """Send a subscription the events between its position and the hub's cursor, at the reader's pace.

    After that, the hub sends it live events.
    """
    position = subscription.offset
    while not subscription.live and is_wanted(socket, subscription):
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
                    read_missed, position, subscription.stream, hub.using, socket.identity.tenant
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
            # Clients take turns here, because building frames occupies the event loop.
            async with hub.replays.hold():
                texts = [
                    text
                    for event in portion
                    if event.kind != Event.CONTROL and subscription.wants(event) and hub.is_in_force(event)
                    for text in frames_for(subscription, event, hub.variants(event))
                ]
                await asyncio.sleep(0)
            await socket.push_paced(texts, partial(is_wanted, socket, subscription))
        # Control events are skipped, because the pump has applied all of them up to the cursor.
        position = cursor if is_all else min(events[-1].offset, cursor)
        subscription.offset = position


def is_wanted(socket: Socket, subscription: Subscription) -> bool:
    """Return whether a subscription is still in force and its socket open."""
    key = (subscription.stream, subscription.group)
    return socket.subscriptions.get(key) is subscription and not socket.is_over()


# --- in a worker thread ----------------------------------------------------------------------------------------------


def find_obstacle(head: log.HeadState, epoch: str, since: frames.Since) -> str | None:
    """Return the reason why the log cannot replay the missed events, or ``None`` if it can."""
    if since.epoch != epoch or head.epoch != epoch or since.offset > head.offset or not head.is_whole:
        return "epoch"
    if since.offset < head.min_offset - 1:
        return "expired"
    return "overflow" if head.offset - since.offset > MAX_REPLAY_EVENTS else None


def find_break(stream: str, offset: int, identity: permissions.Identity, using: str) -> str | None:
    """Return the reason why a replay from an offset would be incorrect, or ``None`` if it would be correct.

    It is incorrect if the binding was changed after the offset. The same holds for a change shortly before it, when
    some writers may still have used the previous configuration. It is also incorrect if the permissions of the user
    changed after the offset, because they may have been revoked and granted again.
    """
    column = history.offset_column(using)
    controls = Event.objects.using(using).filter(kind=Event.CONTROL, tenant__in=(EVERYBODY, identity.tenant))
    last_known = (
        Event.objects.using(using).filter(**{f"{column}__lte": offset}).order_by(f"-{column}").values("created_at")[:1]
    )
    later = [json.loads(text) for text in controls.filter(**{f"{column}__gt": offset}).values_list("data", flat=True)]
    if any(_may_interrupt_permission(content, stream, identity.user_pk) for content in later):
        return "unproven"
    seen = last_known.first()
    if seen is not None:
        just_before = controls.filter(**{f"{column}__lte": offset}, created_at__gt=seen["created_at"] - changes.grace())
        later += [json.loads(text) for text in just_before.values_list("data", flat=True)]
    return "config" if any(_breaks_replay(content, stream) for content in later) else None


def _may_interrupt_permission(content: Mapping[str, Any], stream: str, user_pk: str | None) -> bool:
    """Return whether a control event may have interrupted a user's permission to view a stream."""
    match content:
        case {"type": "users", "users": users}:
            return user_pk is not None and (users is None or user_pk in users)
        case {"type": "kick", "user": user}:
            # An operator may have blocked the user for some time, and the user must not receive events from that time.
            return user_pk is not None and user == user_pk
        case {"type": "config", "changes": edits} if stream in edits:
            return changes.moves_view(*edits[stream])
    return False


def _breaks_replay(content: Mapping[str, Any], stream: str) -> bool:
    match content:
        case {"type": "config", "changes": edits} if stream in edits:
            return changes.breaks_replay(*edits[stream])
        case {"type": "written", "streams": streams}:
            return stream in streams
    return False


def read_missed(position: int, stream: str, using: str, tenant: str) -> tuple[int, list[LogEvent]]:
    events = log.read(position, READ_BATCH, using, stream, tenant or None)
    return log.load_head(using).min_offset, events
