"""Subscriptions: the two forms of a frame, groups and params, snapshots, and the change to live events."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections, transaction

from declbind import WebsocketBinding, WebsocketDemultiplexer
from declbind.core.errors import ClientError
from declbind.live import snapshots
from declbind.outbound import sequencer
from declbind.testing import Client, override_bindings
from example_site.example.models import IntegerValue
from tests.factories import make_user
from tests.live import ANYONE, BOARD, NUMBERS, code_of, in_thread, next_payload, since_of, store, subscribe
from tests.zoo.models import Animal

pytestmark = pytest.mark.django_db(transaction=True)

only_sequenced = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="On SQLite the id is the number, and one transaction writes at a time."
)

ANIMALS = {
    "stream": "animals",
    "model": "zoo.Animal",
    "fields": ["name", "legs"],
    "groups": ["owner-{owner_id}", "kind-{kind}-{owner_id}"],
    "scope": {"owner_id": "$user.pk"},
    "permissions": ANYONE,
}


async def store_all(*values: int, name: str = "a") -> None:
    await IntegerValue.objects.abulk_create(IntegerValue(name=name, value=value) for value in values)


async def read_snapshot(client: Client) -> list[dict[str, Any]]:
    """Read pages up to the final one; return them."""
    pages: list[dict[str, Any]] = []
    while not pages or not pages[-1]["payload"]["final"]:
        pages.append(await client.receive())
        assert pages[-1]["payload"]["action"] == "snapshot"
    return pages


def values_of(pages: list[dict[str, Any]]) -> list[int]:
    return [row["data"]["value"] for page in pages for row in page["payload"]["objects"]]


# Forms ---------------------------------------------------------------------------------------------------------------


async def test_a_plain_frame_has_exactly_four_payload_keys():
    """A client that the server subscribed gets exactly the envelope of Channels 1.x."""
    with override_bindings(BOARD):
        async with Client() as client:
            row = await store("fifty", 51)
            assert await client.receive() == {
                "stream": "board",
                "payload": {
                    "action": "create",
                    "pk": row.pk,
                    "data": {"name": "fifty", "value": 51},
                    "model": "example.integervalue",
                },
            }
            await row.adelete()
            assert (await next_payload(client)).keys() == {"action", "pk", "data", "model"}


async def test_a_tagged_frame_names_its_group_and_offset():
    """Each frame of an explicit subscription has its group and its offset."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            reply = await subscribe(client)
            await store()
            frame = await client.receive()
            assert frame.keys() == {"stream", "payload", "group", "offset"}
            assert frame["group"] == reply["group"] == "name-a"
            assert frame["offset"] > reply["offset"]
            assert frame["payload"].keys() == {"action", "pk", "data", "model"}


async def test_an_auto_subscribed_connection_that_asks_gets_tagged_frames_once():
    """An explicit subscription to a group that was joined at connect replaces the plain form."""
    with override_bindings(BOARD):
        async with Client() as client:
            await client.request("board", "subscribe")
            await store()
            assert (await client.receive())["group"] == "board"
            assert await client.is_silent()


async def test_auto_subscribe_joins_no_group_with_placeholders():
    """The values of placeholders are not known at connect."""
    record = {**BOARD, "groups": ["everything", "name-{name}"]}
    with override_bindings(record):
        async with Client() as client:
            await store()
            await client.receive()
            assert await client.is_silent()


async def test_auto_subscribe_asks_for_the_right_to_view():
    """Automatic subscriptions require the view permission as well."""
    viewer = await in_thread(make_user, "example.view_integervalue")
    with override_bindings({**BOARD, "permissions": {}}):
        async with Client() as stranger, Client(user=viewer) as client:
            await store()
            assert (await next_payload(client))["action"] == "create"
            assert await stranger.is_silent()


async def test_another_streams_group_of_the_same_name_is_not_heard():
    """A subscription is to a group of a stream."""
    other = {**NUMBERS, "stream": "others", "permissions": {"view": False}}
    with override_bindings(NUMBERS, other):
        async with Client() as client:
            await subscribe(client)
            await store()
            assert (await client.receive())["stream"] == "numbers"
            assert await client.is_silent()


class Lane(WebsocketBinding):
    """A binding whose rows move between groups by their value."""

    stream = "lane"
    model = IntegerValue
    fields = ("name", "value")
    permissions = ANYONE

    @classmethod
    def group_names(cls, instance: Any) -> list[str]:
        return ["low", "less"] if instance.value < 10 else ["middle", "mean"] if instance.value < 20 else ["high"]


