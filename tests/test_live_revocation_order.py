"""Revoked permissions: nothing that was written after the loss is delivered; kicks and batched checks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction

from declbind.inbound.revocation import kick
from declbind.live import grants, subscriptions
from declbind.live.hub import LiveHub, get_hub
from declbind.live.pump import Pump
from declbind.live.socket import Socket
from declbind.models import Event
from declbind.outbound import entries, log
from declbind.registry import database_alias
from declbind.testing import PATIENCE, Client, override_bindings
from tests.live import NUMBERS, Tap, code_of, in_thread, next_payload, settle_hub, since_of, store, subscribe
from tests.logins import (
    PRIVATE,
    PRIVATE_BOARD,
    VIEW,
    Login,
    change_password,
    deactivate,
    log_in,
    save_number,
    take_permission,
)

pytestmark = pytest.mark.django_db(transaction=True)

# Revocation and write at the same time --------------------------------------------------------------------------------


async def lose_then_write(lose: Callable[[Login], Any], *, atomic: bool = False) -> list[Any]:
    """Revoke a permission and write at once; return the frames of the client until no more follow."""
    login = await log_in(VIEW)

    def run() -> None:
        if atomic:
            with transaction.atomic():
                lose(login)
                save_number()
        else:
            lose(login)
            save_number()

    received: list[Any] = []
    with override_bindings(PRIVATE):
        async with login.client() as client:
            await subscribe(client)
            await in_thread(run)
            try:
                received.append((await next_payload(client))["action"])
                while not await client.is_silent():
                    received.append((await next_payload(client))["action"])
            except ConnectionError:
                received.append(client.close_code)
    return received


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize(
    ("lose", "expected"), [(take_permission, ["closed"]), (change_password, [4401]), (deactivate, [4401])]
)
async def test_nothing_written_after_the_loss_is_delivered(lose, expected, atomic):
    """The hub reads the revocation before the write in the log, however close they are."""
    assert await lose_then_write(lose, atomic=atomic) == expected


async def test_a_hub_that_ignores_control_events_is_detected(monkeypatch):
    """Negative control of the previous test."""

    async def ignore(self: Pump, event: object) -> None:
        return None

    monkeypatch.setattr(Pump, "_obey", ignore)
    assert await lose_then_write(take_permission) == ["create"]


async def test_a_running_replay_stops_at_the_loss():
    """The replay, which is sent at the reader's pace, ends with the subscription, even in the middle of a batch."""
    login = await log_in(VIEW)
    with override_bindings(PRIVATE):
        async with login.client() as client:
            reply = await subscribe(client)
        for value in range(50):
            await store("a", value)
        await settle_hub()
        tap = Tap()
        client = login.client(tap)
        await client.connect()
        tap.shut()
        since = since_of(reply)
        request = {"action": "subscribe", "params": {"name": "a"}, "since": since, "ref": 1}
        await client.send({"stream": "numbers", "payload": request})
        tap.let(3)
        received = [await next_payload(client) for _ in range(3)]
        assert [payload["action"] for payload in received] == ["reply", "create", "create"]
        await in_thread(take_permission, login)
        await settle_hub()
        tap.let(60)
        rest = [await next_payload(client)]
        while rest[-1]["action"] == "create":
            rest.append(await next_payload(client))
        # The few that were under way, and the end.
        assert rest[-1]["action"] == "closed"
        assert len(rest) < 45
        assert await client.is_silent()
        await client.disconnect()


async def grant_then_lose(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Revoke the permission, and let the hub notice, after it was checked for a request and before the answer."""
    login = await log_in(VIEW)
    loop = asyncio.get_running_loop()
    grant = grants.grant
    lost = False

    def grant_slowly(*args: Any) -> object:
        nonlocal lost
        granted = grant(*args)
        if not lost:
            lost = True
            take_permission(login)
            asyncio.run_coroutine_threadsafe(hub.settle(), loop).result(PATIENCE)
        return granted

    monkeypatch.setattr(subscriptions, "grant", grant_slowly)
    with override_bindings(PRIVATE):
        hub = await get_hub()
        async with login.client() as client:
            return await client.request("numbers", "subscribe", params={"name": "a"}, snapshot=True)


async def test_a_permission_lost_during_its_check_is_denied(monkeypatch):
    """The check is repeated if permissions were revoked in the meantime."""
    assert code_of(await grant_then_lose(monkeypatch)) == "denied"


async def test_a_check_that_is_not_repeated_is_detected(monkeypatch):
    """Negative control of the previous test: the old answer would have subscribed the client."""

    async def revalidate(self: LiveHub, sockets: Iterable[Socket]) -> None:
        return None

    monkeypatch.setattr(LiveHub, "revalidate", revalidate)
    assert (await grant_then_lose(monkeypatch))["ok"]


# Kicks and batched checks ---------------------------------------------------------------------------------------------


async def test_a_kick_closes_the_connections_of_a_user():
    """The code is 1012, with the operator's reason. Other users stay connected, and the user may reconnect."""
    login, other = await log_in(VIEW), await log_in(VIEW)
    with override_bindings(PRIVATE):
        async with login.client() as client, other.client() as neighbour:
            await subscribe(neighbour)
            await in_thread(kick, user=login.user, reason="Please reload.")
            with pytest.raises(ConnectionError, match=r"1012: Please reload\."):
                await client.receive()
            await store("a", 1)
            assert (await next_payload(neighbour))["data"]["value"] == 1
        async with login.client() as client:
            await subscribe(client)


async def test_a_kick_closes_one_connection():
    """One of several sockets can be chosen, including an anonymous one."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            [connection] = (await get_hub()).core.connections
            async with Client() as neighbour:
                await in_thread(kick, connection=connection.info.id)
                assert await client.wait_closed() == 1012
                await subscribe(neighbour)


@pytest.mark.parametrize("joined", ["asked", "at connect"])
async def test_the_batched_check_finds_changes_without_a_signal(settings, joined):
    """QuerySet.update() on users sends no signal. The check repeated every REVALIDATE_SECONDS sees the result."""
    settings.DECLBIND = {"REVALIDATE_SECONDS": 0.1}
    login, other = await log_in(VIEW), await log_in(VIEW)
    with override_bindings(PRIVATE, PRIVATE_BOARD):
        async with login.client() as client, other.client() as neighbour:
            await subscribe(neighbour)
            if joined == "asked":
                await subscribe(client)
            await in_thread(lambda: get_user_model().objects.filter(pk=login.user.pk).update(is_active=False))
            assert await client.wait_closed() == 4401
            assert neighbour.close_code is None


async def test_a_control_event_of_a_newer_release_has_all_rights_checked():
    """An unknown event causes a check of all permissions, because a rolling update may have newer processes."""
    login = await log_in(VIEW)
    with override_bindings(PRIVATE):
        async with login.client() as client:
            await subscribe(client)

            def say_something_new() -> None:
                with transaction.atomic():
                    # This change sends no signal, so only the unknown event can cause the check.
                    get_user_model().user_permissions.through.objects.filter(user=login.user).delete()
                    draft = entries.Draft("", kind=Event.CONTROL, data=json.dumps({"type": "tokens", "tokens": [1]}))
                    log.append([draft], database_alias())

            await in_thread(say_something_new)
            assert (await next_payload(client))["reason"] == "permission"
            assert await client.is_silent()
