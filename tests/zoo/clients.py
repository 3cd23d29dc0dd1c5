"""Requests to a binding as a client would send them, without a socket."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from django.contrib.auth.models import AbstractUser

from declbind import registry
from declbind.bindings import Binding
from declbind.core.errors import CODES, ClientError
from declbind.core.frames import Request, encode_refusal
from declbind.inbound import writes
from declbind.inbound.permissions import Identity

OPEN = {"view": True, "create": True, "update": True, "delete": True}
ANIMALS: dict[str, Any] = {
    "stream": "animals",
    "model": "zoo.Animal",
    "fields": ["name", "kind", "legs", "weight", "keeper", "foods"],
    "permissions": OPEN,
    "relate": {"keeper": "any", "foods": "any"},
}


def be(user: AbstractUser | None = None) -> Identity:
    """Return the identity of a user without a session, or of an anonymous user."""
    return Identity(connection_id="c1") if user is None else Identity(user_pk=str(user.pk), username=user.username)


class Client:
    """A client that sends requests for one binding as one identity."""

    def __init__(self, binding: type[Binding], identity: Identity) -> None:
        self.binding, self.identity = binding, identity

    def send(
        self, action: str, pk: object = None, data: Mapping[str, object] | None = None, **keys: Any
    ) -> dict[str, Any]:
        """Send a request and return its reply, which must be JSON; ``keys`` are further attributes of the request."""
        payload = {"action": action, "pk": pk} | ({} if data is None else {"data": data})
        request = Request(self.binding.stream or "", action, payload, pk=pk, data=data or {}, **keys)
        reply = writes.handle(request, self.binding, self.identity)
        json.dumps(reply, allow_nan=False).encode()
        return reply

    def refused(
        self, action: str, pk: object = None, data: Mapping[str, object] | None = None, **keys: Any
    ) -> ClientError:
        """Send a request that must be refused; check that the refusal can be sent, and return it."""
        with pytest.raises(ClientError) as caught:
            self.send(action, pk, data, **keys)
        assert caught.value.code in CODES
        encode_refusal("animals", 1, caught.value).encode()
        return caught.value


def connect(
    binding: Mapping[str, object] | type[Binding] | None = None, user: AbstractUser | None = None, **keys: Any
) -> Client:
    """Return a client of a validated class or record, or of the animals with ``keys`` merged over their record."""
    with registry.override({**ANIMALS, **keys} if binding is None else binding) as judged:
        return Client(next(iter(judged.by_stream.values())), be(user))