class LaneDemultiplexer(WebsocketDemultiplexer):
    consumers = {"lane": Lane.consumer}

    def connection_groups(self, **kwargs: Any) -> list[str]:
        return ["low", "less", "middle", "mean"]


async def test_a_plain_client_in_several_groups_gets_each_action_once_delete_first():
    """A move between groups is one delete and one create, and an update of two common groups is one frame."""
    with override_bindings(Lane):
        async with Client(LaneDemultiplexer.as_asgi()) as client:
            row = await store("a", 1)
            assert (await next_payload(client))["action"] == "create"
            row.value = 2
            await row.asave()
            assert (await next_payload(client))["action"] == "update"
            row.value = 12
            await row.asave()
            assert [await next_payload(client) for _ in range(2)] == [
                {"action": "delete", "pk": row.pk, "data": {}, "model": "example.integervalue"},
                {
                    "action": "create",
                    "pk": row.pk,
                    "data": {"name": "a", "value": 12},
                    "model": "example.integervalue",
                },
            ]
            assert await client.is_silent()


# Params --------------------------------------------------------------------------------------------------------------


async def test_params_choose_the_group_and_the_rows_of_the_snapshot():
    """One template determines the group of a row and the rows of a subscriber's snapshot."""
    await store_all(1, 2)
    await store_all(3, name="b")
    with override_bindings(NUMBERS):
        async with Client() as client:
            assert (await subscribe(client, snapshot=True))["group"] == "name-a"
            assert values_of(await read_snapshot(client)) == [1, 2]
            await store("b", 4)
            await store("a", 5)
            assert (await next_payload(client))["data"]["value"] == 5


