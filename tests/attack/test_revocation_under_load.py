"""Revocation under load: nothing is sent after the offset of a loss, and everything before it is."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass

import pytest
from django.db import connections, models, transaction
from pytest_django import Settings

from declbind.live.hub import LiveHub, get_hub
from declbind.live.pump import Pump
from declbind.models import BindingRecord, Event
from declbind.outbound import history, sequencer
from declbind.registry import database_alias, refresh
from declbind.testing import PATIENCE, Client
from example_site.example.models import IntegerValue
from tests.attack.losses import LOSSES, RECORD, Loss, Victim, make_victim
from tests.live import fail_to_look, in_thread

pytestmark = pytest.mark.django_db(transaction=True)

#: Events a second, and how many follow the loss.
RATE, AFTER = 100, 15
#: At most so many events come before the loss.
BEFORE = 30


@pytest.fixture(autouse=True)
def record(settings: Settings, transactional_db: None) -> Iterator[None]:
    settings.DECLBIND = {"VERSION_CHECK_SECONDS": 0}
    BindingRecord().assign(RECORD).save()
    refresh(force=True)
    yield
    refresh(force=True)


class Load:
    """A thread that stores rows of one group, `RATE` a second."""

    def __init__(self) -> None:
        self.count = 0
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write)

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()

    def wait_for(self, count: int) -> None:
        """Wait until so many rows have been committed."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.count >= count, PATIENCE), f"{self.count} of {count} rows"

    def _write(self) -> None:
        while not self._stop.wait(1 / RATE):
            IntegerValue.objects.create(name="a", value=self.count)
            with self._changed:
                self.count += 1
                self._changed.notify_all()
        connections.close_all()


@dataclass
class Seen:
    """What a client received: the offsets of changes, and how its connection ended."""

    offsets: list[int]
    end: str | None


@dataclass
class Outcome:
    """The effect of a loss at an offset on the user who lost the permission, and on another user."""

    offset: int
    victim: Seen
    other: Seen
    all_offsets: list[int]

    @property
    def late(self) -> list[int]:
        """Return the offsets of events that were sent after the loss."""
        return [offset for offset in self.victim.offsets if offset > self.offset]


async def read_all(client: Client) -> Seen:
    """Read what a client is sent until the end of the log."""
    seen = Seen([], None)
    try:
        while not await client.is_silent():
            frame = await client.receive()
            payload = frame["payload"]
            if frame["stream"] != RECORD["stream"]:
                continue
            if payload["action"] == "closed":
                seen.end = payload["reason"]
            elif payload["action"] != "resync":
                seen.offsets.append(frame["offset"])
    except ConnectionError:
        seen.end = str(client.close_code)
    return seen


async def connect(client: Client) -> None:
    reply = await client.request("numbers", "subscribe", params={"name": "a"})
    assert reply["ok"], reply


def carry_out(loss: Loss, victim: Victim) -> int:
    """Carry out a loss in one transaction, and return the offset of its last control event.

    The offset is given when the event is numbered, which other threads may be about.
    """
    using = database_alias()
    with transaction.atomic(using=using):
        loss.lose(victim)
        last_id = Event.objects.using(using).filter(kind=Event.CONTROL).aggregate(last=models.Max("id"))["last"]
    column = history.offset_column(using)
    while (offset := Event.objects.using(using).values_list(column, flat=True).get(pk=last_id)) is None:
        sequencer.sequence(using)
    return int(offset)


def load_offsets() -> list[int]:
    """Return the offsets of the changes of the group, in their order."""
    using = database_alias()
    column = history.offset_column(using)
    rows = Event.objects.using(using).filter(stream="numbers", kind=Event.ROW, changes__contains="name-a")
    return list(rows.order_by(column).values_list(column, flat=True))


