"""Keys, settings and signatures of the JSON Web Tokens that tests use."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from declbind.testing import Client, override_bindings
from tests.tokens import PRIVATE

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


def sign(claims: dict[str, Any], key: Any = SECRET, algorithm: str = "HS256", **kwargs: Any) -> str:
    return jwt.encode({"exp": time.time() + 300, **claims}, key, algorithm, **kwargs)


@pytest.fixture
def accept(settings):
    """Return a function that puts settings of tokens in force."""

    def put(**values: object) -> None:
        settings.DECLBIND = values

    return put


async def opens(token: str) -> bool:
    """Return whether a token opens a connection with the permissions of its user."""
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
