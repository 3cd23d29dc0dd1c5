"""The callable of a project that authenticates tokens, `DECLBIND["AUTHENTICATE"]`."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, User

from declbind.inbound import authentication
from declbind.live.hub import get_hub
from declbind.testing import Client, override_bindings
from example_site.example.models import IntegerValue
from tests.live import code_of, in_thread, subscribe
from tests.tokens import PRIVATE, close_code, issue, viewer
from tests.web_tokens import HMAC, accept, opens, sign

__all__ = ["accept"]

pytestmark = pytest.mark.django_db(transaction=True)

PATH = "tests.test_token_callable.answer"

#: What the callable answers, and what it was asked.
ANSWERS: dict[str, object] = {}
ASKED: list[Any] = []


def answer(token: str, scope: Any) -> Any:
    ASKED.append(scope)
    found = ANSWERS[token]
    if isinstance(found, Exception):
        raise found
    return found


async def answer_later(token: str, scope: object) -> object:
    await asyncio.sleep(0)
    return answer(token, scope)


class Answerer:
    async def __call__(self, token: str, scope: object) -> object:
        return answer(token, scope)


async def answer_never(token: str, scope: object) -> Any:
    await asyncio.Event().wait()


class Pretender:
    """An object that is not a user, with the key of a user."""

    is_authenticated = is_active = True

    def __init__(self, pk: object) -> None:
        self.pk = pk


class Trap:
    is_authenticated = True

    @property
    def pk(self) -> Any:
        raise ZeroDivisionError


answerer = Answerer()


@pytest.fixture
def answers():
    ANSWERS.clear()
    ASKED.clear()
    return ANSWERS


@pytest.mark.parametrize("name", ["answer", "answer_later", "answerer"])
async def test_a_callable_replaces_the_other_tokens(accept, answers, name):
    """It may be a function, a coroutine function or an object with either. No other token is accepted."""
    user = await viewer()
    own = await issue(user)
    accept(AUTHENTICATE=f"tests.test_token_callable.{name}", JWT=HMAC)
    answers.update({"good": (user, None), "bad": None, own: None, sign({"sub": str(user.pk)}): None})
    assert [await opens(token) for token in answers] == [True, False, False, False]
    assert await sync_to_async(lambda: authentication.authenticate_now("good", {}).user_pk)() == str(user.pk)


@pytest.mark.parametrize(
    ("end", "seconds"),
    [
        (lambda: time.time() + 100, 100),
        (lambda: int(time.time()) + 100, 100),
        (lambda: datetime.now(UTC) + timedelta(seconds=100), 100),
        (lambda: datetime.now() + timedelta(seconds=100), 100),  # noqa: DTZ005 a callable may forget the zone
        (lambda: 1e300, None),
        (lambda: float("inf"), None),
        (lambda: datetime.max, None),  # noqa: DTZ901 a callable may forget the zone
        (lambda: datetime.max.replace(tzinfo=UTC), None),
        (lambda: None, None),
    ],
)
async def test_the_callable_decides_when_the_connection_ends(accept, answers, settings, end, seconds):
    """A time without a zone is in the zone of the project, and ``None`` means no end."""
    settings.TIME_ZONE = time.tzname[0] if time.tzname[0] == "UTC" else settings.TIME_ZONE
    user = await viewer()
    accept(AUTHENTICATE=PATH)
    answers["good"] = (user, end())
    with override_bindings(PRIVATE):
        async with Client(token="good") as client:
            await subscribe(client)
            term = (await get_hub()).sockets()[0].identity.term
            left = (await client.authenticate("good"))["seconds"]
    assert (term is None) == (left is None) == (seconds is None)
    assert seconds is None or seconds - 5 < left <= seconds


async def test_a_callable_that_raises_admits_nobody(accept, answers, caplog):
    """The exception is logged without the token, and the socket is closed with a code."""
    user = await viewer()
    inactive = await in_thread(User.objects.create, username="gone", is_active=False)
    accept(AUTHENTICATE=PATH)
    answers.update(
        raises=ValueError("cannot read raises"),
        missing=KeyError("missing"),
        pair=(user,),
        text="ann",
        anonymous=(AnonymousUser(), None),
        nobody=(None, None),
        unsaved=(User(username="new"), None),
        inactive=(inactive, None),
        over=(user, time.time() - 1),
        wrong=(user, "tomorrow"),
        nan=(user, float("nan")),
        truth=(user, True),
        key=(user.pk, None),
        other=(IntegerValue(pk=user.pk), None),
        pretender=(Pretender(user.pk), None),
        trap=(Trap(), None),
    )
    assert [token for token in answers if await opens(token)] == []
    assert "ValueError: cannot read [token]" in caplog.text
    with override_bindings(PRIVATE):
        async with Client() as client:
            for token in answers:
                assert code_of(await client.authenticate(token)) == "denied"


async def test_a_callable_that_does_not_return_is_cancelled(accept, answers):
    """In the handshake the client is asked to retry. On an open socket the reply is an internal error."""
    accept(AUTHENTICATE="tests.test_token_callable.answer_never", HANDSHAKE_SECONDS=0.2)
    with override_bindings(PRIVATE):
        assert await close_code(Client(token="good")) == 1013
        async with Client() as client:
            assert code_of(await client.authenticate("good")) == "internal"
            assert code_of(await client.request("numbers", "subscribe", params={"name": "a"})) == "denied"


async def test_the_callable_is_given_the_scope(accept, answers):
    """This holds in the handshake and later. The scope has no cookies, no session and no user of a session."""
    user = await viewer()
    accept(AUTHENTICATE=PATH)
    answers["good"] = (user, None)
    headers = [(b"host", b"a.example"), (b"cookie", b"sessionid=abc"), (b"origin", b"https://evil.example")]
    with override_bindings(PRIVATE):
        async with Client(token="good", headers=headers) as client:
            assert (await client.authenticate("good"))["ok"]
    assert len(ASKED) == 2
    for scope in ASKED:
        assert dict(scope["headers"])[b"host"] == b"a.example"
        assert b"cookie" not in dict(scope["headers"])
        assert not {"user", "session", "cookies"} & set(scope)
