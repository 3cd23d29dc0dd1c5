"""The system checks of the settings for tokens."""

from __future__ import annotations

import json

import pytest
from django.core.checks import Error
from django.core.checks import Warning as CheckWarning

from declbind import checks
from declbind.inbound import web_tokens
from tests.test_token_callable import PATH
from tests.tokens import issue, viewer
from tests.web_tokens import HMAC, PRIVATE_PEM, PUBLIC_PEM, RSA, SECRET, accept, opens, sign

__all__ = ["accept"]

pytestmark = pytest.mark.django_db(transaction=True)

not_callable = 5


def test_valid_settings_pass(accept):
    """The defaults and valid settings have no message."""
    for values in ({}, {"JWT": HMAC}, {"JWT": RSA}, {"JWT": {**RSA, "user_field": "username"}}, {"AUTHENTICATE": PATH}):
        accept(**values)
        assert checks.check_tokens() == []


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("tests.nowhere.f", "which cannot be imported: No module named 'tests.nowhere'"),
        ("tests.test_token_checks.not_callable", "which is not callable"),
        ("authenticate", "which cannot be imported: authenticate doesn't look like a module path"),
    ],
)
async def test_e010_callable_that_cannot_be_used(accept, path, fault):
    """No token is accepted until the setting is corrected, not even one of this project."""
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


FAULTS: list[tuple[dict[str, object], str]] = [
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
    """The message does not contain the key. No web token is accepted, even if the check is silenced."""
    accept(JWT=config)
    found = [str(message.msg) for message in checks.check_tokens() if message.id == "declbind.E011"]
    assert f"settings.DECLBIND['JWT']: {text}" in found
    assert SECRET not in json.dumps(found)
    user = await viewer()
    for algorithm in ("HS256", "none"):
        key = SECRET if algorithm == "HS256" else None
        assert not await opens(sign({"sub": str(user.pk)}, key, algorithm))


def test_e011_without_the_package(accept, monkeypatch):
    """Web tokens need PyJWT."""
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
    """A key is weak if it is shorter than the digest of its algorithm."""
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
    """A callable replaces web tokens."""
    accept(JWT=HMAC, AUTHENTICATE=PATH)
    assert checks.check_tokens() == [
        CheckWarning(
            "settings.DECLBIND['JWT'] has no effect, because DECLBIND['AUTHENTICATE'] handles all tokens.",
            hint="Remove one of them.",
            id="declbind.W022",
        )
    ]


def test_a_key_in_place_of_the_dict_is_not_printed(settings):
    """The messages about other wrong values quote the value."""
    settings.DECLBIND = {"JWT": SECRET}
    (message,) = checks.check_settings()
    assert (message.id, message.msg) == (
        "declbind.E003", "settings.DECLBIND['JWT']: expected a dict or None, got str.",
    )  # fmt: skip
