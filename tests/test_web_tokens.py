"""Tokens that others issue: JSON Web Tokens, and those that a callable of the project looks at."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from asgiref.sync import sync_to_async
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser, User
from django.core.checks import Error
from django.core.checks import Warning as CheckWarning

from declbind import checks, tokens
from declbind.inbound import authentication, web_tokens
from declbind.live.hub import get_hub
from declbind.testing import Client, override_bindings
from example_site.example.models import IntegerValue
from tests.live import code_of, in_thread, next_payload, subscribe
from tests.test_tokens import PRIVATE, close_code, issue, viewer

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "a-secret-that-is-long-enough-for-each-algorithm-" * 2
HMAC = {"key": SECRET, "algorithms": ["HS256"]}
PRIVATE_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC_PEM = PRIVATE_KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
PRIVATE_PEM = PRIVATE_KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
RSA = {"key": PUBLIC_PEM.decode(), "algorithms": ["RS256"]}
PATH = "tests.test_web_tokens.answer"


def sign(claims: dict[str, Any], key: Any = SECRET, algorithm: str = "HS256", **kwargs: Any) -> str:
    return jwt.encode({"exp": time.time() + 300, **claims}, key, algorithm, **kwargs)


@pytest.fixture
def accept(settings):
    """Return a function that puts settings of tokens in force."""

    def put(**values: Any) -> None:
        settings.DECLBIND = values

    return put


async def opens(token: str) -> bool:
    """Return whether a token opens a connection that may view what its user may."""
    with override_bindings(PRIVATE):
        client = Client(token=token)
        await client.connect()
        # What is wrong with a token is known before the handshake ends.
        try:
            reply = await client.request("numbers", "subscribe", params={"name": "a"})
        except ConnectionError:
            assert client.close_code == 4401
            return False
        await client.disconnect()
        return bool(reply["ok"])


# JSON Web Tokens -----------------------------------------------------------------------------------------------------


async def test_a_web_token_opens_a_connection(accept):
    """Beside tokens of this project, which go on to be accepted; with a shared secret or with a public key."""
    user = await viewer()
    own = await issue(user)
    assert not await opens(sign({"sub": str(user.pk)}))
    accept(JWT=HMAC)
    assert await opens(sign({"sub": str(user.pk)}))
    assert await opens(own)
    accept(JWT=RSA)
    assert await opens(sign({"sub": str(user.pk)}, PRIVATE_PEM, "RS256"))
    assert await opens(own)


async def test_the_user_is_found_by_the_claim_and_the_field_of_the_setting(accept):
    """A number counts like its digits, and a name has to be the same to the letter."""
    user = await viewer()
    accept(JWT={**HMAC, "user_claim": "user_id"})
    assert await opens(sign({"user_id": user.pk}))
    assert not await opens(sign({"sub": str(user.pk)}))
    accept(JWT={**HMAC, "user_field": "username"})
    assert await opens(sign({"sub": user.username}))
    assert not await opens(sign({"sub": str(user.pk)}))
    assert not await opens(sign({"sub": user.username.upper()}))


@pytest.mark.parametrize("value", ["", "0", "-1", "x", "9" * 40, "1.5", "\0", "null", "None"])
async def test_a_claim_that_is_nobody_opens_nothing(accept, value):
    """Whatever it is, it is refused like a user who does not exist."""
    accept(JWT=HMAC)
    assert not await opens(sign({"sub": value}))


@pytest.mark.parametrize("value", [True, None, [1], {"pk": 1}, 1.0])
async def test_a_claim_of_another_kind_opens_nothing(accept, value):
    """True is not the user whose key is 1."""
    await in_thread(User.objects.create, pk=1, username="one", is_superuser=True)
    accept(JWT={**HMAC, "user_claim": "uid"})
    assert await opens(sign({"uid": 1}))
    assert not await opens(sign({"uid": value}))


async def test_what_the_setting_names_is_required(accept):
    """Audience and issuer; and a token for another audience is refused where none is named."""
    user = {"sub": str((await viewer()).pk)}
    accept(JWT={**HMAC, "audience": "here", "issuer": "there"})
    assert await opens(sign({**user, "aud": "here", "iss": "there"}))
    assert await opens(sign({**user, "aud": ["elsewhere", "here"], "iss": "there"}))
    for claims in ({"aud": "here"}, {"iss": "there"}, {"aud": "x", "iss": "there"}, {"aud": "here", "iss": "x"}):
        assert not await opens(sign({**user, **claims}))
    accept(JWT=HMAC)
    assert not await opens(sign({**user, "aud": "elsewhere"}))


async def test_the_end_of_a_web_token_is_that_of_its_connection(accept):
    """The notice comes at once where less than half a minute is left, and then the close."""
    user = await viewer()
    accept(JWT=HMAC)
    with override_bindings(PRIVATE):
        async with Client(token=sign({"sub": str(user.pk), "exp": time.time() + 20})) as client:
            payload = await next_payload(client)
            assert payload["action"] == "expiring"
            assert payload["seconds"] <= 20
        async with Client(token=sign({"sub": str(user.pk), "exp": int(time.time()) + 2})) as client:
            assert await client.wait_closed() == 4401


async def test_a_password_change_closes_connections_of_web_tokens(accept):
    """As those of sessions. The issuer's token itself opens a new one, for it knows nothing of passwords here."""
    user = await viewer()
    accept(JWT=HMAC)
    token = sign({"sub": str(user.pk)})
    with override_bindings(PRIVATE):
        async with Client(token=token) as client:
            await subscribe(client)
            user.set_password("another")
            await in_thread(user.save)
            assert await client.wait_closed() == 4401
    assert await opens(token)


