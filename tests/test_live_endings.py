"""The end of a socket: both sides may end it, at the same time and in any order, without a fault."""

from __future__ import annotations

import asyncio
import random
import re
from typing import Any

import pytest
from django.db.models import Model
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from declbind.live import conversation
from declbind.live.hub import get_hub
from declbind.testing import Client, override_bindings
from tests.attack.fuzzing.siege import FAULT, Siege
from tests.json_types import JSONObject
from tests.live import NUMBERS, subscribe

#: Steps of the event loop between the two ends: more than there are from a closed socket to the end of its task.
STEPS = range(12)


async def end_from_both_sides(faults: list[JSONObject]) -> None:
    """End sockets from both sides, in both orders, with this many steps of the event loop in between."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.set_exception_handler(lambda loop, context: faults.append(context))
    with override_bindings(NUMBERS):
        for is_closed_first in (True, False):
            for has_request in (False, True):
                for steps in STEPS:
                    client = Client()
                    assert await client.connect()
                    await subscribe(client)
                    hub = await get_hub()
                    (socket,) = hub.sockets()
                    if has_request:
                        await client.send({"stream": "numbers", "payload": {"action": "delete", "pk": 1}})
                    if is_closed_first:
                        socket.close(4429, "Too many messages.")
                        for _ in range(steps):
                            await asyncio.sleep(0)
                    await client._communicator.input_queue.put({"type": "websocket.disconnect", "code": 1006})
                    if not is_closed_first:
                        for _ in range(steps):
                            await asyncio.sleep(0)
                        socket.close(4429, "Too many messages.")
                    await client._communicator.wait(20)
                    assert not hub.sockets()


@pytest.mark.django_db(transaction=True)
async def test_both_sides_may_end_a_socket_at_the_same_time(caplog):
    """In any order and at any distance, the connection ends and nothing is logged."""
    faults: list[JSONObject] = []
    await end_from_both_sides(faults)
    assert faults == []
    assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []


@pytest.mark.django_db(transaction=True)
async def test_an_expired_timeout_is_detected(monkeypatch):
    """Negative control: a callback that does not check whether the socket is still read reschedules it."""

    class Kept:
        """A timeout that is kept after it expired, as in a conversation that does not clear it."""

        def __init__(self) -> None:
            self.kept: dict[int, Any] = {}

        def __get__(self, owner: object, kind: type[Model]) -> object:
            return self.kept.get(id(owner))

        def __set__(self, owner: object, value: object) -> None:
            if value is not None:
                self.kept[id(owner)] = value

    monkeypatch.setattr(conversation.Conversation, "_reading", Kept())
    faults: list[JSONObject] = []
    await end_from_both_sides(faults)
    assert any("Timeout" in str(fault.get("exception")) for fault in faults)


# Real servers --------------------------------------------------------------------------------------------------------

SOCKETS, ROUNDS = 40, 4


async def end_crowd(siege: Siege, chance: random.Random) -> int:
    """Open sockets that the server closes within a second or two, and leave many of them in that time.

    Returns:
        How many the server has closed.
    """
    codes: list[int | None] = []

    async def one() -> None:
        async with connect(
            f"{siege.server.websocket_url}/ws/bindings/", ping_interval=None, close_timeout=1, open_timeout=60
        ) as connection:
            if chance.random() < 0.5:
                await connection.send('{"stream":"notice","payload":{"action":"update","pk":1,"data":{}}}')
            try:
                async with asyncio.timeout(chance.uniform(0.0, 2.2)):
                    await connection.recv()
            except TimeoutError:
                if chance.random() < 0.5:
                    connection.transport.abort()
            except ConnectionClosed as closed:
                codes.append(closed.rcvd.code if closed.rcvd else None)

    await asyncio.gather(*(one() for _ in range(SOCKETS)))
    return codes.count(4408)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("program", ["uvicorn", "daphne"])
def test_a_server_ends_sockets_while_clients_leave(program):
    """Nothing is logged but the connections, with the checks of the debug mode of asyncio."""
    limits = '{"IDLE_SECONDS": 0.5}'
    with Siege(program, 1, limits=limits, environment={"PYTHONASYNCIODEBUG": "1"}) as siege:
        chance = random.Random(1)
        closed = sum(asyncio.run(end_crowd(siege, chance)) for _ in range(ROUNDS))
        log = siege.server.log_text()
    assert closed > 0
    # What debug mode says about slow steps is no fault.
    assert not FAULT.search(re.sub(r".*Executing <.*took.*\n", "", log)), log[-4000:]
