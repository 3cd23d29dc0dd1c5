"""The ``subscribe`` and ``unsubscribe`` requests: permission, group, snapshot, replay, and the switch to live events.

No event is missed or sent twice between a snapshot and the live events. A snapshot is the state of the database after
the event at its offset. From that offset, the log is read up to the hub's cursor. The hub then takes over in the same
step of the event loop.
"""

from __future__ import annotations

import asyncio
from functools import partial

from declbind.bindings import Binding
from declbind.conf import settings
from declbind.core import frames
from declbind.core.errors import ClientError
from declbind.core.hub import Subscription
from declbind.tenancy import run_in

from .grants import Granted, grant, group_of, holder_of
from .hub import LiveHub
from .replays import catch_up, is_wanted
from .snapshots import Snapshot
from .socket import Socket


async def subscribe(hub: LiveHub, socket: Socket, binding: type[Binding], request: frames.Request) -> str:
    """Carry out a ``subscribe`` request, including its reply, and return the group.

    Raises:
        ClientError: The request is refused.
    """
    held: list[Subscription] = []
    try:
        return await _subscribe(hub, socket, binding, request, held)
    finally:
        # If the request failed, a held subscription continues at the offset at which it was held.
        for subscription in held:
            await catch_up(hub, socket, subscription)


async def _subscribe(
    hub: LiveHub, socket: Socket, binding: type[Binding], request: frames.Request, held: list[Subscription]
) -> str:
    binding, granted, snapshot = await _obtain(hub, socket, binding, request, held)
    if socket.is_over():
        return granted.group
    key = (request.stream, granted.group)
    asked = sum(other.tagged for place, other in socket.subscriptions.items() if place != key)
    if asked >= settings.MAX_SUBSCRIPTIONS:
        raise ClientError(
            "too_many_subscriptions", f"Expected at most {settings.MAX_SUBSCRIPTIONS} subscriptions; end one first."
        )
    subscription = Subscription(
        connection=socket.connection,
        # Use the binding's string and not the request's, so that all subscribers share one object.
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
        resume = holder_of(hub.epoch, request, granted.group, socket.identity).issue(held_from)
        result = {"group": granted.group, "epoch": hub.epoch, "offset": offset, "resume": resume}
        socket.push(frames.encode_reply(request.stream, request.ref, result))
    if granted.resync is not None:
        hub.resync(subscription, granted.resync)
    if snapshot is not None:
        await _send_snapshot(hub, socket, binding.model_label(), subscription, snapshot)
    if not subscription.live:
        await catch_up(hub, socket, subscription)
    return granted.group


async def _obtain(
    hub: LiveHub, socket: Socket, binding: type[Binding], request: frames.Request, held: list[Subscription]
) -> tuple[type[Binding], Granted, Snapshot | None]:
    """Return the binding in force, the grant, and the snapshot if one was requested.

    If permissions or bindings change in the meantime, the steps are repeated.

    Raises:
        ClientError: The subscription is not allowed.
    """
    while True:
        state = hub.renewals, socket.checks
        granted = await hub.requests.run(
            run_in, socket.identity.tenant, grant, hub.using, hub.epoch, binding, request, socket.identity
        )
        snapshot = None
        if request.snapshot and not socket.closed.done():
            snapshot = await _take_snapshot(hub, socket, granted, held)
        elif granted.resync == "unproven":
            # The snapshot may be ahead of the hub, and the client must not be sent events that are in the snapshot.
            await hub.settle()
        if socket.is_over() or state == (hub.renewals, socket.checks):
            return binding, granted, snapshot
        # Permissions or bindings changed in the meantime, so the subscription may no longer be allowed.
        current = hub.registry.by_stream.get(request.stream)
        if current is None:
            raise ClientError("unknown_stream", f"There is no stream {request.stream!r}.")
        binding = current


async def unsubscribe(hub: LiveHub, socket: Socket, binding: type[Binding], request: frames.Request) -> str:
    """End a subscription and return its group. It is no error if the subscription does not exist."""
    # Subscribers have the view permission. For other clients, errors about params would disclose field names.
    is_subscriber = any(stream == request.stream for stream, _ in socket.subscriptions)
    group = await hub.requests.run(
        run_in, socket.identity.tenant, group_of, binding, request.params, socket.identity, is_subscriber
    )
    subscription = socket.subscriptions.get((request.stream, group))
    if subscription is not None:
        hub.unsubscribe(subscription, "client")
    if request.ref is not frames.MISSING:
        socket.push(frames.encode_reply(request.stream, request.ref, {"group": group}))
    return group


async def _take_snapshot(hub: LiveHub, socket: Socket, granted: Granted, held: list[Subscription]) -> Snapshot:
    """Return a snapshot that is not older than any frame sent to its subscription.

    Clients drop events with offsets that they have seen. After an older snapshot, they would drop events that it lacks.

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
            # Frames were sent while the rows were read, which could happen every time under constant writes. A held
            # subscription is sent no frames, so the next snapshot includes all frames that were sent.
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
    is_still_wanted = partial(is_wanted, socket, subscription)
    for number, page in enumerate(snapshot.pages):
        if not is_still_wanted():
            return
        async with hub.replays.hold():
            text = frames.encode_snapshot(
                subscription.stream, subscription.group, snapshot.offset, model, page, final=number == last
            )
            if last:
                await asyncio.sleep(0)
        await socket.push_paced([text], is_still_wanted)