async def test_a_web_token_renews_a_connection(accept):
    """And one of another user does not."""
    user, other = await viewer(), await viewer()
    accept(JWT=HMAC)
    with override_bindings(PRIVATE):
        async with Client(token=sign({"sub": str(user.pk)})) as client:
            await subscribe(client)
            assert (await client.authenticate(sign({"sub": str(user.pk), "exp": time.time() + 900})))["seconds"] > 800
            assert (await client.authenticate(await issue(user)))["ok"]
            assert code_of(await client.authenticate(sign({"sub": str(other.pk)}))) == "denied"


# A callable of the project -------------------------------------------------------------------------------------------

#: What the callable answers, and what it was asked.
ANSWERS: dict[str, Any] = {}
ASKED: list[Any] = []


def answer(token: str, scope: Any) -> Any:
    ASKED.append(scope)
    found = ANSWERS[token]
    if isinstance(found, Exception):
        raise found
    return found


async def answer_later(token: str, scope: Any) -> Any:
    await asyncio.sleep(0)
    return answer(token, scope)


class Answerer:
    async def __call__(self, token: str, scope: Any) -> Any:
        return answer(token, scope)


async def answer_never(token: str, scope: Any) -> Any:
    await asyncio.Event().wait()


class Pretender:
    """An object of another kind, whose key is that of a user."""

    is_authenticated = is_active = True

    def __init__(self, pk: Any) -> None:
        self.pk = pk


class Trap:
    is_authenticated = True

    @property
    def pk(self) -> Any:
        raise ZeroDivisionError


answerer = Answerer()
not_callable = 5


@pytest.fixture
def answers():
    ANSWERS.clear()
    ASKED.clear()
    return ANSWERS


@pytest.mark.parametrize("name", ["answer", "answer_later", "answerer"])
async def test_a_callable_replaces_both(accept, answers, name):
    """A function, a coroutine function or an object with either; nothing else is accepted beside it."""
    user = await viewer()
    own = await issue(user)
    accept(AUTHENTICATE=f"tests.test_web_tokens.{name}", JWT=HMAC)
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
async def test_the_callable_says_when_it_ends(accept, answers, settings, end, seconds):
    """A time without a zone is in the zone of the project; ``None`` never ends."""
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


async def test_a_callable_that_fails_lets_nobody_in(accept, answers, caplog):
    """It is logged without the token, and the socket gets a close code and no exception."""
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


async def test_a_callable_that_does_not_answer_holds_up_nobody_for_ever(accept, answers):
    """The client is told to come back, and on an open socket that the server failed."""
    accept(AUTHENTICATE="tests.test_web_tokens.answer_never", HANDSHAKE_SECONDS=0.2)
    with override_bindings(PRIVATE):
        assert await close_code(Client(token="good")) == 1013
        async with Client() as client:
            assert code_of(await client.authenticate("good")) == "internal"
            assert code_of(await client.request("numbers", "subscribe", params={"name": "a"})) == "denied"


async def test_the_callable_is_given_the_scope(accept, answers):
    """In the handshake and later; neither has cookies, a session or their user."""
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


# Checks --------------------------------------------------------------------------------------------------------------


