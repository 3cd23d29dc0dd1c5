"""The table of connections: open connections and their subscriptions, as written by the processes; blocks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from declbind.console.audience import load_audience
from declbind.inbound.blocks import block, find_block, unblock
from declbind.inbound.permissions import Identity
from declbind.live import connection_log, housekeeping
from declbind.live.connection_log import mask_address
from declbind.live.hub import LiveHub, get_hub
from declbind.live.socket import Socket
from declbind.models import Block, Connection, Event, Node
from declbind.outbound import retention
from declbind.registry import database_alias
from declbind.testing import Client, override_bindings
from tests.factories import make_user
from tests.live import BOARD, NUMBERS, in_thread, store, subscribe

pytestmark = pytest.mark.django_db(transaction=True)


async def write() -> None:
    """Have the process write its connections."""
    hub = await get_hub()
    await hub.settle()
    await housekeeping.beat(hub)
    await housekeeping.write_connections(hub)


async def fails_to_write(hub: LiveHub) -> bool:
    """Have the process write its connections, and return whether that failed."""
    try:
        await housekeeping.write_connections(hub)
    except OSError:
        return True
    return False


async def load_only() -> Connection:
    return await Connection.objects.aget()


def heard(row: Connection) -> list[list[object]]:
    found: list[list[object]] = json.loads(row.subscriptions)
    return found


async def last_offset() -> int:
    hub = await get_hub()
    await hub.settle()
    return hub.core.cursor


async def test_a_connection_has_a_row_while_it_is_open_and_after() -> None:
    """The row has the user, the address, the client, and the reason for the end."""
    user = await in_thread(make_user)
    headers = [(b"host", b"testserver"), (b"user-agent", b"Browser/1.0")]
    with override_bindings(NUMBERS):
        client = Client(user=user, headers=headers)
        client._communicator.scope["client"] = ("203.0.113.77", 4711)
        async with client:
            await write()
            row = await load_only()
            assert (row.username, row.user_pk) == (user.username, str(user.pk))
            assert (row.address, row.client) == ("203.0.113.0/24", "Browser/1.0")
            assert row.closed_at is None
            assert heard(row) == []
        await write()
    row = await load_only()
    assert row.closed_at is not None
    assert (row.close_code, row.address) == (1000, "203.0.113.0/24")


async def test_subscriptions_are_stored_with_their_first_and_last_offset() -> None:
    """A subscription that goes on has no end. One that the client ended has the offset and the reason."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            await store("a")
            begin = await last_offset()
            await subscribe(client, "a")
            await write()
            assert heard(await load_only()) == [["numbers", "name-a", None, begin, ""]]
            assert (await in_thread(load_audience, "numbers", ["name-a"], database_alias())).total == 1
            await store("a")
            end = await last_offset()
            await client.request("numbers", "unsubscribe", params={"name": "a"})
            await write()
            assert heard(await load_only()) == [["numbers", "name-a", end, begin, "client"]]
            assert (await in_thread(load_audience, "numbers", ["name-a"], database_alias())).total == 0


async def test_a_closed_connection_keeps_its_subscriptions() -> None:
    """Subscriptions that were not ended before end with the connection."""
    with override_bindings(BOARD):
        async with Client():
            begin = await last_offset()
            await store()
            end = await last_offset()
        await write()
    assert heard(await load_only()) == [["board", "board", end, begin, "closed"]]


async def test_rows_that_could_not_be_written_are_written_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short outage of the database loses no row."""
    with override_bindings(NUMBERS):
        hub = await get_hub()

        def fail(rows: object, using: str) -> None:
            raise OSError("away")

        with monkeypatch.context() as patch:
            patch.setattr(hub.connection_log, "write", fail)
            client = Client()
            await client.connect()
            await hub.settle()
            # The hub's own task may have taken the rows just now; it gives them back.
            while not await fails_to_write(hub):
                await hub.settle()
        assert not await Connection.objects.aexists()
        await write()
        assert (await load_only()).closed_at is None
        await client.disconnect()


async def test_connections_beyond_the_limit_are_served_and_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of one process is bounded."""
    monkeypatch.setattr("declbind.live.connection_log.MAX_ROWS", 1)
    with override_bindings(NUMBERS):
        async with Client(), Client() as second:
            await subscribe(second, "a")
            await write()
            assert await Connection.objects.acount() == 1