@pytest.mark.parametrize("params", [{}, {"value": 1}, {"name": "a", "value": 1}, {"name": None}, {"name": ["a"]}])
async def test_params_that_no_template_takes_are_invalid(params):
    """The answer is an error, not an empty group."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            assert code_of(await client.request("numbers", "subscribe", params=params)) == "invalid"


async def test_texts_of_one_value_are_one_group():
    """A client that sends "03" and one that sends 3 get the same frames."""
    with override_bindings({**NUMBERS, "groups": ["value-{value}"]}):
        async with Client() as client:
            groups = [
                (await client.request("numbers", "subscribe", params={"value": value}))["group"]
                for value in (3, "3", "03")
            ]
            assert groups == ["value-3"] * 3


async def test_the_right_to_view_is_asked_for_with_the_fields_values():
    """A rule that forbids number 3 cannot be bypassed with "03"."""

    class Guarded(WebsocketBinding):
        stream = "guarded"
        model = IntegerValue
        fields = ("name",)
        groups = ("value-{value}",)

        def has_view_permission(self, user: Any, params: Any) -> bool:
            return bool(params["value"] != 3)

    with override_bindings(Guarded):
        async with Client() as client:
            for value in (3, "3", "03", " 3"):
                assert code_of(await client.request("guarded", "subscribe", params={"value": value})) == "denied"
            assert (await client.request("guarded", "subscribe", params={"value": 4}))["ok"]


async def test_where_bounds_the_snapshot_and_the_frames():
    """Rows outside ``where`` do not exist: they are not in the snapshot, and a row that leaves is a delete."""
    await store_all(1, 99)
    with override_bindings({**NUMBERS, "where": {"value": [1, 2]}}):
        async with Client() as client:
            await subscribe(client, snapshot=True)
            assert values_of(await read_snapshot(client)) == [1]
            row = await IntegerValue.objects.aget(value=1)
            row.value = 98
            await row.asave()
            payload = await next_payload(client)
            assert (payload["action"], payload["data"]) == ("delete", {})


async def test_subscribing_needs_the_right_to_view():
    """The codename decides, as it is in the database at the time of the request."""
    user = await in_thread(make_user)
    with override_bindings({**NUMBERS, "permissions": {}}):
        async with Client(user=user) as client:
            assert code_of(await client.request("numbers", "subscribe", params={"name": "a"})) == "denied"
            permission = await in_thread(lambda: user.user_permissions.model.objects.get(codename="view_integervalue"))
            await in_thread(user.user_permissions.add, permission)
            assert (await client.request("numbers", "subscribe", params={"name": "a"}))["ok"]


async def test_an_inbound_stream_cannot_be_heard():
    """A closed direction refuses."""
    with override_bindings({**NUMBERS, "direction": "inbound"}):
        async with Client() as client:
            reply = await client.request("numbers", "subscribe", params={"name": "a"})
            assert code_of(reply) == "closed_direction"


async def test_a_disabled_stream_is_unknown():
    """A request does not disclose that a disabled stream exists."""
    with override_bindings({**NUMBERS, "enabled": False}):
        async with Client() as client:
            assert code_of(await client.request("numbers", "subscribe")) == "unknown_stream"
            assert code_of(await client.request("nothing", "subscribe")) == "unknown_stream"


# Scope ---------------------------------------------------------------------------------------------------------------


def make_two_owners() -> tuple[User, User]:
    ann, bob = make_user(), make_user()
    for owner, name in ((ann, "cat"), (bob, "dog")):
        Animal.objects.create(name=name, owner=owner)
    return ann, bob


async def test_the_server_fills_in_the_scope():
    """A user who sends no owner subscribes to their own rows, and so does one who sends their own key."""
    with override_bindings(ANIMALS):
        ann, bob = await in_thread(make_two_owners)
        async with Client(user=ann) as client:
            first = await client.request("animals", "subscribe", snapshot=True)
            assert first["group"] == f"owner-{ann.pk}"
            pages = await read_snapshot(client)
            assert [row["data"]["name"] for page in pages for row in page["payload"]["objects"]] == ["cat"]
            second = await client.request("animals", "subscribe", params={"owner_id": ann.pk})
            assert second["group"] == first["group"]
            third = await client.request("animals", "subscribe", params={"kind": "fish"})
            assert third["group"] == f"kind-fish-{ann.pk}"
            await Animal.objects.acreate(name="mouse", owner=bob)
            assert await client.is_silent()


async def test_somebody_elses_scope_is_refused():
    """It makes no difference whether the other user exists."""
    with override_bindings(ANIMALS):
        ann, bob = await in_thread(make_two_owners)
        async with Client(user=ann) as client:
            for owner in (bob.pk, str(bob.pk), 10**6):
                reply = await client.request("animals", "subscribe", params={"owner_id": owner})
                assert code_of(reply) == "denied"


async def test_an_anonymous_client_owns_nothing():
    """Rows with a null owner do not belong to anonymous clients."""
    with override_bindings(ANIMALS):
        await Animal.objects.acreate(name="stray", owner=None)
        async with Client() as client:
            assert code_of(await client.request("animals", "subscribe", snapshot=True)) == "denied"
            assert code_of(await client.request("animals", "subscribe", params={"owner_id": None})) == "denied"


# Snapshots -----------------------------------------------------------------------------------------------------------


async def test_a_snapshot_comes_in_pages_between_reply_and_changes(settings):
    """The order is reply, pages, changes. All pages have one offset and only the last is final."""
    settings.DECLBIND = {"SNAPSHOT_PAGE_ROWS": 2}
    await store_all(1, 2, 3, 4, 5)
    with override_bindings(NUMBERS):
        async with Client() as client:
            await client.send(
                {
                    "stream": "numbers",
                    "payload": {"action": "subscribe", "params": {"name": "a"}, "snapshot": True, "ref": "x"},
                }
            )
            reply = await next_payload(client)
            assert (reply["action"], reply["ref"]) == ("reply", "x")
            await store("a", 6)
            pages = await read_snapshot(client)
            assert [len(page["payload"]["objects"]) for page in pages] == [2, 2, 1]
            assert [page["payload"]["final"] for page in pages] == [False, False, True]
            assert {(page["group"], page["offset"]) for page in pages} == {(reply["group"], reply["offset"])}
            assert values_of(pages) == [1, 2, 3, 4, 5]
            assert (await next_payload(client))["data"]["value"] == 6


async def test_a_snapshot_of_nothing_is_one_final_page():
    """A client that waits for the final page gets it."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            await subscribe(client, snapshot=True)
            payload = await next_payload(client)
            assert payload == {"action": "snapshot", "model": "example.integervalue", "objects": [], "final": True}


