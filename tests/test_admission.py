"""Limits on the open sockets of a user and of an address in a process."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from declbind.live.admission import Admission, client_address
from declbind.live.hub import get_hub
from declbind.models import Traffic
from declbind.testing import Client
from tests.factories import make_user
from tests.json_types import JSONObject
from tests.live import in_thread

HOST = (b"host", b"testserver")


async def open_sockets(stack: AsyncExitStack, count: int, **client: Any) -> list[int | None]:
    """Open sockets one after the other; return the close code of each, ``None`` if it stays open."""
    codes: list[int | None] = []
    for _ in range(count):
        made = Client(**client)
        await made.connect()
        if await made._communicator.receive_nothing(0.05, 0.01):
            stack.push_async_exit(made)
            codes.append(None)
        else:
            codes.append(await made.wait_closed())
    return codes


@pytest.mark.django_db(transaction=True)
async def test_the_sockets_of_a_user_are_limited(settings):
    """Other users are not affected, and a closed socket makes room for another."""
    settings.DECLBIND = {"MAX_CONNECTIONS_PER_USER": 2}
    ann, bob = await in_thread(make_user), await in_thread(make_user)
    async with AsyncExitStack() as stack:
        assert await open_sockets(stack, 3, user=ann) == [None, None, 4429]
        assert await open_sockets(stack, 2, user=bob) == [None, None]
        assert await open_sockets(stack, 3) == [None, None, None]
    async with AsyncExitStack() as stack:
        assert await open_sockets(stack, 2, user=ann) == [None, None]
        hub = await get_hub()
        await hub.thread.run(hub.traffic.write, hub.traffic.take(), hub.using)
    refused = await sync_to_async(lambda: list(Traffic.objects.filter(outcome="connections").values_list("user_pk")))()
    assert refused == [(str(ann.pk),)]


@pytest.mark.django_db(transaction=True)
async def test_a_process_without_a_count_is_detected(settings, monkeypatch):
    """Negative control of the previous test."""
    settings.DECLBIND = {"MAX_CONNECTIONS_PER_USER": 2}
    monkeypatch.setattr(Admission, "enter", lambda *args: True)
    monkeypatch.setattr(Admission, "leave", lambda *args: None)
    async with AsyncExitStack() as stack:
        assert await open_sockets(stack, 3, user=await in_thread(make_user)) == [None] * 3


@pytest.mark.django_db(transaction=True)
async def test_the_sockets_of_an_address_are_limited(settings):
    """Behind a proxy, anonymous clients are distinguished by the address that the proxy has seen."""
    settings.DECLBIND = {"MAX_CONNECTIONS_PER_ADDRESS": 1, "TRUSTED_PROXIES": 1}
    first: JSONObject = {"headers": [HOST, (b"x-forwarded-for", b"192.0.2.1")]}
    other: JSONObject = {"headers": [HOST, (b"x-forwarded-for", b"192.0.2.1, 192.0.2.2")]}
    async with AsyncExitStack() as stack:
        assert await open_sockets(stack, 2, **first) == [None, 4429]
        assert await open_sockets(stack, 2, **other) == [None, 4429]


ADDRESSES: list[tuple[int, Any, list[str], str]] = [
    (0, ("192.0.2.9", 5), [], "192.0.2.9"),
    (0, ("192.0.2.9", 5), ["198.51.100.1"], "192.0.2.9"),
    (0, None, [], ""),
    (0, ("", 0), [], ""),
    (0, ("unix:/run/x", None), [], ""),
    (0, ("2001:db8:1:2:3::4", 5), [], "2001:db8:1:2::/64"),
    (1, ("10.0.0.1", 5), ["198.51.100.1"], "198.51.100.1"),
    (1, ("10.0.0.1", 5), ["203.0.113.7, 198.51.100.1"], "198.51.100.1"),
    (1, ("10.0.0.1", 5), ["203.0.113.7", "198.51.100.1"], "198.51.100.1"),
    (2, ("10.0.0.1", 5), ["203.0.113.7, 198.51.100.1"], "203.0.113.7"),
    (2, ("10.0.0.1", 5), ["198.51.100.1"], "10.0.0.1"),
    (1, ("10.0.0.1", 5), [], "10.0.0.1"),
    (1, ("10.0.0.1", 5), ["nonsense"], ""),
    (1, ("10.0.0.1", 5), [""], ""),
]


@pytest.mark.parametrize(("proxies", "client", "forwarded", "address"), ADDRESSES)
def test_an_address_is_the_one_that_the_outermost_trusted_proxy_saw(proxies, client, forwarded, address, settings):
    """Entries that a client writes into the header itself come before it and do not count."""
    settings.DECLBIND = {"TRUSTED_PROXIES": proxies}
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    assert client_address({"client": client, "headers": headers}) == address
