"""Edits of records under open sockets: who is concerned is told, nobody else, and what is closed is closed at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction

from declbind.live import changes, snapshots
from declbind.live.hub import LiveHub, get_hub
from declbind.models import BindingRecord, Configuration
from declbind.outbound import entries, log
from declbind.registry import database_alias, refresh
from declbind.testing import PATIENCE, Client
from tests.factories import make_user
from tests.live import ANYONE, code_of, in_thread, next_payload
from tests.zoo.models import Keeper

pytestmark = pytest.mark.django_db(transaction=True)

KEEPERS = {
    "stream": "keepers",
    "model": "zoo.Keeper",
    "fields": ["name", "retired"],
    "groups": ["name-{name}"],
    "permissions": ANYONE,
}


@pytest.fixture(autouse=True)
def no_grace(settings: Any, transactional_db: None) -> Iterator[None]:
    """Let no writer be behind, and start from what the database holds."""
    settings.DECLBIND = {"VERSION_CHECK_SECONDS": 0}
    refresh(force=True)
    yield
    refresh(force=True)


def let_writers_be_behind(settings: Any, seconds: float) -> None:
    """Make the grace after an edit as long; it is twice the time between two version checks."""
    settings.DECLBIND = {**settings.DECLBIND, "VERSION_CHECK_SECONDS": seconds / 2}


def save_record(document: dict[str, Any]) -> None:
    record = BindingRecord.objects.filter(stream=document["stream"]).first() or BindingRecord()
    record.assign(document).save()


async def edit(**changes: Any) -> None:
    await in_thread(save_record, {**KEEPERS, **changes})


async def subscribe(client: Client, stream: str = "keepers", **payload: Any) -> dict[str, Any]:
    reply = await client.request(stream, "subscribe", **{"params": {"name": "ann"}, **payload})
    assert reply["ok"], reply
    return reply


async def hire(name: str = "ann", **values: Any) -> Keeper:
    return await Keeper.objects.acreate(name=name, **values)


async def write_as_before_the_edit(data: str, group: str = "name-ann") -> None:
    """Append what a writer says that has not noticed the last edit yet."""

    def write() -> None:
        version = Configuration.objects.get().version - 1
        with transaction.atomic():
            draft = entries.Draft("keepers", "zoo.keeper", "1", ((group, "update"),), data, version)
            log.append([draft], database_alias())

    await in_thread(write)


# Ends ----------------------------------------------------------------------------------------------------------------


async def remove() -> None:
    await in_thread(lambda: BindingRecord.objects.get(stream="keepers").delete())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda: edit(enabled=False), "disabled"),
        (lambda: edit(direction="inbound"), "disabled"),
        (remove, "removed"),
        (lambda: edit(groups=["retired-{retired}"]), "changed"),
        (lambda: edit(groups=["keeper-{name}"]), "changed"),
        (lambda: edit(permissions={"view": "zoo.view_keeper"}), "permission"),
        (lambda: edit(permissions={"view": False}), "permission"),
    ],
)
async def test_a_subscription_that_is_over_is_told_why(change, reason):
    """The frame names the group; the socket stays open, and another stream's subscribers hear of nothing."""
    await edit()
    await in_thread(save_record, {**KEEPERS, "stream": "others"})
    async with Client() as client, Client() as neighbour:
        await subscribe(client)
        await subscribe(client, "others")
        await subscribe(neighbour, "others")
        await change()
        frame = await client.receive()
        assert (frame["stream"], frame["group"]) == ("keepers", "name-ann")
        assert frame["payload"] == {"action": "closed", "reason": reason}
        await hire()
        for each in (client, neighbour):
            assert (await each.receive())["stream"] == "others"
            assert await each.is_silent()


async def test_a_closed_stream_answers_like_an_unknown_one():
    """Reads and writes of a binding that was disabled are refused, on sockets that knew it as well."""
    await edit()
    async with Client() as client:
        await subscribe(client)
        await edit(enabled=False)
        await client.receive()
        assert code_of(await client.request("keepers", "subscribe", params={"name": "ann"})) == "unknown_stream"
        assert code_of(await client.request("keepers", "create", data={"name": "ann"})) == "unknown_stream"
        await edit()
        await (await get_hub()).settle()
        await subscribe(client)


async def test_who_still_may_is_not_closed_by_a_new_rule():
    """A changed permission ends the subscriptions of those who lack it, and says nothing to the others."""
    await edit()
    holder = await in_thread(make_user, "zoo.view_keeper")
    async with Client() as client, Client(user=holder) as neighbour:
        await subscribe(client)
        await subscribe(neighbour)
        await edit(permissions={"view": "zoo.view_keeper"})
        assert (await next_payload(client))["reason"] == "permission"
        await hire()
        assert (await next_payload(neighbour))["action"] == "create"


