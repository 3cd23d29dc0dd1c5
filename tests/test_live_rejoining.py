"""Groups joined at connect are joined again when an edit opens them again."""

from __future__ import annotations

from typing import Any

import pytest

from declbind.live import hub
from declbind.live.consumers import BindingConsumer
from declbind.live.hub import LiveHub
from declbind.testing import Client
from tests.factories import make_user
from tests.live import ANYONE, in_thread, next_payload, settle_hub
from tests.record_edits import edit, hire, no_grace, remove

__all__ = ["no_grace"]

pytestmark = pytest.mark.django_db(transaction=True)
BY_ITSELF = {"groups": [], "auto_subscribe": True}


class InCode(BindingConsumer):
    """Connections that join a group named by project code."""

    def connection_groups(self, **kwargs: object) -> list[str]:
        return [f"name-{kwargs['name']}"]


async def disable_and_enable(**record: object) -> None:
    await edit(**record, enabled=False)
    await settle_hub()
    await edit(**record)
    await settle_hub()


async def remove_and_add(**record: object) -> None:
    await remove()
    await settle_hub()
    await edit(**record)
    await settle_hub()


async def close_and_open(**record: object) -> None:
    await edit(**record, direction="inbound")
    await settle_hub()
    await edit(**record)
    await settle_hub()


async def hide_and_show(**record: object) -> None:
    await edit(**{**record, "permissions": {**ANYONE, "view": False}})
    await settle_hub()
    await edit(**record)
    await settle_hub()


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
async def test_a_group_that_an_edit_adds_is_joined_by_open_sockets(before, after):
    """After the edit a socket is in the groups that it would join if it connected now."""
    await edit(**before)
    async with Client() as client:
        await edit(**after)
        await settle_hub()
        await hire()
        assert (await next_payload(client))["action"] == "create"
        assert await client.is_silent()


async def test_a_group_that_the_user_may_not_view_is_not_joined_again():
    """The view permission is checked as at connect."""
    await edit(**BY_ITSELF)
    holder = await in_thread(make_user, "zoo.view_keeper")
    async with Client() as client, Client(user=holder) as neighbour:
        await edit(**BY_ITSELF, enabled=False)
        await settle_hub()
        await edit(**{**BY_ITSELF, "permissions": {"view": "zoo.view_keeper"}})
        await settle_hub()
        await hire()
        assert (await next_payload(neighbour))["action"] == "create"
        assert await client.is_silent()


@pytest.mark.parametrize("action", ["subscribe", "unsubscribe"])
async def test_a_group_with_an_explicit_subscription_is_not_joined_again(action):
    """The client is sent ``closed``, and decides itself whether to subscribe again.

    Groups that it left are not joined either.
    """
    await edit(**BY_ITSELF)
    async with Client() as client:
        assert (await client.request("keepers", action))["ok"]
        await disable_and_enable(**BY_ITSELF)
        await hire()
        if action == "subscribe":
            assert await next_payload(client) == {"action": "closed", "reason": "disabled"}
        assert await client.is_silent()


async def test_an_edit_does_not_replace_a_subscription_that_continues():
    """Frames keep the form of the subscription, and arrive once."""
    await edit(**BY_ITSELF, fields=["name", "retired"])
    async with Client() as client, Client() as plain:
        assert (await client.request("keepers", "subscribe"))["ok"]
        await edit(**BY_ITSELF, fields=["name"])
        await settle_hub()
        await hire()
        assert "offset" in await client.receive()
        assert "offset" not in await plain.receive()
        assert await client.is_silent()
        assert await plain.is_silent()


async def test_a_hub_that_joins_nothing_again_is_detected(monkeypatch):
    """Negative control of the previous tests."""

    async def join_nothing(hub: LiveHub, streams: Any) -> None:
        pass

    monkeypatch.setattr(hub, "rejoin", join_nothing)
    await edit(**BY_ITSELF)
    async with Client() as client:
        await disable_and_enable(**BY_ITSELF)
        await hire()
        assert await client.is_silent()
