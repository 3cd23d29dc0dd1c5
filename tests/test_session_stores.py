"""A logout closes the sockets of the session, whatever its store, and whether or not its key has changed."""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module

import pytest
from channels.auth import logout as channels_logout
from django.conf import settings as django_settings
from django.contrib.auth import update_session_auth_hash
from django.http import HttpRequest
from django.utils import timezone

from declbind.inbound import permissions
from declbind.inbound.permissions import keeps_sessions
from declbind.live.hub import get_hub
from declbind.live.session_ends import SessionEnds
from declbind.testing import Client, override_bindings
from tests.factories import make_user
from tests.live import NUMBERS, in_thread, next_payload, store, subscribe
from tests.session_stores import BACKENDS, PRIVATE, SERVER_STORES, VIEW, browser_of, check_again, engine, session_for

__all__ = ["engine"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["signed_cookies", "tokens"])
async def test_without_stable_session_keys_a_logout_ends_all_sockets_of_the_user(engine, name):
    """The key has changed since. Sockets of other users, and of the same user by a token, stay open."""
    engine(name)
    user, other = await in_thread(lambda: (make_user(VIEW), make_user(VIEW)))
    first, second, stranger = await browser_of(user), await browser_of(user), await browser_of(other)
    with override_bindings(PRIVATE):
        async with (
            first.socket() as here,
            second.socket() as there,
            stranger.socket() as elsewhere,
            Client(user=user) as by_token,
        ):
            for client in (here, there, elsewhere, by_token):
                await subscribe(client)
            opened_with = first.key
            await in_thread(first.write)
            assert first.key != opened_with
            await in_thread(first.log_out)
            await store("a", 1)
            assert await here.wait_closed() == 4401
            assert await there.wait_closed() == 4401
            assert (await next_payload(elsewhere))["data"]["value"] == 1
            assert (await next_payload(by_token))["data"]["value"] == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["signed_cookies", "tokens"])
async def test_a_changed_key_ends_no_socket(engine, name):
    """Neither the repeated check nor a client's request treats a rewritten session as ended."""
    engine(name)
    user = await in_thread(lambda: make_user(VIEW, "example.add_integervalue"))
    browser = await browser_of(user)
    with override_bindings({**NUMBERS, "permissions": {"view": VIEW, "create": "example.add_integervalue"}}):
        async with browser.socket() as client:
            await subscribe(client)
            for change in (browser.write, browser.cycle_key):
                await in_thread(change)
                await check_again()
                reply = await client.request("numbers", "create", data={"name": "a", "value": 2})
                assert reply["ok"], reply
                assert (await next_payload(client))["data"]["value"] == 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", SERVER_STORES)
async def test_with_stable_session_keys_a_logout_ends_one_session(engine, name):
    """The same user stays connected in another browser."""
    engine(name)
    user = await in_thread(lambda: make_user(VIEW))
    first, second = await browser_of(user), await browser_of(user)
    with override_bindings(PRIVATE):
        async with first.socket() as here, second.socket() as there:
            await subscribe(here)
            await subscribe(there)
            await in_thread(first.write)
            await in_thread(first.log_out)
            await store("a", 1)
            assert await here.wait_closed() == 4401
            assert (await next_payload(there))["data"]["value"] == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", [*SERVER_STORES, "rotating"])
async def test_a_logout_under_a_new_key_ends_sockets_of_the_old_key(engine, name):
    """``cycle_key()`` gave the session another key after the socket was opened."""
    engine(name)
    user = await in_thread(lambda: make_user(VIEW))
    browser, second = await browser_of(user), await browser_of(user)
    with override_bindings(PRIVATE):
        async with browser.socket() as here, second.socket() as there:
            await subscribe(here)
            await subscribe(there)
            opened_with = browser.key
            await in_thread(browser.write if name == "rotating" else browser.cycle_key)
            assert browser.key != opened_with
            await in_thread(browser.log_out)
            await store("a", 1)
            assert await here.wait_closed() == 4401
            assert (await next_payload(there))["data"]["value"] == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["db", "cached_db", "signed_cookies", "tokens"])
async def test_a_logout_by_channels_ends_the_sockets(engine, name):
    """It has the user and no session. Sockets without a session stay open."""
    engine(name)
    user = await in_thread(lambda: make_user(VIEW))
    browser = await browser_of(user)
    public = {**NUMBERS, "stream": "public"}
    with override_bindings(PRIVATE, public):
        async with browser.socket() as here, Client(user=user) as by_token, Client() as anonymous:
            await subscribe(here)
            await subscribe(by_token)
            await subscribe(anonymous, stream="public")
            await in_thread(browser.write)
            session = import_module(django_settings.SESSION_ENGINE).SessionStore(browser.key)
            await channels_logout({"session": session, "user": user})
            await store("a", 1)
            assert await here.wait_closed() == 4401
            assert (await next_payload(by_token))["data"]["value"] == 1
            assert (await next_payload(anonymous))["data"]["value"] == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", [*SERVER_STORES, "signed_cookies", "tokens", "rotating"])
