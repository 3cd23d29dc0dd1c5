"""Attacks on tokens: forged tokens, tokens of others, and tokens that have ended."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from django.contrib.auth.models import User
from django.core import signing
from django.db import connections
from django.test import override_settings

from declbind import tokens
from declbind.inbound import web_tokens
from declbind.live import handshake
from declbind.live.expiry import Expiry
from declbind.live.hub import get_hub
from declbind.live.socket import Socket
from declbind.testing import Client, override_bindings
from example_site.example.models import IntegerValue
from tests import clocks
from tests.live import in_thread, subscribe
from tests.logins import log_in
from tests.tokens import HOST, PRIVATE, VIEW, close_code, issue, viewer
from tests.web_tokens import HMAC, PRIVATE_PEM, PUBLIC_PEM, RSA, SECRET, opens, sign

pytestmark = pytest.mark.django_db(transaction=True)


def b64(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def parts(token: str) -> tuple[list[Any], str]:
    """Return the payload and the signature of a token."""
    payload, _, signature = token.removeprefix(tokens.PREFIX).partition(".")
    return json.loads(signing.b64_decode(payload.encode())), signature


def rewritten(token: str, place: int, value: object) -> str:
    """Return a token with another payload and the old signature."""
    content, signature = parts(token)
    content[place] = value
    return f"{tokens.PREFIX}{b64(content)}.{signature}"


def signed_with(token: str, salt: str, key: str | None = None) -> str:
    content, _ = parts(token)
    return signing.Signer(key=key, sep=".", salt=salt).sign(tokens.PREFIX + b64(content))


# Tokens of this project ----------------------------------------------------------------------------------------------


FORGERIES: dict[str, Callable[[str, User], str]] = {
    "another user": lambda token, victim: rewritten(token, 0, str(victim.pk)),
    "a later end": lambda token, victim: rewritten(token, 1, time.time() + 1e6),
    "another digest": lambda token, victim: rewritten(token, 2, tokens.auth_digest(victim)),
    "more streams": lambda token, victim: rewritten(token, 3, None),
    "another salt": lambda token, victim: signed_with(token, "declbind.resume"),
    "the salt of django.core.signing": lambda token, victim: signed_with(token, "django.core.signing"),
    "another key": lambda token, victim: signed_with(token, "declbind.token", "x" * 50),
    "no signature": lambda token, victim: token.partition(".")[0] + ".",
    "no payload": lambda token, victim: "db1-." + token.partition(".")[2],
    "half a signature": lambda token, victim: token[:-10],
    "padding": lambda token, victim: token + "=",
    "a blank": lambda token, victim: token.replace(".", ". "),
    "another prefix": lambda token, victim: "db2" + token[3:],
    "another case": lambda token, victim: token.swapcase(),
    "a session key": lambda token, victim: "a" * 32,
    "the password hash": lambda token, victim: victim.password,
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forged_token_is_refused(name):
    """This holds in the handshake and on an open socket."""
    user, victim = await viewer("example.add_integervalue"), await viewer()
    with override_bindings(PRIVATE):
        token = await issue(user, streams=["numbers"])
        forged = FORGERIES[name](token, victim)
        assert await close_code(Client(token=forged)) == 4401
        async with Client() as client:
            assert (await client.authenticate(forged))["error"]["code"] == "denied"
            (socket,) = (await get_hub()).sockets()
            assert socket.user_key is None


async def test_an_unchecked_signature_would_be_caught(monkeypatch):
    """Negative control of the test before: a rewritten token admits its holder as another user."""
    monkeypatch.setattr(signing.Signer, "unsign", lambda self, value: value.rpartition(".")[0])
    user, victim = await viewer("example.add_integervalue"), await viewer()
    token = rewritten(await issue(user), 0, str(victim.pk))
    assert await opens(rewritten(token, 2, tokens.auth_digest(victim)))


async def test_a_token_of_another_project_is_refused():
    """The signature uses the secret key of the project."""
    user = await viewer()
    with override_settings(SECRET_KEY="another project's key " * 3):
        token = await issue(user)
        assert await opens(token)
    assert not await opens(token)


@pytest.mark.parametrize("place", ["proof", "session", "reset"])
async def test_other_signed_values_of_the_project_are_refused(place):
    """A proof, a session hash and a password reset token have other salts."""
    user = await viewer()
    content = [str(user.pk), 9e9, tokens.auth_digest(user), None]
    text = {
        "proof": signing.Signer(salt="declbind.resume", sep=".").sign(tokens.PREFIX + b64(content)),
        "session": user.get_session_auth_hash(),
        "reset": signing.dumps(content),
    }[place]
    assert not await opens(text)


async def test_an_ended_token_is_refused(monkeypatch):
    """This includes a token that ends now."""
    token = await issue(await viewer(), lifetime=100)
    clock = clocks.install(monkeypatch)
    assert await opens(token)
    clock.wall += 100
    assert not await opens(token)


async def test_a_token_of_a_deleted_user_is_refused_if_the_key_is_reused():
    """The token contains a digest of the password, and the new user has another password."""
    user = await viewer()
    token, key = await issue(user), user.pk
    await in_thread(user.delete)
    await in_thread(lambda: User.objects.create_user(pk=key, username="new", password="other", is_superuser=True))
    assert not await opens(token)


# JSON Web Tokens -----------------------------------------------------------------------------------------------------


def hmac_with_public_key(claims: dict[str, Any]) -> str:
    """Return a token whose HMAC has the public key as its secret; PyJWT refuses to make it."""
    head = b64({"alg": "HS256", "typ": "JWT"})
    body = b64({"exp": time.time() + 300, **claims})
    signature = hmac.digest(PUBLIC_PEM, f"{head}.{body}".encode(), hashlib.sha256)
    return f"{head}.{body}.{b64(signature)}"


def unsigned(claims: dict[str, Any], name: str = "none") -> str:
    return f"{b64({'alg': name, 'typ': 'JWT'})}.{b64({'exp': time.time() + 300, **claims})}."


@pytest.mark.parametrize("config", [HMAC, RSA], ids=["secret", "public key"])
async def test_a_web_token_that_the_issuer_did_not_sign_is_refused(settings, config):
    """It has no signature, the public key as a secret, another key or algorithm, or was changed."""
    settings.DECLBIND = {"JWT": config}
    user = {"sub": str((await viewer()).pk)}
    good = sign(user) if config is HMAC else sign(user, PRIVATE_PEM, "RS256")
    assert await opens(good)
    head, body, signature = good.split(".")
    other = b64({"exp": time.time() + 300, "sub": "1"})
    attacks = [
        *(unsigned(user, name) for name in ("none", "None", "NONE", "nOnE", "", "HS256", "RS256")),
        hmac_with_public_key(user),
        sign(user, "x" * 40),
        sign(user, SECRET, "HS512"),
        f"{head}.{other}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}",
        f"{head}.{body}.{signature}.",
        f".{body}.{signature}",
        f"{head}..{signature}",
        f"{b64({'alg': 'HS256', 'kid': '../../dev/null'})}.{body}.{signature}",
        f"{b64({'alg': 'RS256', 'jku': 'http://127.0.0.1:9/', 'x5u': 'http://127.0.0.1:9/'})}.{body}.{signature}",
        f"{b64({'alg': 'HS256', 'crit': ['exp']})}.{body}.{signature}",
        f"{b64(['HS256'])}.{body}.{signature}",
        f"{b64(b'{' * 3000)}.{body}.{signature}",
    ]
    if config is RSA:
        attacks.append(sign(user))
    assert [attack for attack in attacks if await opens(attack)] == []


async def test_mixed_algorithms_would_be_caught(settings, monkeypatch):
    """Negative control: without the rule about algorithms, the public key is accepted as a secret."""
    settings.DECLBIND = {"JWT": {**RSA, "algorithms": ["RS256", "HS256"]}}
    user = {"sub": str((await viewer()).pk)}
    assert not await opens(hmac_with_public_key(user))
    monkeypatch.setattr(web_tokens, "find_faults", lambda given: [])
    monkeypatch.setattr(web_tokens, "_seen", (None, []))
    monkeypatch.setattr(jwt.algorithms.HMACAlgorithm, "prepare_key", lambda self, key: key.encode())
    assert await opens(hmac_with_public_key(user))


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": None}, {"exp": "never"}, {"exp": float("inf")}, {"exp": float("nan")}, {"exp": -1}, {"exp": [9e9]},
        {"exp": True}, {"exp": "x" * 50}, {"nbf": 9e9}, {"iat": "x"}, {"sub": None}, {"sub": ["1"]}, {"sub": {"pk": 1}},
        {"exp": int(time.time()) - 1}, {"sub": True},
    ],
    ids=str,
)  # fmt: skip
async def test_a_web_token_without_a_valid_end_or_user_is_refused(settings, claims):
    """The issuer signed it. A mistake of the issuer must not give access for ever."""
    settings.DECLBIND = {"JWT": HMAC}
    content = {"sub": str((await viewer()).pk), "exp": time.time() + 300, **claims}
    head, body = b64({"alg": "HS256", "typ": "JWT"}), b64(json.dumps(content).encode())
    signature = b64(hmac.digest(SECRET.encode(), f"{head}.{body}".encode(), hashlib.sha256))
    assert not await opens(f"{head}.{body}.{signature}")


async def test_a_web_token_without_an_end_is_refused(settings):
    """``exp`` is required."""
    settings.DECLBIND = {"JWT": HMAC}
    assert not await opens(jwt.encode({"sub": str((await viewer()).pk)}, SECRET, "HS256"))


# Whose connection it is ----------------------------------------------------------------------------------------------


async def cookie_beside_a_bad_token() -> int | None:
    """Return the result for a page of another site that sends a visitor's cookies and a token of its own."""
    login = await log_in(VIEW)
    client = Client(user=login.user, session=login.session, headers=[HOST, (b"origin", b"https://evil.example")])
    client._communicator.scope["subprotocols"] = ["declbind.token.x"]
    with override_bindings(PRIVATE):
        await client.connect()
        try:
            await subscribe(client)
        except ConnectionError:
            return client.close_code
        await client.disconnect()
        return None


