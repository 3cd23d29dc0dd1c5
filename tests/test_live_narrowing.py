"""Edits that narrow a binding: no client is sent what the binding no longer sends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.db.models import Model
from pytest_django import Settings

from declbind import Binding
from declbind.live import changes, snapshots
from declbind.live.edits import Edits
from declbind.live.hub import LiveHub
from declbind.testing import PATIENCE, Client
from tests.live import fail_to_look, in_thread, next_payload, settle_hub, since_of, trim_all
from tests.record_edits import (
    KEEPERS,
    edit,
    hire,
    hold_a_write_open,
    no_grace,
    only_concurrent,
    save_record,
    subscribe,
    write_as_before_the_edit,
)

__all__ = ["no_grace"]

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_removed_field_is_not_sent():
    """It is not sent after the commit of the edit, even if a writer does not know the edit yet."""
    await edit()
    async with Client() as client:
        await subscribe(client)
        await edit(fields=["name"])
        await write_as_before_the_edit('{"name":"ann","retired":true}')
        assert (await next_payload(client))["data"] == {"name": "ann"}
        await hire()
        assert (await next_payload(client))["data"] == {"name": "ann"}
        assert await client.is_silent()


async def test_a_removed_field_is_not_in_a_replay():
    """The log still contains it, but the reader of the log no longer sends it."""
    await edit()
    async with Client() as client:
        # The offset must lie behind the edit that made the binding, or coming back is answered by a resync.
        await settle_hub()
        reply = await subscribe(client)
    await hire()
    await edit(fields=["name"])
    async with Client() as client:
        await subscribe(client, since=since_of(reply))
        assert (await next_payload(client))["data"] == {"name": "ann"}


def dump(instance: Model, binding: type[Binding]) -> dict[str, object]:
    """Serialize a row: the bound fields and one additional key."""
    return {field.name: getattr(instance, field.attname) for field in binding.bound_fields()} | {"label": "!"}


async def test_a_removed_field_is_not_in_the_data_of_a_serializer(settings):
    """A serializer may send additional names, but no model field that is not bound now."""
    settings.DECLBIND = {**settings.DECLBIND, "SERIALIZERS": {"own": f"{__name__}.dump"}}
    await edit(serializer="own")
    async with Client() as client:
        await subscribe(client)
        await edit(serializer="own", fields=["name"])
        await write_as_before_the_edit('{"name":"ann","retired":true,"label":"!"}')
        assert (await next_payload(client))["data"] == {"name": "ann", "label": "!"}


async def test_a_reader_that_sends_the_logged_data_is_detected(monkeypatch):
    """Negative control of the three previous tests."""
    monkeypatch.setattr(changes, "_is_sent", lambda binding, name: True)
    await edit()
    async with Client() as client:
        await subscribe(client)
        await edit(fields=["name"])
        await write_as_before_the_edit('{"name":"ann","retired":true}')
        assert "retired" in (await next_payload(client))["data"]


async def test_events_of_a_late_writer_are_not_sent_to_old_groups():
    """An event made under the previous ``where`` is dropped, and a resync is sent."""
    await edit()
    async with Client() as client:
        await subscribe(client)
        await edit(where={"retired": False})
        await write_as_before_the_edit('{"name":"ann","retired":true}')
        assert await next_payload(client) == {"action": "resync", "reason": "config"}
        await hire()
        assert (await next_payload(client))["action"] == "create"
        # A transaction that was open since before ends much later: its event is dropped, and a resync is sent.
        await write_as_before_the_edit('{"name":"ann","retired":true}')
        assert await next_payload(client) == {"action": "resync", "reason": "config"}
        assert await client.is_silent()


async def test_a_hub_that_started_after_the_edit_drops_them_too():
    """It learns from the log which events follow the previous rules."""
    await edit()
    await edit(where={"retired": False})
    async with Client() as client:
        await subscribe(client)
        await write_as_before_the_edit('{"name":"ann","retired":true}')
        assert await next_payload(client) == {"action": "resync", "reason": "config"}


async def check_that_a_trimmed_edit_is_in_force(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    await edit()
    async with Client() as client:
        await subscribe(client)

        def edit_and_trim() -> None:
            save_record({**KEEPERS, "where": {"retired": False}})
            trim_all(settings)

        await fail_to_look(monkeypatch, edit_and_trim)
        assert await next_payload(client) == {"action": "resync", "reason": "expired"}
        await write_as_before_the_edit('{"name":"ann","retired":true}')
        assert await next_payload(client) == {"action": "resync", "reason": "config"}
        await hire()
        assert (await next_payload(client))["action"] == "create"


async def test_an_edit_that_was_trimmed_before_the_hub_read_it_is_in_force(monkeypatch, settings):
    """A hub that could not read the database for longer than the retention does not know the edits of that time."""
    await check_that_a_trimmed_edit_is_in_force(monkeypatch, settings)


async def test_a_hub_that_trusts_versions_from_before_a_gap_is_detected(monkeypatch, settings):
    """Negative control of the previous test."""
    monkeypatch.setattr(LiveHub, "is_in_force", lambda self, event: True)
    with pytest.raises((AssertionError, KeyError)):
        await check_that_a_trimmed_edit_is_in_force(monkeypatch, settings)


async def test_a_hub_without_a_memory_of_edits_is_detected(monkeypatch):
    """Negative control of the two previous tests."""
    monkeypatch.setattr(Edits, "is_in_force", lambda self, event: True)
    await edit()
    await edit(where={"retired": False})
    async with Client() as client:
        await subscribe(client)
        await write_as_before_the_edit('{"name":"ann","retired":true}')
        assert (await next_payload(client))["data"] == {"name": "ann", "retired": True}


@pytest.mark.parametrize(
    "change",
    [
        {"groups": ["retired-{retired}"]},
        {"groups": ["name-{name}", "retired-{retired}"]},
        {"where": {"retired": False}, "groups": ["all"]},
    ],
)
async def test_an_event_for_an_old_group_is_a_resync_for_every_subscriber(change):
    """Its former group has no subscribers, and its row may be in the group of any subscriber of the stream."""
    params = {"retired": False} if change["groups"][-1] != "all" else {}
    await edit()
    await edit(**change)
    await in_thread(save_record, {**KEEPERS, "stream": "others"})
    await settle_hub()
    async with Client() as client, Client() as neighbour:
        await subscribe(client, params=params, snapshot=True)
        assert (await next_payload(client))["final"]
        await subscribe(neighbour, "others")
        await write_as_before_the_edit('{"name":"bob","retired":false}', "name-bob", versions=2)
        assert await next_payload(client) == {"action": "resync", "reason": "config"}
        assert await client.is_silent()
        assert await neighbour.is_silent()


@pytest.mark.parametrize("wider", [{"fields": ["name", "retired"]}, {"fields": None, "exclude": []}])
async def test_an_event_without_the_fields_of_a_widened_binding_is_not_delivered(wider):
    """A frame with only some of the fields would remove the others from the client's row."""
    await edit(fields=["name"])
    await edit(**wider)
    await settle_hub()
    async with Client() as client:
        await subscribe(client)
        await write_as_before_the_edit('{"name":"ann"}')
        assert await next_payload(client) == {"action": "resync", "reason": "config"}
        assert await client.is_silent()


