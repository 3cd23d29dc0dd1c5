"""Edits of records under open sockets: affected clients are notified, others are not, and closed streams end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from django.db import connection, connections, transaction

from declbind.live import changes, edits, hub, snapshots
from declbind.live.consumers import BindingConsumer
from declbind.live.edits import Edits
from declbind.live.hub import LiveHub, get_hub
from declbind.models import BindingRecord, Configuration
from declbind.outbound import entries, log
from declbind.registry import database_alias, refresh
from declbind.sources import code
from declbind.testing import PATIENCE, Client
from tests.factories import make_user
from tests.live import ANYONE, code_of, fail_to_look, in_thread, next_payload, since_of, trim_all
from tests.zoo.models import Keeper

pytestmark = pytest.mark.django_db(transaction=True)

only_concurrent = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="One transaction writes at a time on SQLite."
)

KEEPERS = {
    "stream": "keepers",
    "model": "zoo.Keeper",
    "fields": ["name", "retired"],
    "groups": ["name-{name}"],
    "permissions": ANYONE,
}


@pytest.fixture(autouse=True)
def no_grace(settings: Any, transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Remove the grace period, wait for no open transaction, and start from the state of the database."""
    settings.DECLBIND = {"VERSION_CHECK_SECONDS": 0}
    monkeypatch.setattr(edits, "LOOK_SECONDS", 600)
    refresh(force=True)
    yield
    refresh(force=True)


def let_writers_be_behind(settings: Any, seconds: float) -> None:
    """Make the grace period after an edit this long. It is twice the time between two version checks."""
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


async def write_as_before_the_edit(data: str, group: str = "name-ann", versions: int = 1) -> None:
    """Append the event of a writer that has not noticed the last edits yet."""

    def write() -> None:
        version = Configuration.objects.get().version - versions
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
    """The frame names the group. The socket stays open, and subscribers of other streams get nothing."""
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
    """Reads and writes of a disabled binding are refused, also on sockets that used it before."""
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
    """A changed permission ends the subscriptions of users without it, and sends nothing to the others."""
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
    """The group keeps its name, but only its owner may subscribe to it from now on."""
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
    """Without an explicit subscription, neither closed nor resync is sent, because old clients know neither."""
    await edit(groups=[], auto_subscribe=True)
    async with Client() as client:
        await hire()
        assert (await next_payload(client))["action"] == "create"
        await edit(groups=[], auto_subscribe=True, exclude=["retired"], fields=None)
        await edit(groups=[], auto_subscribe=True, enabled=False)
        await hire()
        assert await client.is_silent()


# Joined again --------------------------------------------------------------------------------------------------------

BY_ITSELF = {"groups": [], "auto_subscribe": True}


class InCode(BindingConsumer):
    """Connections that join a group named by project code."""

    def connection_groups(self, **kwargs: Any) -> list[str]:
        return [f"name-{kwargs['name']}"]


async def settle() -> None:
    await (await get_hub()).settle()


async def disable_and_enable(**record: Any) -> None:
    await edit(**record, enabled=False)
    await settle()
    await edit(**record)
    await settle()


async def remove_and_add(**record: Any) -> None:
    await remove()
    await settle()
    await edit(**record)
    await settle()


async def close_and_open(**record: Any) -> None:
    await edit(**record, direction="inbound")
    await settle()
    await edit(**record)
    await settle()


async def hide_and_show(**record: Any) -> None:
    await edit(**{**record, "permissions": {**ANYONE, "view": False}})
    await settle()
    await edit(**record)
    await settle()


@pytest.mark.parametrize("change", [disable_and_enable, remove_and_add, close_and_open, hide_and_show])
async def test_a_group_joined_at_connect_is_joined_again(change):
    """A client of Channels 1.x cannot subscribe itself, and does not know that the group was closed."""
    await edit(**BY_ITSELF)
    async with Client() as client, Client() as neighbour:
        await change(**BY_ITSELF)
        await hire()
        for each in (client, neighbour):
            frame = await each.receive()
            assert (frame["payload"]["action"], "offset" in frame) == ("create", False)
            assert await each.is_silent()


