"""Shared steps of the tests of revocation: sessions, and changes of users."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module

from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.test import Client as Browser

from declbind.testing import Client
from example_site.example.models import IntegerValue
from tests.factories import make_user
from tests.live import BOARD, NUMBERS, in_thread

VIEW = "example.view_integervalue"
PRIVATE = {**NUMBERS, "permissions": {}}
PRIVATE_BOARD = {**BOARD, "permissions": {}}


class Login:
    """A user who logged in with a browser, and the scope of a socket of that session."""

    def __init__(self, *codenames: str, user: User | None = None) -> None:
        self.user: User = user or make_user(*codenames)
        self.browser = Browser()
        self.browser.force_login(self.user)
        store = import_module(django_settings.SESSION_ENGINE).SessionStore
        self.session = store(self.browser.session.session_key)

    def client(self, application: Callable[..., Awaitable[None]] | None = None) -> Client:
        return Client(application, user=self.user, session=self.session)


async def log_in(*codenames: str, user: User | None = None) -> Login:
    login: Login = await in_thread(lambda: Login(*codenames, user=user))
    return login


def save_number() -> None:
    IntegerValue.objects.create(name="a", value=7)


def change_password(login: Login) -> None:
    login.user.set_password("another")
    login.user.save()


def deactivate(login: Login) -> None:
    login.user.is_active = False
    login.user.save()


def take_permission(login: Login) -> None:
    login.user.user_permissions.clear()