async def test_a_password_change_ends_the_sockets_with_every_store(engine, name):
    """The browser that changed it stays logged in under a new hash; the sockets were opened under the old one."""
    engine(name)
    user = await in_thread(lambda: make_user(VIEW))
    browser = await browser_of(user)

    def change(request: HttpRequest) -> None:
        user.set_password("another")
        user.save()
        update_session_auth_hash(request, user)

    with override_bindings(PRIVATE):
        async with browser.socket() as client:
            await subscribe(client)
            await in_thread(browser.visit, change)
            assert await client.wait_closed() == 4401
        async with browser.socket() as again:
            assert (await subscribe(again))["ok"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", SERVER_STORES)
async def test_a_session_that_is_flushed_ends_its_sockets_at_the_next_check(engine, name):
    """The store dropped the session without a logout."""
    engine(name)
    user = await in_thread(lambda: make_user(VIEW))
    browser = await browser_of(user)
    with override_bindings(PRIVATE):
        async with browser.socket() as client:
            await subscribe(client)
            await in_thread(browser.visit, lambda request: request.session.flush())
            await check_again()
            assert await client.wait_closed() == 4401


@pytest.mark.django_db(transaction=True)
async def test_comparing_the_digest_of_the_key_alone_would_be_caught(engine, monkeypatch):
    """Negative control: the socket of a session whose cookie was rewritten survives the logout."""
    engine("signed_cookies")
    monkeypatch.setattr(permissions, "survives_logout", lambda identity: True)
    browser = await browser_of(await in_thread(lambda: make_user(VIEW)))
    with override_bindings(PRIVATE):
        async with browser.socket() as client:
            await subscribe(client)
            await in_thread(browser.write)
            await in_thread(browser.log_out)
            await store("a", 1)
            assert (await next_payload(client))["data"]["value"] == 1


@pytest.mark.parametrize("name", SERVER_STORES)
def test_stores_on_the_server_can_end_a_session(name):
    """Their keys are random, and do not depend on the data."""
    assert keeps_sessions(import_module(f"{BACKENDS}.{name}").SessionStore)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["db", "cached_db", "cache", "file"])
async def test_a_socket_ends_with_its_session(engine, name):
    """The socket ends long before the regular check; a longer session keeps its socket."""
    engine(name)
    user = await in_thread(lambda: make_user(VIEW))
    short, long = await session_for(2, user), await session_for(100, user)
    with override_bindings(PRIVATE):
        async with short.socket() as ends, long.socket() as stays:
            await subscribe(ends)
            await subscribe(stays)
            assert await ends.wait_closed() == 4401
            assert await stays.is_silent()
            assert stays.close_code is None


@pytest.mark.django_db(transaction=True)
async def test_a_socket_that_outlives_its_session_is_detected(engine, monkeypatch):
    """Control: without checking the ends of sessions, only the regular check would find it."""

    async def find_nothing(*args: object) -> list[object]:
        return []

    monkeypatch.setattr(SessionEnds, "find_over", find_nothing)
    engine("db")
    browser = await session_for(1, await in_thread(lambda: make_user(VIEW)))
    with override_bindings(PRIVATE):
        async with browser.socket() as client:
            await subscribe(client)
            assert await client._communicator.receive_nothing(3, 0.05)


@pytest.mark.django_db(transaction=True)
async def test_a_session_that_was_extended_keeps_its_socket(engine, monkeypatch):
    """The expiry that was read has passed, but the session was extended."""
    engine("db")
    browser = await session_for(60, await in_thread(lambda: make_user(VIEW)))
    with override_bindings(PRIVATE):
        async with browser.socket() as client:
            await subscribe(client)
            hub = await get_hub()
            assert await hub.session_ends.find_over(hub.sockets(), hub.thread, 0.0) == []
            await in_thread(lambda: browser.visit(lambda request: request.session.set_expiry(3600)))
            later = timezone.now() + timedelta(seconds=61)
            monkeypatch.setattr("declbind.live.session_ends.timezone.now", lambda: later)
            over = await hub.session_ends.find_over(hub.sockets(), hub.thread, 1.0)
            monkeypatch.undo()
            assert over == hub.sockets()
            await hub.revalidate(over)
            assert await client.is_silent()