@pytest.mark.parametrize("change", [disable_and_enable, remove_and_add, close_and_open])
async def test_a_group_granted_by_code_is_joined_again(change):
    """``connection_groups`` is not called again. Its result holds as long as the socket is open."""
    await edit()
    async with Client(InCode.as_asgi(), url_kwargs={"name": "ann"}) as client:
        await change()
        await hire("bob")
        await hire("ann")
        assert (await next_payload(client))["data"]["name"] == "ann"
        assert await client.is_silent()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, BY_ITSELF),
        ({"groups": ["all"], "auto_subscribe": True}, {"groups": ["every"], "auto_subscribe": True}),
        ({**BY_ITSELF, "permissions": {**ANYONE, "view": False}}, BY_ITSELF),
    ],
)
async def test_a_group_that_an_edit_brings_is_joined_under_an_open_socket(before, after):
    """After the edit a socket is in the groups that it would join if it connected now."""
    await edit(**before)
    async with Client() as client:
        await edit(**after)
        await settle()
        await hire()
        assert (await next_payload(client))["action"] == "create"
        assert await client.is_silent()


async def test_a_group_that_the_user_may_not_view_is_not_joined_again():
    """The view permission is checked as at connect."""
    await edit(**BY_ITSELF)
    holder = await in_thread(make_user, "zoo.view_keeper")
    async with Client() as client, Client(user=holder) as neighbour:
        await edit(**BY_ITSELF, enabled=False)
        await settle()
        await edit(**{**BY_ITSELF, "permissions": {"view": "zoo.view_keeper"}})
        await settle()
        await hire()
        assert (await next_payload(neighbour))["action"] == "create"
        assert await client.is_silent()


@pytest.mark.parametrize("action", ["subscribe", "unsubscribe"])
async def test_a_group_that_the_client_has_left_or_asked_for_is_not_joined_again(action):
    """A client with an explicit subscription is sent ``closed``, and decides itself whether to subscribe again."""
    await edit(**BY_ITSELF)
    async with Client() as client:
        assert (await client.request("keepers", action))["ok"]
        await disable_and_enable(**BY_ITSELF)
        await hire()
        if action == "subscribe":
            assert await next_payload(client) == {"action": "closed", "reason": "disabled"}
        assert await client.is_silent()


async def test_a_subscription_that_goes_on_is_not_replaced_by_an_edit():
    """Frames keep the form of the subscription, and arrive once."""
    await edit(**BY_ITSELF, fields=["name", "retired"])
    async with Client() as client, Client() as plain:
        assert (await client.request("keepers", "subscribe"))["ok"]
        await edit(**BY_ITSELF, fields=["name"])
        await settle()
        await hire()
        assert "offset" in await client.receive()
        assert "offset" not in await plain.receive()
        assert await client.is_silent()
        assert await plain.is_silent()


async def test_a_hub_that_joins_nothing_again_is_noticed(monkeypatch):
    """Negative control of the previous tests."""

    async def join_nothing(hub: LiveHub, streams: Any) -> None:
        pass

    monkeypatch.setattr(hub, "rejoin", join_nothing)
    await edit(**BY_ITSELF)
    async with Client() as client:
        await disable_and_enable(**BY_ITSELF)
        await hire()
        assert await client.is_silent()


# Narrower ------------------------------------------------------------------------------------------------------------


async def test_a_field_that_was_taken_out_is_sent_no_more():
    """It is not sent after the commit of the edit, even if a writer has not noticed the edit."""
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
    """The log still contains it, but the reader of the log no longer sends it."""
    await edit()
    async with Client() as client:
        # The offset must lie behind the edit that made the binding, or coming back is answered by a resync.
        await (await get_hub()).settle()
        reply = await subscribe(client)
    await hire()
    await edit(fields=["name"])
    async with Client() as client:
        await subscribe(client, since=since_of(reply))
        assert (await next_payload(client))["data"] == {"name": "ann"}


def dump(instance: Any, binding: Any) -> dict[str, Any]:
    """Serialize a row: the bound fields and one additional key."""
    return {field.name: getattr(instance, field.attname) for field in binding.bound_fields()} | {"label": "!"}