def test_the_defaults_and_good_settings_pass(accept):
    for values in ({}, {"JWT": HMAC}, {"JWT": RSA}, {"JWT": {**RSA, "user_field": "username"}}, {"AUTHENTICATE": PATH}):
        accept(**values)
        assert checks.check_tokens() == []


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("tests.nowhere.f", "which cannot be imported: No module named 'tests.nowhere'"),
        ("tests.test_web_tokens.not_callable", "which is not callable"),
        ("authenticate", "which cannot be imported: authenticate doesn't look like a module path"),
    ],
)
async def test_e010_callable_that_cannot_be_used(accept, path, fault):
    """Nobody gets in by a token until it is corrected, not by those of this project either."""
    accept(AUTHENTICATE=path)
    assert checks.check_tokens() == [
        Error(
            "settings.DECLBIND['AUTHENTICATE']: expected the dotted path of a callable (token, scope) -> (user, "
            f"expires_at) or None, got {path!r}, {fault}.",
            hint="No client is authenticated by a token until it is corrected. Without the setting, tokens of "
            "declbind.tokens.issue() are accepted.",
            id="declbind.E010",
        )
    ]
    assert not await opens(await issue(await viewer()))


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"algorithms": ["HS256"]}, "expected a key as text or bytes, got none."),
    ({"algorithms": ["HS256"], "key": ""}, "expected a key as text or bytes, got none."),
    ({"algorithms": ["HS256"], "key": ["x"]}, "expected a key as text or bytes, got list."),
    ({"key": SECRET}, "expected a list of algorithms, got None."),
    ({"key": SECRET, "algorithms": []}, "expected a list of algorithms, got []."),
    ({"key": SECRET, "algorithms": "HS256"}, "expected a list of algorithms, got 'HS256'."),
    ({"key": SECRET, "algorithms": ["none"]}, "expected algorithms that sign, got 'none'."),
    ({"key": SECRET, "algorithms": ["HS256", "None"]}, "expected algorithms that sign, got 'none'."),
    ({"key": SECRET, "algorithms": ["HS257"]}, "the algorithm 'HS257' is not known to PyJWT."),
    ({**RSA, "algorithms": ["RS256", "HS256"]}, "expected algorithms of one kind, got RS256, HS256."),
    ({**HMAC, "key": PUBLIC_PEM}, "the key cannot be used with HS256: InvalidKeyError."),
    ({**RSA, "key": SECRET}, "the key cannot be used with RS256: InvalidKeyError."),
    ({**RSA, "key": PRIVATE_PEM}, "expected a public key for RS256, got a private one."),
    ({**HMAC, "audiance": "x"}, "there is no key 'audiance'."),
    ({**HMAC, "user_claim": 1}, "expected a text under 'user_claim', got 1."),
    ({**HMAC, "audience": 1}, "expected a text or a list of texts as audience and issuer."),
    ({**HMAC, "user_field": "nick"}, "the user model auth.User has no field 'nick'."),
    ({**HMAC, "user_field": "first_name"}, "the field 'first_name' of auth.User is not unique."),
]


@pytest.mark.parametrize(("config", "text"), FAULTS, ids=[text for _, text in FAULTS])
async def test_e011_web_tokens_that_cannot_be_read(accept, config, text):
    """The message never holds the key, and nobody gets in by a web token, even if the check is silenced."""
    accept(JWT=config)
    found = [str(message.msg) for message in checks.check_tokens() if message.id == "declbind.E011"]
    assert f"settings.DECLBIND['JWT']: {text}" in found
    assert SECRET not in json.dumps(found)
    user = await viewer()
    for algorithm in ("HS256", "none"):
        key = SECRET if algorithm == "HS256" else None
        assert not await opens(sign({"sub": str(user.pk)}, key, algorithm))


def test_e011_without_the_package(accept, monkeypatch):
    monkeypatch.setattr(web_tokens, "HAS_JWT", False)
    accept(JWT=HMAC)
    assert checks.check_tokens() == [
        Error(
            "settings.DECLBIND['JWT']: expected the package PyJWT, found none.",
            hint='Install it: pip install "declbind[jwt]".',
            id="declbind.E011",
        )
    ]


def test_w022_weak_key(accept):
    accept(JWT={"key": "x" * 47, "algorithms": ["HS256", "HS384"]})
    assert checks.check_tokens() == [
        CheckWarning(
            "settings.DECLBIND['JWT']: the key is shorter than the digest of its algorithm. The holder of one token "
            "can try keys until one fits, and then write tokens for every user.",
            hint="Use a random key with at least the size that the algorithm requires: HS256 32, HS384 48, HS512 64.",
            id="declbind.W022",
        )
    ]


def test_w022_setting_without_effect(accept):
    accept(JWT=HMAC, AUTHENTICATE=PATH)
    assert checks.check_tokens() == [
        CheckWarning(
            "settings.DECLBIND['JWT'] has no effect, because DECLBIND['AUTHENTICATE'] handles all tokens.",
            hint="Remove one of them.",
            id="declbind.W022",
        )
    ]


def test_a_key_in_place_of_the_dict_is_not_printed(settings):
    """The message of a wrong value quotes it otherwise."""
    settings.DECLBIND = {"JWT": SECRET}
    (message,) = checks.check_settings()
    assert (message.id, message.msg) == (
        "declbind.E003", "settings.DECLBIND['JWT']: expected a dict or None, got str.",
    )  # fmt: skip


# The same for HTTP ---------------------------------------------------------------------------------------------------


def test_the_header_of_a_request_gives_the_same_identity(rf, django_user_model):
    """A view can use what the sockets use."""
    user = get_user_model().objects.create(username="ann")
    request = rf.get("/", headers={"Authorization": f"Bearer {tokens.issue(user)}"})
    token = authentication.bearer_token(request.headers.get("Authorization"))
    assert token is not None
    assert authentication.authenticate_now(token, {}).user_pk == str(user.pk)
    assert authentication.bearer_token(None) is None
    assert authentication.bearer_token("Basic YTpi") is None
