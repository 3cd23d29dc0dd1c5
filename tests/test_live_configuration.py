"""Edits of records under open sockets: affected clients are notified, others are not, and closed streams end."""

from __future__ import annotations

import pytest

from declbind.live import changes
from declbind.sources import code
from declbind.testing import Client
from tests.factories import make_user
from tests.live import ANYONE, code_of, in_thread, next_payload, settle_hub, since_of
from tests.record_edits import KEEPERS, edit, hire, let_writers_be_behind, no_grace, remove, save_record, subscribe

__all__ = ["no_grace"]

pytestmark = pytest.mark.django_db(transaction=True)

# Ended subscriptions --------------------------------------------------------------------------------------------------


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
async def test_a_subscription_that_ends_is_sent_the_reason(change, reason):
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
        await settle_hub()
        await subscribe(client)


async def test_a_new_rule_does_not_end_subscriptions_that_it_allows():
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


async def test_a_new_scope_ends_subscriptions_of_other_users():
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


async def test_a_stream_joined_at_connect_ends_without_a_frame():
    """Without an explicit subscription, neither closed nor resync is sent, because old clients know neither."""
    await edit(groups=[], auto_subscribe=True)
    async with Client() as client:
        await hire()
        assert (await next_payload(client))["action"] == "create"
        await edit(groups=[], auto_subscribe=True, exclude=["retired"], fields=None)
        await edit(groups=[], auto_subscribe=True, enabled=False)
        await hire()
        assert await client.is_silent()


# Wider bindings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wider",
    [
        {"fields": ["name", "retired"]},
        {"exclude": [], "fields": None},
        {"fields": ["name"], "where": {"retired": [True, False]}},
    ],
)
async def test_a_widened_binding_causes_one_resync_after_the_grace_period(settings, wider):
    """The resync ``config`` is sent once, not for each edit, and only to subscribers of the stream."""
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
        await settle_hub()
        await hire()
        assert (await next_payload(client))["action"] == "create"


async def test_an_edit_that_shows_no_more_rows_sends_nothing():
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


async def test_a_subscription_within_the_grace_period_gets_the_resync(settings):
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
def test_edits_that_show_more_need_a_snapshot(old, new, expected):
    """After such an edit clients take a snapshot, and earlier events are not delivered."""
    before, after = (None if each is None else {**KEEPERS, **each} for each in (old, new))
    assert changes.shows_more(before, after) is expected


# Resumption -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "edits",
    [
        [{"fields": ["name", "retired"]}],
        [{"enabled": False, "fields": ["name"]}, {"fields": ["name"]}],
        [{"fields": ["name"], "where": {"name": ["ann"]}}],
    ],
)
async def test_resuming_from_before_an_edit_that_shows_more_is_a_resync(edits):
    """The binding was widened, disabled for a time, or has other rows: the log does not have all missed changes."""
    await edit(fields=["name"])
    async with Client() as client:
        reply = await subscribe(client)
    for changed in edits:
        await edit(**changed)
    await hire()
    await settle_hub()
    async with Client() as client:
        await subscribe(client, since=since_of(reply))
        assert await next_payload(client) == {"action": "resync", "reason": "config"}


async def test_resuming_from_before_other_edits_is_a_replay():
    """After an edit that shows less, or an edit of another stream, the log is complete."""
    await edit()
    async with Client() as client:
        await settle_hub()
        reply = await subscribe(client)
    await edit(fields=["name"])
    await in_thread(save_record, {**KEEPERS, "stream": "others"})
    await hire()
    async with Client() as client:
        await subscribe(client, since=since_of(reply))
        assert (await next_payload(client))["action"] == "create"