async def test_a_field_that_was_taken_out_is_hidden_from_a_serializers_data_too(settings):
    """A serializer may send additional names, but no model field that is not bound now."""
    settings.DECLBIND = {**settings.DECLBIND, "SERIALIZERS": {"own": f"{__name__}.dump"}}
    await edit(serializer="own")
    async with Client() as client:
        await subscribe(client)
        await edit(serializer="own", fields=["name"])
        await write_as_before_the_edit('{"name":"ann","retired":true,"label":"!"}')
        assert (await next_payload(client))["data"] == {"name": "ann", "label": "!"}


async def test_a_reader_that_sends_what_the_log_holds_is_noticed(monkeypatch):
    """Negative control of the three previous tests."""
    monkeypatch.setattr(changes, "_is_sent", lambda binding, name: True)
    await edit()
    async with Client() as client:
        await subscribe(client)
        await edit(fields=["name"])
        await write_as_before_the_edit('{"name":"ann","retired":true}')
        assert "retired" in (await next_payload(client))["data"]


async def test_rows_that_a_late_writer_puts_into_groups_of_before_are_not_sent():
    """An event made under the previous ``where`` is dropped, and a resync is sent."""
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
    """A process that starts after the edit learns from the log which events follow the previous rules."""
    await edit()
    await edit(where={"retired": False})
    async with Client() as client:
        await subscribe(client)
        await write_as_before_the_edit('{"name":"ann","retired":true}')
        assert await next_payload(client) == {"action": "resync", "reason": "config"}


async def check_that_a_trimmed_edit_is_in_force(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
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


async def test_a_hub_that_trusts_the_versions_of_before_a_gap_is_noticed(monkeypatch, settings):
    """Negative control of the previous test."""
    monkeypatch.setattr(LiveHub, "is_in_force", lambda self, event: True)
    with pytest.raises((AssertionError, KeyError)):
        await check_that_a_trimmed_edit_is_in_force(monkeypatch, settings)


async def test_a_hub_without_a_memory_of_edits_is_noticed(monkeypatch):
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
async def test_an_event_for_a_group_of_before_the_edit_is_a_resync_to_every_subscriber(change):
    """Its former group has no subscribers, and its row may be in the group of any subscriber of the stream."""
    params = {"retired": False} if change["groups"][-1] != "all" else {}
    await edit()
    await edit(**change)
    await in_thread(save_record, {**KEEPERS, "stream": "others"})
    await (await get_hub()).settle()
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
    await (await get_hub()).settle()
    async with Client() as client:
        await subscribe(client)
        await write_as_before_the_edit('{"name":"ann"}')
        assert await next_payload(client) == {"action": "resync", "reason": "config"}
        assert await client.is_silent()


def hold_a_write_open(name: str) -> tuple[Callable[[], Awaitable[None]], Callable[[], Awaitable[None]]]:
    """Return a function that writes a row in a transaction of another connection, and one that commits it."""
    written, end = threading.Event(), threading.Event()

    def run() -> None:
        try:
            with transaction.atomic():
                Keeper.objects.create(name=name)
                written.set()
                assert end.wait(PATIENCE)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)

    async def begin() -> None:
        thread.start()
        assert await asyncio.to_thread(written.wait, PATIENCE)

    async def commit() -> None:
        end.set()
        await asyncio.to_thread(thread.join, PATIENCE)

    return begin, commit


async def edit_groups_across_an_open_transaction(client: Client) -> None:
    """Write a row, edit the binding's groups, take a snapshot for the new group, and then commit the row."""
    await edit()
    await hire("ann", retired=True)
    begin, commit = hold_a_write_open("bob")
    await begin()
    try:
        await edit(groups=["retired-{retired}"])
        await (await get_hub()).settle()
        await subscribe(client, params={"retired": False}, snapshot=True)
        assert (await next_payload(client))["objects"] == []
    finally:
        await commit()


@only_concurrent
async def test_a_transaction_that_was_open_across_an_edit_of_the_groups_is_a_resync():
    """The row was not in the snapshot, and its event is for a group of the previous rules."""
    async with Client() as client:
        await edit_groups_across_an_open_transaction(client)
        assert await next_payload(client) == {"action": "resync", "reason": "config"}
        await subscribe(client, params={"retired": False}, snapshot=True)
        [row] = (await next_payload(client))["objects"]
        assert row["data"] == {"name": "bob", "retired": False}
        assert await client.is_silent()


