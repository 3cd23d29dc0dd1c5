"""Session stores, and a browser with a session cookie."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth import get_user, login, logout
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.cache import SessionStore as CacheStore
from django.core import signing
from django.core.cache import cache
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import get_random_string
from pytest_django import Settings

from declbind.live.hub import get_hub
from declbind.testing import Client
from tests.live import NUMBERS, in_thread

VIEW = "example.view_integervalue"
PRIVATE = {**NUMBERS, "permissions": {"view": VIEW}}
SERVER_STORES = ["db", "cached_db", "cache", "file"]
BACKENDS = "django.contrib.sessions.backends"


class TokenStore(SessionBase):
    """A project's store that keeps all data in the key, written independently of ``signed_cookies``."""

    def load(self) -> dict[str, object]:
        try:
            data: dict[str, object] = signing.loads(self.session_key or "", salt="tokens")
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
def engine(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
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


async def session_for(seconds: float, user: User) -> Browser:
    """Return a browser whose session ends after this many seconds."""
    browser = await browser_of(user)
    end = timezone.now() + timedelta(seconds=seconds)
    await in_thread(lambda: browser.visit(lambda request: request.session.set_expiry(end)))
    return browser
