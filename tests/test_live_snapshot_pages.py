"""Snapshots of a subscription: their pages, their limits, and bindings with code."""

from __future__ import annotations

from typing import Any

import pytest

from declbind import WebsocketBinding
from declbind.core.errors import ClientError
from declbind.live import snapshots
from declbind.testing import Client, override_bindings
from example_site.example.models import IntegerValue
from tests.live import ANYONE, NUMBERS, code_of, next_payload, store, subscribe
from tests.live_snapshots import read_snapshot, store_all, values_of
from tests.test_live_subscriptions import Lane

pytestmark = pytest.mark.django_db(transaction=True)


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


async def test_an_empty_snapshot_is_one_final_page():
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


async def test_a_refused_snapshot_does_not_end_a_live_subscription(settings):
    """The subscription continues if its rows are too many for a snapshot."""
    settings.DECLBIND = {"MAX_SNAPSHOT_ROWS": 1}
    await store_all(1, 2)
    with override_bindings(NUMBERS):
        async with Client() as client:
            await subscribe(client)
            reply = await client.request("numbers", "subscribe", params={"name": "a"}, snapshot=True)
            assert code_of(reply) == "too_large"
            await store("a", 3)
            assert (await next_payload(client))["data"]["value"] == 3


async def test_requesting_a_snapshot_again_keeps_one_subscription():
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

    def subscription_group(self, user: object, params: Any) -> str:
        if params.get("of") not in ("odd", "even"):
            raise ClientError("invalid", "Expected odd or even.")
        return str(params["of"])


async def test_the_snapshot_of_a_binding_with_code_has_the_rows_of_the_group():
    """If groups are made by code, the snapshot has the rows that the code puts into the group."""
    await store_all(1, 2, 3)
    with override_bindings(Parity):
        async with Client() as client:
            assert code_of(await client.request("parity", "subscribe", params={"of": "x"})) == "invalid"
            assert (await client.request("parity", "subscribe", params={"of": "odd"}, snapshot=True))["ok"]
            assert values_of(await read_snapshot(client)) == [1, 3]


@pytest.mark.parametrize("portion", [1, 2, 1_000])
async def test_the_limit_of_a_snapshot_counts_only_the_rows_of_the_group(monkeypatch, settings, portion):
    """If groups are made by code, the rows of other groups are read too, in portions, but do not count."""
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


async def test_a_binding_with_code_without_subscription_group_refuses_params():
    """Without ``subscription_group``, params have no meaning."""
    with override_bindings(Lane):
        async with Client() as client:
            assert code_of(await client.request("lane", "subscribe", params={})) == "invalid"