@only_concurrent
async def test_looking_for_subscribers_before_the_version_is_noticed(monkeypatch):
    """Negative control of the previous test: the event has no subscribers, and the client never learns of the row."""
    in_force = LiveHub.is_in_force
    monkeypatch.setattr(
        LiveHub, "is_in_force", lambda self, event: not self.core.has_subscribers(event) or in_force(self, event)
    )
    async with Client() as client:
        await edit_groups_across_an_open_transaction(client)
        assert await client.is_silent()


async def test_a_snapshot_taken_while_the_binding_is_narrowed_is_narrow(monkeypatch):
    """Rows read under the previous binding are dropped if the hub has a new one by then."""
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
    """One resync ``config`` is sent after the grace period, not one per edit, and only to subscribers of the stream."""
    await edit(fields=["name"], where={"retired": False})
    await in_thread(save_record, {**KEEPERS, "stream": "others"})
    async with Client() as client, Client() as neighbour:
        await subscribe(client)
        await subscribe(neighbour, "others")
        let_writers_be_behind(settings, 0.5)
        await edit(**wider)
        await edit(**wider, groups=["name-{name}", "retired-{retired}"])
        await hire()
        assert (first := await next_payload(client))["action"] == "create", first
        frame = await client.receive()
        assert (frame["stream"], frame["group"]) == ("keepers", "name-ann")
        assert frame["payload"] == {"action": "resync", "reason": "config"}
        assert await client.is_silent()
        assert (await neighbour.receive())["payload"]["action"] == "create"
        assert await neighbour.is_silent()


async def test_a_setting_that_changes_during_a_version_check_ends_no_subscription(settings, monkeypatch):
    """The registry is loaded again after that. Until then, the bindings of the database stay in force."""
    await edit()
    async with Client() as client:
        await subscribe(client)

        def change() -> bool:
            monkeypatch.undo()
            let_writers_be_behind(settings, 60)
            return False

        monkeypatch.setattr(code, "has_new_classes", change)
        await (await get_hub()).settle()
        await hire()
        assert (await next_payload(client))["action"] == "create"


async def test_an_edit_of_words_tells_nobody():
    """A description, the write permissions, or fewer fields are no reason to take a snapshot again."""
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
    """A snapshot taken just after the edit may lack rows of a late writer without an event; in a new process too."""
    let_writers_be_behind(settings, 0.5)
    await edit()
    async with Client() as client:
        await subscribe(client)
        assert await next_payload(client) == {"action": "resync", "reason": "config"}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (None, {}, True),
        ({"enabled": False}, {}, True),
        ({"direction": "inbound"}, {}, True),
        ({}, None, False),
        ({}, {"enabled": False}, False),
        ({}, {"also": ["pens"]}, True),
        ({"also": ["pens"]}, {}, False),
        ({}, {"scope": {"name": "$user.username"}}, True),
        ({}, {"serializer": "own"}, True),
        ({}, {"fields": ["name"]}, False),
        ({"fields": ["name"]}, {}, True),
        ({}, {"description": "Those who keep.", "writable": ["name"]}, False),
    ],
)
def test_which_edits_leave_clients_without_something(old, new, expected):
    """After such an edit clients take a snapshot, and earlier events are not delivered."""
    before, after = (None if each is None else {**KEEPERS, **each} for each in (old, new))
    assert changes.shows_more(before, after) is expected


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
    """The binding was widened, disabled for a time, or has other rows: the log does not have all missed changes."""
    await edit(fields=["name"])
    async with Client() as client:
        reply = await subscribe(client)
    for changed in edits:
        await edit(**changed)
    await hire()
    await (await get_hub()).settle()
    async with Client() as client:
        await subscribe(client, since=since_of(reply))
        assert await next_payload(client) == {"action": "resync", "reason": "config"}


async def test_a_position_from_before_other_edits_is_replayed():
    """After an edit that shows less, or an edit of another stream, the log is complete."""
    await edit()
    async with Client() as client:
        await (await get_hub()).settle()
        reply = await subscribe(client)
    await edit(fields=["name"])
    await in_thread(save_record, {**KEEPERS, "stream": "others"})
    await hire()
    async with Client() as client:
        await subscribe(client, since=since_of(reply))
        assert (await next_payload(client))["action"] == "create"
