"""JSON Web Tokens of another issuer."""

from __future__ import annotations

import time

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User

from declbind import tokens
from declbind.inbound import authentication
from declbind.testing import Client, override_bindings
from tests.live import code_of, in_thread, next_payload, subscribe
from tests.tokens import PRIVATE, issue, viewer
from tests.web_tokens import HMAC, PRIVATE_PEM, RSA, accept, opens, sign

__all__ = ["accept"]

pytestmark = pytest.mark.django_db(transaction=True)


# JSON Web Tokens -----------------------------------------------------------------------------------------------------


async def test_a_web_token_opens_a_connection(accept):
    """It may use a shared secret or a public key. Tokens of this project are still accepted."""
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
    """A number equals its digits, and a name has to match exactly."""
    user = await viewer()
    accept(JWT={**HMAC, "user_claim": "user_id"})
    assert await opens(sign({"user_id": user.pk}))
    assert not await opens(sign({"sub": str(user.pk)}))
    accept(JWT={**HMAC, "user_field": "username"})
    assert await opens(sign({"sub": user.username}))
    assert not await opens(sign({"sub": str(user.pk)}))
    assert not await opens(sign({"sub": user.username.upper()}))


@pytest.mark.parametrize("value", ["", "0", "-1", "x", "9" * 40, "1.5", "\0", "null", "None"])
async def test_a_claim_without_a_user_is_refused(accept, value):
    """It is refused like a user who does not exist."""
    accept(JWT=HMAC)
    assert not await opens(sign({"sub": value}))


@pytest.mark.parametrize("value", [True, None, [1], {"pk": 1}, 1.0])
async def test_a_claim_of_another_type_is_refused(accept, value):
    """`True` is not the user whose key is 1."""
    await in_thread(User.objects.create, pk=1, username="one", is_superuser=True)
    accept(JWT={**HMAC, "user_claim": "uid"})
    assert await opens(sign({"uid": 1}))
    assert not await opens(sign({"uid": value}))


async def test_audience_and_issuer_of_the_setting_are_required(accept):
    """A token for some audience is refused if the setting names none."""
    user = {"sub": str((await viewer()).pk)}
    accept(JWT={**HMAC, "audience": "here", "issuer": "there"})
    assert await opens(sign({**user, "aud": "here", "iss": "there"}))
    assert await opens(sign({**user, "aud": ["elsewhere", "here"], "iss": "there"}))
    for claims in ({"aud": "here"}, {"iss": "there"}, {"aud": "x", "iss": "there"}, {"aud": "here", "iss": "x"}):
        assert not await opens(sign({**user, **claims}))
    accept(JWT=HMAC)
    assert not await opens(sign({**user, "aud": "elsewhere"}))


async def test_a_connection_ends_with_its_web_token(accept):
    """If less than 30 seconds are left, the notice is sent at once, and then the socket is closed."""
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
    """It closes those of sessions too.

    The issuer's token is still valid, because it does not depend on the password.
    """
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
    """A web token of another user does not."""
    user, other = await viewer(), await viewer()
    accept(JWT=HMAC)
    with override_bindings(PRIVATE):
        async with Client(token=sign({"sub": str(user.pk)})) as client:
            await subscribe(client)
            renewed = await client.authenticate(sign({"sub": str(user.pk), "exp": time.time() + 900}))
            assert renewed["seconds"] is not None
            assert renewed["seconds"] > 800
            assert (await client.authenticate(await issue(user)))["ok"]
            assert code_of(await client.authenticate(sign({"sub": str(other.pk)}))) == "denied"


# The same for HTTP ---------------------------------------------------------------------------------------------------


def test_the_header_of_a_request_gives_the_same_identity(rf, django_user_model):
    """A view can authenticate in the same way as sockets."""
    user = get_user_model().objects.create(username="ann")
    request = rf.get("/", headers={"Authorization": f"Bearer {tokens.issue(user)}"})
    token = authentication.bearer_token(request.headers.get("Authorization"))
    assert token is not None
    assert authentication.authenticate_now(token, {}).user_pk == str(user.pk)
    assert authentication.bearer_token(None) is None
    assert authentication.bearer_token("Basic YTpi") is None