def test_another_process_ends_the_connections_of_a_dead_one() -> None:
    """Those of a live process stay. Connections that ended long ago are deleted."""
    now = timezone.now()
    Node.objects.create(id="alive", host="h", pid=1, started_at=now, seen_at=now)
    for name, node, closed in (("a", "alive", None), ("b", "dead", None), ("c", "dead", now - timedelta(days=1))):
        Connection.objects.create(id=name, node=node, opened_at=now, closed_at=closed)
    retention.sweep(database_alias())
    assert dict(Connection.objects.values_list("id", "close_code")) == {"a": None, "b": 1006}


@pytest.mark.parametrize(
    ("client", "expected"),
    [(("192.0.2.9", 1), "192.0.2.0/24"), (("2001:db8:1:2::9", 1), "2001:db8:1::/48"), (None, ""), (("", 0), "")],
)
def test_an_address_is_masked(client: object, expected: str) -> None:
    """The stored address names a network, not a person."""
    assert mask_address({"client": client}) == expected


async def test_a_blocked_user_is_disconnected_and_refused_until_the_block_ends() -> None:
    """Other users are not affected."""
    user, other = await in_thread(make_user), await in_thread(make_user)
    with override_bindings(NUMBERS):
        async with Client(user=user) as client, Client(user=other) as bystander:
            await in_thread(block, str(user.pk), timedelta(hours=1), reason="Too loud.")
            assert await client.wait_closed() == 4403
            again = Client(user=user)
            assert await again.connect()
            assert await again.wait_closed() == 4403
            await again.disconnect()
            await subscribe(bystander, "a")
        assert await in_thread(unblock, str(user.pk))
        async with Client(user=user) as client:
            await subscribe(client, "a")


async def test_an_expired_block_has_no_effect() -> None:
    """It need not be removed."""
    user = await in_thread(make_user)
    with override_bindings(NUMBERS):
        await in_thread(block, str(user.pk), timedelta(hours=1))
        await Block.objects.aupdate(until=timezone.now() - timedelta(seconds=1))
        async with Client(user=user) as client:
            await subscribe(client, "a")


async def test_a_user_who_is_blocked_during_the_handshake_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check finds the block, or the kick finds the connection. Here the check comes too early."""
    user = await in_thread(make_user)
    blocked: list[Block] = []

    def find_then_block(user_pk: str | None, tenant: str) -> object:
        found = find_block(user_pk, tenant)
        if not blocked:
            blocked.append(block(str(user.pk), timedelta(hours=1)))
        return found

    monkeypatch.setattr("declbind.live.consumers.find_block", find_then_block)
    with override_bindings(NUMBERS):
        client = Client(user=user)
        await client.connect()
        async with asyncio.timeout(10):
            assert await client.wait_closed() == 4403
        await client.disconnect()
    assert await Event.objects.filter(kind=Event.CONTROL).acount() == 1


def test_a_block_without_a_user_or_a_duration_is_refused() -> None:
    """Anonymous clients cannot be told apart."""
    with pytest.raises(ValueError, match="expected the key of a user"):
        block("", timedelta(hours=1))
    with pytest.raises(ValueError, match="expected a length"):
        block("1", timedelta(0))
    assert not Block.objects.exists()


async def test_a_reason_in_any_script_fits_into_a_close_frame() -> None:
    """The limit is 123 bytes. If it is exceeded, a server closes with another code, and the client reconnects."""
    sent: list[Mapping[str, Any]] = []

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    socket = Socket(Identity(connection_id="c1"), send)
    socket.close(4403, 100 * "\N{SNOWMAN}")
    await socket.send_close()
    assert sent[0]["code"] == 4403
    assert 100 < len(sent[0]["reason"].encode()) <= 123


async def test_ended_connections_that_cannot_be_written_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An outage of the database must not fill the memory."""
    monkeypatch.setattr(connection_log, "MAX_ROWS", 3)

    async def send(message: Mapping[str, Any]) -> None:
        pass

    known = connection_log.ConnectionLog("n")
    for number in range(10):
        socket = Socket(Identity(connection_id=f"c{number}"), send)
        known.opened(socket, {})
        socket.close(1000)
        known.closed(socket, 0)
    assert len(known.take()) == 3
    known.opened(Socket(Identity(connection_id="later"), send), {})
    assert len(known.take()) == 1


def test_old_connections_are_deleted_as_fast_as_new_ones_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deletion works in portions, up to a limit."""
    monkeypatch.setattr(retention, "CLOSED_KEPT", 2)
    monkeypatch.setattr(retention, "CLOSED_BATCH", 3)
    now = timezone.now()
    Connection.objects.bulk_create(
        Connection(id=f"c{number}", node="n", opened_at=now, closed_at=now - timedelta(seconds=number))
        for number in range(12)
    )
    retention.sweep(database_alias())
    assert Connection.objects.count() <= 3