async def test_pages_of_long_rows_are_short(monkeypatch):
    """A page ends at its limit in characters, even with few rows. Every row is sent, including the longest."""
    monkeypatch.setattr(snapshots, "PAGE_CHARACTERS", 100)
    await store_all(*range(1, 10))
    await store_all(10, name="a")
    with override_bindings(NUMBERS):
        async with Client() as client:
            await subscribe(client, snapshot=True)
            pages = await read_snapshot(client)
            assert len(pages) >= 3
            assert values_of(pages) == list(range(1, 11))


async def test_too_many_rows_are_too_large(settings):
    """MAX_SNAPSHOT_ROWS is the largest number that is sent. The refused client gets no events."""
    settings.DECLBIND = {"MAX_SNAPSHOT_ROWS": 3}
    await store_all(1, 2, 3)
    with override_bindings(NUMBERS):
        async with Client() as client:
            assert (await subscribe(client, snapshot=True))["ok"]
            await read_snapshot(client)
        await store_all(4)
        async with Client() as client:
            reply = await client.request("numbers", "subscribe", params={"name": "a"}, snapshot=True)
            assert code_of(reply) == "too_large"
            await store("a", 5)
            assert await client.is_silent()


async def test_a_refused_snapshot_leaves_a_live_subscription_alone(settings):
    """A live subscription continues if its rows are too many for a snapshot."""
    settings.DECLBIND = {"MAX_SNAPSHOT_ROWS": 1}
    await store_all(1, 2)
    with override_bindings(NUMBERS):
        async with Client() as client:
            await subscribe(client)
            reply = await client.request("numbers", "subscribe", params={"name": "a"}, snapshot=True)
            assert code_of(reply) == "too_large"
            await store("a", 3)
            assert (await next_payload(client))["data"]["value"] == 3


async def test_asking_again_with_a_snapshot_keeps_one_subscription():
    """A live subscription may request a snapshot. Later changes arrive once."""
    await store_all(1)
    with override_bindings(NUMBERS):
        async with Client() as client:
            await subscribe(client)
            await subscribe(client, snapshot=True)
            assert values_of(await read_snapshot(client)) == [1]
            await store("a", 2)
            assert (await next_payload(client))["data"]["value"] == 2
            assert await client.is_silent()


class Parity(WebsocketBinding):
    """A binding whose groups are code."""

    stream = "parity"
    model = IntegerValue
    fields = ("name", "value")
    permissions = ANYONE

    @classmethod
    def group_names(cls, instance: Any) -> list[str]:
        return ["odd" if instance.value % 2 else "even"]

    def subscription_group(self, user: Any, params: Any) -> str:
        if params.get("of") not in ("odd", "even"):
            raise ClientError("invalid", "Expected odd or even.")
        return str(params["of"])


async def test_the_snapshot_of_a_binding_by_code_holds_the_groups_rows():
    """If groups are project code, the snapshot has the rows that the code puts into the group."""
    await store_all(1, 2, 3)
    with override_bindings(Parity):
        async with Client() as client:
            assert code_of(await client.request("parity", "subscribe", params={"of": "x"})) == "invalid"
            assert (await client.request("parity", "subscribe", params={"of": "odd"}, snapshot=True))["ok"]
            assert values_of(await read_snapshot(client)) == [1, 3]


@pytest.mark.parametrize("portion", [1, 2, 1_000])
async def test_the_limit_of_a_snapshot_counts_the_rows_of_the_group_only(monkeypatch, settings, portion):
    """If groups are project code, the rows of other groups are read too, in portions, but do not count."""
    settings.DECLBIND = {"MAX_SNAPSHOT_ROWS": 3}
    monkeypatch.setattr(snapshots, "READ_ROWS", portion)
    await store_all(2, 1, 4, 6, 3, 8, 5)
    with override_bindings(Parity):
        async with Client() as client:
            assert (await client.request("parity", "subscribe", params={"of": "odd"}, snapshot=True))["ok"]
            assert values_of(await read_snapshot(client)) == [1, 3, 5]
            even = await client.request("parity", "subscribe", params={"of": "even"}, snapshot=True)
            assert code_of(even) == "too_large"
            await store("a", 7)
            assert (await next_payload(client))["data"]["value"] == 7
            refused = await client.request("parity", "subscribe", params={"of": "odd"}, snapshot=True)
            assert code_of(refused) == "too_large"


async def test_a_binding_by_code_without_a_group_for_params_cannot_be_asked():
    """Without ``subscription_group``, params have no meaning."""
    with override_bindings(Lane):
        async with Client() as client:
            assert code_of(await client.request("lane", "subscribe", params={})) == "invalid"