async def lose_under_load(loss: Loss, seed: str, credentials: Sequence[str] = ("session",)) -> list[Outcome]:
    """Remove the permission at a random moment of a steady load.

    The victim is connected by each of the credentials; the connection that may be kicked is the last of them.
    """
    victim = await in_thread(make_victim, loss.holds)
    other = await in_thread(make_victim, "user")
    load = Load()
    async with AsyncExitStack() as stack:
        mine = [await stack.enter_async_context(await in_thread(victim.client, each)) for each in credentials]
        sockets = [each for each in (await get_hub()).sockets() if each.user_key == str(victim.user.pk)]
        assert len(sockets) == len(mine)
        victim.connection = sockets[-1].id
        another = await stack.enter_async_context(await in_thread(other.client))
        for client in (*mine, another):
            await connect(client)
        with load.running():
            before = random.Random(seed).randint(1, BEFORE)
            await in_thread(load.wait_for, before)
            offset = await in_thread(carry_out, loss, victim)
            await in_thread(load.wait_for, load.count + AFTER)
        *seen, elsewhere = [await read_all(client) for client in (*mine, another)]
    offsets = await in_thread(load_offsets)
    return [Outcome(offset, each, elsewhere, offsets) for each in seen]


async def lose_in_a_batch(monkeypatch: pytest.MonkeyPatch, loss: Loss) -> Outcome:
    """Let the hub read a loss and changes that follow it together."""
    victim = await in_thread(make_victim, loss.holds)
    offset = 0

    def lose_and_write() -> None:
        nonlocal offset
        offset = carry_out(loss, victim)
        IntegerValue.objects.create(name="a", value=1)

    async with victim.client() as client:
        await connect(client)
        await fail_to_look(monkeypatch, lose_and_write)
        return Outcome(offset, await read_all(client), Seen([], None), [])


def attempts() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each loss with the credentials of the connections that it has to affect."""
    for name, loss in LOSSES.items():
        if loss.is_of_session or loss.is_for_all:
            # An edit of a binding does not depend on how a client has connected.
            yield name, ("session",)
        elif loss.is_of_connection:
            yield from ((name, (credential,)) for credential in ("session", "token"))
        else:
            yield name, ("session", "token")


ATTEMPTS = [pytest.param(name, using, id=f"{name}-{'+'.join(using)}") for name, using in attempts()]


@pytest.mark.parametrize(("name", "credentials"), ATTEMPTS)
async def test_nothing_later_than_the_loss_is_sent(name, credentials):
    """The victim gets all earlier events and an end. Another user gets all events, once and in order."""
    loss = LOSSES[name]
    for outcome in await lose_under_load(loss, name, credentials):
        assert outcome.late == []
        assert outcome.victim.end is not None
        assert outcome.victim.offsets == outcome.all_offsets[: len(outcome.victim.offsets)]
        if outcome.victim.end == "permission" and not loss.is_for_all:
            # A closed socket drops what waits, and an edit is in force on delivery as soon as a process knows it.
            assert outcome.victim.offsets == [each for each in outcome.all_offsets if each < outcome.offset]
        if not loss.is_for_all:
            assert outcome.other.end is None
            assert outcome.other.offsets == outcome.all_offsets


@pytest.mark.parametrize("name", ["log out", "deactivate", "clear the permissions", "delete the group"])
async def test_a_hub_without_the_barrier_is_caught(monkeypatch, name):
    """Control: control events are read and not obeyed."""

    async def ignore(self: Pump, event: object) -> None:
        return None

    monkeypatch.setattr(Pump, "_obey", ignore)
    [outcome] = await lose_under_load(LOSSES[name], name)
    assert outcome.late


@pytest.mark.parametrize("name", ["clear the permissions", "kick the user"])
async def test_a_hub_that_obeys_too_late_is_caught(monkeypatch, name):
    """Control: events that were read together with the control event are sent before it is obeyed."""
    hand_out = Pump._hand_out

    async def hand_out_changes_first(self, events):
        await hand_out(self, sorted(events, key=lambda event: event.kind == Event.CONTROL))

    monkeypatch.setattr(Pump, "_hand_out", hand_out_changes_first)
    assert (await lose_in_a_batch(monkeypatch, LOSSES[name])).late


@pytest.mark.parametrize("name", ["disable the binding", "let nobody view"])
async def test_a_hub_that_ignores_an_edit_is_caught(monkeypatch, name):
    """Control: the new registry has no effect on subscriptions."""

    async def ignore(self: LiveHub, new: object) -> None:
        return None

    monkeypatch.setattr(LiveHub, "apply_registry", ignore)
    [outcome] = await lose_under_load(LOSSES[name], name)
    assert outcome.victim.end is None
