"""A logout closes the sockets of the session, whatever its store, and whether or not its key has changed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
from channels.auth import logout as channels_logout
from django.conf import settings as django_settings
from django.contrib.auth import get_user, login, logout, update_session_auth_hash
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.cache import SessionStore as CacheStore
from django.core import checks as django_checks
from django.core import signing
from django.core.cache import cache
from django.core.checks import Warning as CheckWarning
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import get_random_string

from declbind.checks import check_sessions
from declbind.inbound import permissions
from declbind.inbound.permissions import keeps_sessions
from declbind.live.hub import get_hub
from declbind.live.session_ends import SessionEnds
from declbind.testing import Client, override_bindings
from tests.factories import make_user
from tests.live import NUMBERS, in_thread, next_payload, store, subscribe

VIEW = "example.view_integervalue"
PRIVATE = {**NUMBERS, "permissions": {"view": VIEW}}
SERVER_STORES = ["db", "cached_db", "cache", "file"]
BACKENDS = "django.contrib.sessions.backends"


class TokenStore(SessionBase):
    """A project's store that keeps all data in the key, written independently of ``signed_cookies``."""

    def load(self) -> dict[str, Any]:
        try:
            data: dict[str, Any] = signing.loads(self.session_key or "", salt="tokens")
        except signing.BadSignature:
            return {}
        return data

    def exists(self, session_key: str) -> bool:
        raise NotImplementedError

    def create(self) -> None:
        self.modified = True

    def save(self, must_create: bool = False) -> None:
        self._session_key = signing.dumps({**dict(self.items()), "turn": id(object())}, salt="tokens")
        self.modified = True

    def delete(self, session_key: str | None = None) -> None:
        self._session_key = ""

    def cycle_key(self) -> None:
        self.save()


class RotatingStore(CacheStore):
    """A server-side store that gives the session another key at each write."""

    def save(self, must_create: bool = False) -> None:
        if not must_create and self.session_key:
            self.delete(self.session_key)
            self._session_key = get_random_string(32)
            must_create = True
        super().save(must_create)


tokens = type("tokens", (), {"SessionStore": TokenStore})
rotating = type("rotating", (), {"SessionStore": RotatingStore})


class Browser:
    """A browser with a session cookie: each request loads the session by the cookie, and replaces it."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.key: str | None = None
        self.visit(self._log_in)

    def visit(self, view: Callable[[HttpRequest], Any]) -> None:
        request = HttpRequest()
        request.session = import_module(django_settings.SESSION_ENGINE).SessionStore(self.key)
        request.user = get_user(request)
        view(request)
        if request.session.modified:
            request.session.save()
        self.key = request.session.session_key

    def _log_in(self, request: HttpRequest) -> None:
        login(request, self.user, backend="django.contrib.auth.backends.ModelBackend")

    def write(self) -> None:
        self.visit(lambda request: request.session.__setitem__("cart", [1, 2, 3, request.session.session_key]))

    def cycle_key(self) -> None:
        self.visit(lambda request: request.session.cycle_key())

    def log_out(self) -> None:
        self.visit(logout)

    def socket(self) -> Client:
        session = import_module(django_settings.SESSION_ENGINE).SessionStore(self.key)
        return Client(user=self.user, session=session)


@pytest.fixture
def engine(settings: Any, tmp_path: Any, monkeypatch: Any) -> Callable[[str], None]:
    """Use a session store."""

    def use(name: str) -> None:
        if name in ("tokens", "rotating"):
            monkeypatch.setitem(sys.modules, name, globals()[name])
            settings.SESSION_ENGINE = name
        else:
            settings.SESSION_ENGINE = f"{BACKENDS}.{name}"
        settings.SESSION_FILE_PATH = str(tmp_path)
        monkeypatch.delattr("django.contrib.sessions.backends.file.SessionStore._storage_path", raising=False)

    cache.clear()
    return use


async def browser_of(user: User) -> Browser:
    made: Browser = await in_thread(lambda: Browser(user))
    return made


async def check_again() -> None:
    hub = await get_hub()
    await hub.revalidate(hub.sockets())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["signed_cookies", "tokens"])
async def test_a_logout_ends_all_sockets_of_the_user_if_the_store_cannot_tell_sessions_apart(engine, name):
    """The key has changed since; sockets of another user, and of the same user by a token, stay open."""
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
async def test_a_logout_ends_one_session_if_the_store_knows_it(engine, name):
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
async def test_a_logout_under_a_later_key_ends_the_sockets_of_the_earlier_one(engine, name):
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
    """It names the user and no session; sockets without a session stay open."""
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
async def test_without_the_look_at_other_sessions_a_rewritten_cookie_survives_the_logout(engine, monkeypatch):
    """Negative control: the digest of the key alone does not find the socket."""
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


# Checks --------------------------------------------------------------------------------------------------------------


def test_w008_names_what_sessions_in_cookies_cost(engine):
    """The check runs with all others, under the tag of the package."""
    engine("signed_cookies")
    expected = CheckWarning(
        "settings.SESSION_ENGINE: 'django.contrib.sessions.backends.signed_cookies' keeps sessions in the cookie and "
        "not on the server, so no single session can be ended. When a user logs out in one browser, the sockets "
        "of this user are closed in all browsers. A copy of the cookie can open a new socket after the log-out, until "
        "the cookie expires.",
        hint='Use a store that keeps sessions on the server, such as "django.contrib.sessions.backends.cached_db". If '
        'you accept this, silence the check: SILENCED_SYSTEM_CHECKS = ["declbind.W008"].',
        id="declbind.W008",
    )
    assert check_sessions() == [expected]
    assert expected in django_checks.run_checks(tags=["declbind"], databases=[])


@pytest.mark.parametrize(
    ("name", "cost"),
    [
        ("cache", "A session exists in one process only, so a socket that another process accepts is anonymous."),
        (
            "cached_db",
            (
                "Each process has its own copies of sessions, so another process may accept a new socket with the "
                "cookie of a session that has ended."
            ),
        ),
    ],
)
def test_w009_names_a_cache_of_one_process(engine, name, cost):
    engine(name)
    assert check_sessions() == [
        CheckWarning(
            f"settings.SESSION_ENGINE: '{BACKENDS}.{name}' uses CACHES['default'], which other processes cannot read. "
            f"{cost}",
            hint="Give CACHES['default'] a backend that all processes share, such as Redis or Memcached, or use "
            '"django.contrib.sessions.backends.db". With a single process, silence the check: '
            'SILENCED_SYSTEM_CHECKS = ["declbind.W009"].',
            id="declbind.W009",
        )
    ]


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("db", "locmem.LocMemCache"),
        ("file", "locmem.LocMemCache"),
        ("cache", "db.DatabaseCache"),
        ("cached_db", "redis.RedisCache"),
        ("no_such_store", "locmem.LocMemCache"),
    ],
)
def test_stores_that_all_processes_share_pass(engine, settings, name, backend):
    """Negative control; a store that cannot be imported is reported by Django, at the first request."""
    engine(name)
    settings.CACHES = {"default": {"BACKEND": f"django.core.cache.backends.{backend}", "LOCATION": "redis://x"}}
    assert check_sessions() == []


# The end of a session ------------------------------------------------------------------------------------------------


async def session_for(seconds: float, user: User) -> Browser:
    """Return a browser whose session ends after this many seconds."""
    browser = await browser_of(user)
    end = timezone.now() + timedelta(seconds=seconds)
    await in_thread(lambda: browser.visit(lambda request: request.session.set_expiry(end)))
    return browser


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

    async def find_nothing(*args: Any) -> list[Any]:
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