async def test_a_scope_added_to_a_binding_ends_what_was_everybodys():
    """The group has the same name, and is its owner's alone from now on."""
    await edit()
    ann = await in_thread(make_user, username="ann")
    async with Client() as client, Client(user=ann) as owner:
        await subscribe(client)
        await subscribe(owner)
        await edit(scope={"name": "$user.username"})
        assert (await next_payload(client))["reason"] == "permission"
        await hire()
        payloads = [await next_payload(owner)]
        if payloads[0]["action"] == "resync":
            payloads.append(await next_payload(owner))
        assert payloads[-1]["action"] == "create"


async def test_a_stream_joined_at_connect_ends_without_a_word():
    """Who did not ask gets neither closed nor resync: the old client knows neither."""
    await edit(groups=[], auto_subscribe=True)
    async with Client() as client:
        await hire()
        assert (await next_payload(client))["action"] == "create"
        await edit(groups=[], auto_subscribe=True, exclude=["retired"], fields=None)
        await edit(groups=[], auto_subscribe=True, enabled=False)
        await hire()
        assert await client.is_silent()


# Narrower ------------------------------------------------------------------------------------------------------------


async def test_a_field_that_was_taken_out_is_sent_no_more():
    """From the commit of the edit on, also in what a writer says that has not noticed the edit."""
    await edit()
    async with Client() as client:
        await subscribe(client)
        await edit(fields=["name"])
        await write_as_before_the_edit('{"name":"ann","retired":true}')
        assert (await next_payload(client))["data"] == {"name": "ann"}
        await hire()
        assert (await next_payload(client))["data"] == {"name": "ann"}
        assert await client.is_silent()


async def test_a_field_that_was_taken_out_is_not_in_a_replay():
    """The log still holds it, the reader of the log no longer sends it."""
    await edit()
    async with Client() as client:
        # The offset must lie behind the edit that made the binding, or coming back is answered by a resync.
        await (await get_hub()).settle()
        reply = await subscribe(client)
    await hire()
    await edit(fields=["name"])
    async with Client() as client:
        await subscribe(client, since={"epoch": reply["epoch"], "offset": reply["offset"]})
        assert (await next_payload(client))["data"] == {"name": "ann"}


def dump(instance: Any, binding: Any) -> dict[str, Any]:
    """Serialize a row: the bound fields and something of one's own."""
    return {field.name: getattr(instance, field.attname) for field in binding.bound_fields()} | {"label": "!"}


async def test_a_field_that_was_taken_out_is_hidden_from_a_serializers_data_too(settings):
    """A serializer may send names of its own; of the model's fields only those that are bound now."""
    settings.DECLBIND = {**settings.DECLBIND, "SERIALIZERS": {"own": f"{__name__}.dump"}}
    await edit(serializer="own")
    async with Client() as client:
        await subscribe(client)
        await edit(serializer="own", fields=["name"])
        await write_as_before_the_edit('{"name":"ann","retired":true,"label":"!"}')
        assert (await next_payload(client))["data"] == {"name": "ann", "label": "!"}


async def test_a_reader_that_sends_what_the_log_holds_is_noticed(monkeypatch):
    """Negative control of the three tests before."""
    monkeypatch.setattr(changes, "_is_sent", lambda binding, name: True)
    await edit()
    async with Client() as client:
        await subscribe(client)
        await edit(fields=["name"])
        await write_as_before_the_edit('{"name":"ann","retired":true}')
        assert "retired" in (await next_payload(client))["data"]


async def test_rows_that_a_late_writer_puts_into_groups_of_before_are_not_sent():
    """where decides who hears of a row: what was judged by the where of before is dropped, and told as a resync."""
    await edit()
    async with Client() as client:
        await subscribe(client)
        await edit(where={"retired": False})
        await write_as_before_the_edit('{"name":"ann","retired":true}')
        assert await next_payload(client) == {"action": "resync", "reason": "config"}
        await hire()
        assert (await next_payload(client))["action"] == "create"
        # A transaction that was open all the while ends long after: its event is dropped, the loss is told.
        await write_as_before_the_edit('{"name":"ann","retired":true}')
        assert await next_payload(client) == {"action": "resync", "reason": "config"}
        assert await client.is_silent()


async def test_a_hub_that_started_later_drops_them_too():
    """A process that starts after the edit knows from the log which events follow rules of before."""
    await edit()
    await edit(where={"retired": False})
    async with Client() as client:
        await subscribe(client)
        await write_as_before_the_edit('{"name":"ann","retired":true}')
        assert await next_payload(client) == {"action": "resync", "reason": "config"}


