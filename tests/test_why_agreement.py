"""The answers of *Why?* agree with the frames that arrived."""

from __future__ import annotations

import random

import pytest

from declbind.console.connections import ListedSubscription
from declbind.console.why import events
from declbind.console.why.causes import Cause
from declbind.live import housekeeping
from declbind.live.hub import get_hub
from declbind.models import Event
from declbind.testing import Client, override_bindings
from tests.factories import make_user
from tests.live import NUMBERS, in_thread, store, subscribe
from tests.why_questions import cause_of

pytestmark = pytest.mark.django_db(transaction=True)


async def play(seed: int) -> list[tuple[bool, Cause]]:
    """Let clients connect, disconnect and change subscriptions among writes.

    Return for each client and change whether its frame arrived, and the answer about it.
    """
    dice = random.Random(seed)
    names = ["a", "b"]
    users = [await in_thread(make_user) for _ in range(3)]
    clients: list[Client | None] = [None] * len(users)
    arrived: list[set[int]] = [set() for _ in users]
    rows: list[tuple[int, int]] = []

    async def drain(position: int) -> None:
        client = clients[position]
        if client is None:
            return
        hub = await get_hub()
        await hub.settle()
        while not await client._communicator.receive_nothing(0.02, 0.01):
            frame = await client.receive()
            if frame["payload"]["action"] in ("create", "update", "delete"):
                arrived[position].add(frame["offset"])
        for frame in client._kept:
            if frame["payload"]["action"] in ("create", "update", "delete"):
                arrived[position].add(frame["offset"])

    for _ in range(25):
        position = dice.randrange(len(users))
        client = clients[position]
        match dice.choice(["write", "write", "write", "subscribe", "subscribe", "unsubscribe", "leave"]):
            case "write":
                row = await store(dice.choice(names), dice.randrange(9))
                event = await Event.objects.exclude(kind=Event.CONTROL).alatest("pk")
                rows.append((row.pk, event.pk))
            case "subscribe":
                if client is None:
                    client = clients[position] = Client(user=users[position])
                    assert await client.connect()
                await subscribe(client, dice.choice(names))
            case "unsubscribe" if client is not None:
                await client.request("numbers", "unsubscribe", params={"name": dice.choice(names)})
            case "leave" if client is not None:
                await drain(position)
                await client.disconnect()
                clients[position] = None
    hub = await get_hub()
    await hub.settle()
    for position in range(len(users)):
        await drain(position)
    await housekeeping.beat(hub)
    await housekeeping.write_connections(hub)
    found = []
    for row_pk, event_pk in rows:
        event = await Event.objects.aget(pk=event_pk)
        for position, user in enumerate(users):
            answer = await in_thread(cause_of, row_pk, user=user.username)
            found.append((events.offset_of(event) in arrived[position], answer))
    for client in clients:
        if client is not None:
            await client.disconnect()
    return found


@pytest.mark.parametrize("seed", range(3))
async def test_the_answers_agree_with_what_happened(seed: int) -> None:
    """The answer says "sent" exactly if the frame arrived."""
    with override_bindings(NUMBERS):
        found = await play(seed)
    assert {True, False} <= {arrived for arrived, _ in found}
    assert [(arrived, cause) for arrived, cause in found if arrived != (cause is Cause.SENT)] == []


async def test_an_answer_that_is_one_off_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: subscriptions that seem to begin one change too early."""
    monkeypatch.setattr(ListedSubscription, "covers", lambda self, offset: self.after <= offset)
    with override_bindings(NUMBERS):
        found = [pair for seed in range(3) for pair in await play(seed)]
    assert [pair for pair in found if pair[0] != (pair[1] is Cause.SENT)]