async def edit_groups_across_an_open_transaction(client: Client) -> None:
    """Write a row, edit the binding's groups, take a snapshot for the new group, and then commit the row."""
    await edit()
    await hire("ann", retired=True)
    begin, commit = hold_a_write_open("bob")
    await begin()
    try:
        await edit(groups=["retired-{retired}"])
        await settle_hub()
        await subscribe(client, params={"retired": False}, snapshot=True)
        assert (await next_payload(client))["objects"] == []
    finally:
        await commit()


@only_concurrent
async def test_a_transaction_open_across_an_edit_of_the_groups_causes_a_resync():
    """The row was not in the snapshot, and its event is for a group of the previous rules."""
    async with Client() as client:
        await edit_groups_across_an_open_transaction(client)
        assert await next_payload(client) == {"action": "resync", "reason": "config"}
        await subscribe(client, params={"retired": False}, snapshot=True)
        [row] = (await next_payload(client))["objects"]
        assert row["data"] == {"name": "bob", "retired": False}
        assert await client.is_silent()


@only_concurrent
async def test_comparing_subscribers_before_the_version_is_detected(monkeypatch):
    """Negative control of the previous test: the event has no subscribers, and the client never learns of the row."""
    in_force = LiveHub.is_in_force
    monkeypatch.setattr(
        LiveHub, "is_in_force", lambda self, event: not self.core.has_subscribers(event) or in_force(self, event)
    )
    async with Client() as client:
        await edit_groups_across_an_open_transaction(client)
        assert await client.is_silent()


async def test_a_snapshot_read_during_an_edit_follows_the_new_binding(monkeypatch):
    """Rows read under the previous binding are dropped if the hub has a new one by then."""
    await edit()
    await hire()
    take, loop, done = snapshots.read_snapshot, asyncio.get_running_loop(), False

    def take_and_edit(*args: Any) -> object:
        nonlocal done
        snapshot = take(*args)
        if not done:
            done = True
            save_record({**KEEPERS, "fields": ["name"]})
            asyncio.run_coroutine_threadsafe(settle_hub(), loop).result(PATIENCE)
        return snapshot

    monkeypatch.setattr(snapshots, "read_snapshot", take_and_edit)
    async with Client() as client:
        await subscribe(client, snapshot=True)
        [row] = (await next_payload(client))["objects"]
        assert row["data"] == {"name": "ann"}