async def test_a_token_does_not_disable_the_origin_check_of_cookies():
    """A page of another site can send the subprotocol, and its browser adds the cookies."""
    assert await cookie_beside_a_bad_token() == 4401


async def test_falling_back_to_cookies_would_be_caught(monkeypatch):
    """Negative control: if a bad token fell back to the session, the page would act as the visitor."""
    monkeypatch.setattr(handshake, "find_token", lambda scope: None)
    monkeypatch.setattr("declbind.live.handshake.has_token", lambda scope: True)
    assert await cookie_beside_a_bad_token() is None


async def test_a_connection_keeps_its_user():
    """A token of another user is refused on a connection, in each of its states."""
    ann, bob = await viewer(), await viewer()
    login = await log_in(VIEW)
    with override_bindings(PRIVATE):
        anonymous = Client()
        for client in (Client(token=await issue(ann)), login.client(), Client(user=ann), anonymous):
            async with client:
                if client is anonymous:
                    assert (await client.authenticate(await issue(ann)))["ok"]
                (socket,) = (await get_hub()).sockets()
                before = socket.identity
                assert (await client.authenticate(await issue(bob)))["error"]["code"] == "denied"
                assert socket.identity is before


# The end, in real time -----------------------------------------------------------------------------------------------

RATE = 100