# Leaving, and how many -----------------------------------------------------------------------------------------------


async def test_unsubscribe_ends_the_frames():
    """No frame of the group follows the reply. Ending a missing subscription is no error."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            await subscribe(client)
            for _ in range(2):
                reply = await client.request("numbers", "unsubscribe", params={"name": "a"})
                assert reply["ok"]
                assert reply["group"] == "name-a"
            await store()
            assert await client.is_silent()


async def test_too_many_subscriptions_are_refused(settings):
    """The limit counts different groups: subscribing again to one of them does not count, and ending one makes room."""
    settings.DECLBIND = {"MAX_SUBSCRIPTIONS": 2}
    with override_bindings(NUMBERS, BOARD):
        async with Client() as client:
            await subscribe(client, "a")
            await subscribe(client, "b")
            await subscribe(client, "b")
            reply = await client.request("numbers", "subscribe", params={"name": "c"})
            assert code_of(reply) == "too_many_subscriptions"
            await client.request("numbers", "unsubscribe", params={"name": "a"})
            await subscribe(client, "c")


# The seam ------------------------------------------------------------------------------------------------------------


class Writers:
    """Threads that move, change and delete numbers until told to stop, in transactions of several rows."""

    def __init__(self, count: int = 4) -> None:
        self.stop = threading.Event()
        self.errors: list[BaseException] = []
        self.written = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(count)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()
        assert self.errors == []

    def _run(self, number: int) -> None:
        try:
            step = 0
            while not self.stop.is_set():
                step += 1
                self._write(number, step)
                self.written.release()
        except BaseException as error:
            self.errors.append(error)
        finally:
            connections.close_all()

    def _write(self, number: int, step: int) -> None:
        own = IntegerValue.objects.filter(value__gte=number * 1_000_000, value__lt=(number + 1) * 1_000_000)
        with transaction.atomic():
            IntegerValue.objects.create(name="ab"[step % 2], value=number * 1_000_000 + step)
            row = own.order_by("?").first()
            assert row is not None
            row.name = "b" if row.name == "a" else "a"
            row.save()
            if step % 3 == 0:
                row.delete()
            if step % 5 == 0:
                transaction.set_rollback(True)


class Mirror:
    """A client that applies its frames, and records each gap and each repetition."""

    def __init__(self) -> None:
        self.rows: dict[int, Any] = {}
        self.faults: list[str] = []
        self.snapshots = 0
        self._page_rows: dict[int, Any] = {}
        self._offset = 0

    def take(self, frame: dict[str, Any]) -> None:
        payload, offset = frame["payload"], frame["offset"]
        if payload["action"] == "snapshot":
            self._page_rows |= {row["pk"]: row["data"] for row in payload["objects"]}
            if payload["final"]:
                self.rows, self._page_rows, self._offset = self._page_rows, {}, offset
                self.snapshots += 1
            return
        pk, data = payload["pk"], payload["data"]
        if offset <= self._offset:
            self.faults.append(f"offset {offset} after {self._offset}")
        if (payload["action"] == "create") is (pk in self.rows):
            self.faults.append(f"{payload['action']} of {pk}, {'known' if pk in self.rows else 'unknown'}")
        self._offset = offset
        if payload["action"] == "delete":
            self.rows.pop(pk, None)
        else:
            self.rows[pk] = data

    async def read_until_known(self, client: Client, value: int) -> None:
        while value not in [row["value"] for row in self.rows.values()]:
            self.take(await client.receive())


async def follow_writers(rounds: int) -> Mirror:
    """Take snapshots repeatedly during concurrent writes; return the resulting rows of frames and snapshots."""
    mirror = Mirror()
    async with Client() as client:
        with Writers() as writers:
            for turn in range(1, rounds + 1):
                await subscribe(client, snapshot=True)
                while mirror.snapshots < turn:
                    mirror.take(await client.receive())
                await in_thread(lambda: [writers.written.acquire(timeout=20) for _ in range(10)])
        await store("a", -1)
        await mirror.read_until_known(client, -1)
    return mirror


async def stored_rows() -> dict[int, Any]:
    return {row.pk: {"name": "a", "value": row.value} async for row in IntegerValue.objects.filter(name="a")}


async def test_nothing_is_missing_or_repeated_where_the_snapshot_ends(settings):
    """Writers in other threads change rows all the time. Snapshot and changes together equal the stored rows."""
    settings.DECLBIND = {"MESSAGES_PER_SECOND": 1000, "MESSAGE_BURST": 1000, "SNAPSHOT_PAGE_ROWS": 5}
    with override_bindings(NUMBERS):
        mirror = await follow_writers(rounds=15)
        assert mirror.rows == await stored_rows()
        assert mirror.faults == []


async def test_a_snapshot_that_is_older_than_its_offset_is_noticed(settings, monkeypatch):
    """Negative control of the previous test: rows that are read before the head leave a gap."""
    settings.DECLBIND = {"MESSAGES_PER_SECOND": 1000, "MESSAGE_BURST": 1000}
    take_snapshot = snapshots.read_snapshot

    def take_snapshot_early(*args: Any) -> Any:
        early = now = take_snapshot(*args)
        # Long enough for writers to come in between, with more than one change of this group.
        until = time.monotonic() + 2
        while now.offset < early.offset + 6 and time.monotonic() < until:
            now = take_snapshot(*args)
        return snapshots.Snapshot(now.offset, early.pages)

    monkeypatch.setattr(snapshots, "read_snapshot", take_snapshot_early)
    with override_bindings(NUMBERS):
        mirror = await follow_writers(rounds=5)
        assert mirror.faults != [] or mirror.rows != await stored_rows()


@contextmanager
def held_open(value: int) -> Iterator[None]:
    """Write a row in a transaction of a separate connection, which ends after the block."""
    written, end = threading.Event(), threading.Event()

    def run() -> None:
        try:
            with transaction.atomic():
                IntegerValue.objects.create(name="a", value=value)
                written.set()
                assert end.wait(20)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert written.wait(20)
        yield
    finally:
        end.set()
        thread.join()


def without_sequencer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave committed events without numbers, as if the relay of another process were slow."""
    monkeypatch.setattr(sequencer, "sequence", lambda using, limit=0: 0)