async def test_a_hub_without_a_memory_of_edits_is_noticed(monkeypatch):
    """Negative control of the two tests before."""
    monkeypatch.setattr(LiveHub, "_raise_floors", lambda self, content, version: None)
    await edit()
    await edit(where={"retired": False})
    async with Client() as client:
        await subscribe(client)
        await write_as_before_the_edit('{"name":"ann","retired":true}')
        assert (await next_payload(client))["data"] == {"name": "ann", "retired": True}


async def test_a_snapshot_taken_while_the_binding_is_narrowed_is_narrow(monkeypatch):
    """Rows read under the binding of before are thrown away when the hub has another one since."""
    await edit()
    await hire()
    take, loop, done = snapshots.read_snapshot, asyncio.get_running_loop(), False

    def take_and_edit(*args: Any) -> Any:
        nonlocal done
        snapshot = take(*args)
        if not done:
            done = True
            save_record({**KEEPERS, "fields": ["name"]})
            asyncio.run_coroutine_threadsafe(settle(), loop).result(PATIENCE)
        return snapshot

    async def settle() -> None:
        await (await get_hub()).settle()

    monkeypatch.setattr(snapshots, "read_snapshot", take_and_edit)
    async with Client() as client:
        await subscribe(client, snapshot=True)
        [row] = (await next_payload(client))["objects"]
        assert row["data"] == {"name": "ann"}


# Wider ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wider",
    [
        {"fields": ["name", "retired"]},
        {"exclude": [], "fields": None},
        {"fields": ["name"], "where": {"retired": [True, False]}},
    ],
)
async def test_a_widened_binding_is_told_once_when_no_writer_can_be_behind(settings, wider):
    """One resync config after the grace, not one per edit, and to nobody else."""
    await edit(fields=["name"], where={"retired": False})
    await in_thread(save_record, {**KEEPERS, "stream": "others"})
    async with Client() as client, Client() as neighbour:
        await subscribe(client)
        await subscribe(neighbour, "others")
        let_writers_be_behind(settings, 0.5)
        await edit(**wider)
        await edit(**wider, groups=["name-{name}", "retired-{retired}"])
        await hire()
        assert (await next_payload(client))["action"] == "create"
        frame = await client.receive()
        assert (frame["stream"], frame["group"]) == ("keepers", "name-ann")
        assert frame["payload"] == {"action": "resync", "reason": "config"}
        assert await client.is_silent()
        assert (await neighbour.receive())["payload"]["action"] == "create"
        assert await neighbour.is_silent()


async def test_an_edit_of_words_tells_nobody():
    """A description, the rights to write, or fewer fields are no reason to take a snapshot again."""
    await edit()
    async with Client() as client:
        await subscribe(client)
        await edit(description="Those who keep.")
        await edit(permissions={**ANYONE, "delete": False}, writable=["name"])
        await edit(fields=["name"])
        await hire()
        assert (await next_payload(client))["action"] == "create"
        assert await client.is_silent()


async def test_who_subscribes_within_the_grace_is_told_too(settings):
    """A snapshot taken just after the edit may lack what a late writer does not announce; in a new process too."""
    let_writers_be_behind(settings, 0.5)
    await edit()
    async with Client() as client:
        await subscribe(client)
        assert await next_payload(client) == {"action": "resync", "reason": "config"}


# Coming back ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "edits",
    [
        [{"fields": ["name", "retired"]}],
        [{"enabled": False, "fields": ["name"]}, {"fields": ["name"]}],
        [{"fields": ["name"], "where": {"name": ["ann"]}}],
    ],
)
async def test_a_position_from_before_an_edit_that_shows_more_is_a_resync(edits):
    """Widened, or disabled for a time, or other rows: the log cannot tell what was missed."""
    await edit(fields=["name"])
    async with Client() as client:
        reply = await subscribe(client)
    for changed in edits:
        await edit(**changed)
    await hire()
    await (await get_hub()).settle()
    async with Client() as client:
        await subscribe(client, since={"epoch": reply["epoch"], "offset": reply["offset"]})
        assert await next_payload(client) == {"action": "resync", "reason": "config"}


async def test_a_position_from_before_other_edits_is_replayed():
    """Less to see, or another stream's edit, leaves the log a true account."""
    await edit()
    async with Client() as client:
        await (await get_hub()).settle()
        reply = await subscribe(client)
    await edit(fields=["name"])
    await in_thread(save_record, {**KEEPERS, "stream": "others"})
    await hire()
    async with Client() as client:
        await subscribe(client, since={"epoch": reply["epoch"], "offset": reply["offset"]})
        assert (await next_payload(client))["action"] == "create"