class Writer:
    """A thread that stores a hundred rows a second, and records when each write was begun."""

    def __init__(self) -> None:
        self.begun: list[float] = []
        self.enough = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def _write(self) -> None:
        while not self._stop.wait(1 / RATE):
            self.begun.append(time.time())
            IntegerValue.objects.create(name="a", value=len(self.begun) - 1)
        connections.close_all()

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()

    def late(self, values: list[int], end: float) -> list[int]:
        """Return the values whose write was begun after the end of a token."""
        return [value for value in values if self.begun[value] > end]


async def receive_across_the_end(lifetime: float = 3.0) -> tuple[list[int], list[int]]:
    """Return what a client receives until it is closed or receives a late row, and the late rows."""
    with override_bindings(PRIVATE):
        token = await issue(await viewer(), lifetime=lifetime)
        end = parts(token)[0][1]
        values: list[int] = []
        async with Client(token=token) as client:
            await subscribe(client)
            writer = Writer()
            await in_thread(writer.__enter__)
            try:
                while not writer.late(values, end):
                    payload = (await client.receive())["payload"]
                    if payload["action"] == "create":
                        value = payload["data"]["value"]
                        assert isinstance(value, int)
                        values.append(value)
            except ConnectionError:
                assert client.close_code == 4401
            finally:
                await in_thread(writer.__exit__)
    return values, writer.late(values, end)


async def test_no_event_is_delivered_after_the_token_ends():
    """With a hundred events a second, no event is delivered whose write was begun after the end."""
    values, late = await receive_across_the_end()
    assert values == list(range(len(values)))
    assert values
    assert late == []


async def test_a_hub_that_checks_too_late_would_be_caught(monkeypatch):
    """Negative control: without the barrier and the timer, events continue to arrive."""
    monkeypatch.setattr(Expiry, "enforce", lambda self: None)
    monkeypatch.setattr(Socket, "is_over", lambda self: self.closed.done())
    _, late = await receive_across_the_end()
    assert late