async def snapshot_while_events_wait(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Take a snapshot with a committed row whose event has no number, while a transaction is open.

    Return the values in the order in which the client received them.
    """
    with override_bindings(NUMBERS):
        async with Client() as client:
            with monkeypatch.context() as patch:
                without_sequencer(patch)
                with held_open(2):
                    await store("a", 1)
                    await subscribe(client, snapshot=True)
                    known = values_of(await read_snapshot(client))
            await store("a", 3)
            while 3 not in known:
                known.append((await next_payload(client))["data"]["value"])
            assert await client.is_silent()
            return known


@only_sequenced
async def test_a_row_in_the_snapshot_is_not_announced_again_when_its_event_is_numbered(monkeypatch):
    """The event of a row in the snapshot may get its number later, and a lower one than that of an open transaction."""
    assert sorted(await snapshot_while_events_wait(monkeypatch)) == [1, 2, 3]


async def known_after_coming_back(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Take a snapshot of a row whose event has no number, lose the connection, and resume from its offset.

    Return the values in the order in which the client received them, up to a last one.
    """
    with override_bindings(NUMBERS):
        async with Client() as client:
            with monkeypatch.context() as patch:
                without_sequencer(patch)
                await store("a", 1)
                reply = await subscribe(client, snapshot=True)
                known = values_of(await read_snapshot(client))
        async with Client() as client:
            await subscribe(client, since=since_of(reply))
            await store("a", 2)
            while 2 not in known:
                known.append((await next_payload(client))["data"]["value"])
            return known


async def test_who_comes_back_with_the_offset_of_a_snapshot_hears_nothing_that_it_held(monkeypatch):
    """The offset alone identifies what the client has seen, in every process."""
    assert await known_after_coming_back(monkeypatch) == [1, 2]


@only_sequenced
async def test_an_offset_that_leaves_waiting_events_out_repeats_them_later(monkeypatch):
    """Negative control of the previous test."""
    monkeypatch.setattr(sequencer, "unsequenced_ids", lambda using: frozenset())
    assert await known_after_coming_back(monkeypatch) == [1, 1, 2]


@only_sequenced
async def test_a_snapshot_that_ignores_waiting_events_repeats_them(monkeypatch):
    """Negative control of the previous test: without the ids of waiting events, a row arrives twice."""
    monkeypatch.setattr(sequencer, "unsequenced_ids", lambda using: frozenset())
    assert sorted(await snapshot_while_events_wait(monkeypatch)) == [1, 1, 2, 3]
