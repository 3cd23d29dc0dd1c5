"""Shutdown: a process notifies its clients, closes them one after the other, and then ends as usual."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import FrameType
from typing import Any

import pytest
from django.test import Client as HttpClient
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from declbind.live.hub import get_hub
from declbind.testing import Client, override_bindings
from tests.json_types import JSONObject
from tests.live import BOARD, NUMBERS, in_thread, since_of, subscribe
from tests.servers import DjangoServer
from tests.test_live_servers import PATIENCE, connected, receive, request, write

pytestmark = pytest.mark.django_db(transaction=True)

CLIENTS, SECONDS = 8, 2.0

SERVERS: dict[str, JSONObject] = {
    "uvicorn": {"arguments": ["--loop", "asyncio"]},
    "uvicorn with uvloop": {"arguments": ["--loop", "uvloop"]},
    "daphne": {"program": "daphne"},
}


class Leaver(threading.Thread):
    """A client that reads one connection until it is closed."""

    def __init__(self, connection: ClientConnection, offset: int) -> None:
        super().__init__()
        self.connection = connection
        self.offset = offset
        self.actions: list[str] = []
        self.values: list[int] = []
        self.code: int | None = None
        self.closed_at = 0.0

    def run(self) -> None:
        try:
            while True:
                self.take(receive(self.connection))
        except ConnectionClosed as closed:
            self.code = closed.rcvd.code if closed.rcvd is not None else None
            self.closed_at = time.monotonic()

    def take(self, frame: JSONObject) -> None:
        self.actions.append(frame["payload"]["action"])
        if frame.get("group"):
            self.offset = frame["offset"]
            self.values.append(frame["payload"]["data"]["value"])


def start_leavers(server: DjangoServer, stack: ExitStack) -> tuple[list[Leaver], JSONObject]:
    """Subscribe clients to a server; return them, and the ``since`` with which they may resume."""
    leavers, since = [], {}
    for _ in range(CLIENTS):
        connection = stack.enter_context(connected(server))
        reply = request(connection, "subscribe")
        since = since_of(reply)
        leavers.append(Leaver(connection, reply["offset"]))
    for leaver in leavers:
        leaver.start()
    return leavers, since


def stop(server: DjangoServer, leavers: list[Leaver]) -> int:
    """Signal a server to stop, and return its exit status when it and all its clients have ended."""
    assert server.process is not None
    server.signal(signal.SIGTERM)
    status = server.process.wait(PATIENCE)
    for leaver in leavers:
        leaver.join(PATIENCE)
        assert not leaver.is_alive()
    return status


@pytest.mark.parametrize("name", SERVERS)
def test_clients_are_notified_and_closed_one_after_the_other(django_server, name):
    """Each is sent ``moving`` and closed with 1012, and misses nothing when it resumes at another process."""
    server = django_server(env={"DECLBIND_DRAIN_SECONDS": str(SECONDS)}, **SERVERS[name])
    other = django_server()
    with ExitStack() as stack:
        leavers, since = start_leavers(server, stack)
        written: list[int] = []
        # The test's own thread has the database connection; the stop is what waits.
        statuses: list[int] = []
        stopping = threading.Thread(target=lambda: statuses.append(stop(server, leavers)))
        begun = time.monotonic()
        stopping.start()
        while stopping.is_alive():
            written.append(len(written))
            write(len(written) - 1)
            stopping.join(0.05)

        assert [leaver.code for leaver in leavers] == [1012] * CLIENTS
        assert all(leaver.actions.count("moving") == 1 for leaver in leavers)
        ends = sorted(leaver.closed_at - begun for leaver in leavers)
        # The last one is closed when 7/8 of the time are over, and none of the pauses is much longer than 1/8 of it.
        assert ends[-1] - ends[0] > SECONDS / 2
        assert max(later - earlier for earlier, later in itertools.pairwise(ends)) < SECONDS / 2
        # uvicorn ends by the signal, as it does without any clients.
        assert statuses == [0 if name == "daphne" else -signal.SIGTERM]

        assert len({leaver.offset for leaver in leavers}) > 1
        for leaver in leavers:
            with connected(other) as connection:
                assert request(connection, "subscribe", since={**since, "offset": leaver.offset})["ok"]
                while len(leaver.values) < len(written):
                    leaver.take(receive(connection))
            assert leaver.values == written


@pytest.mark.parametrize("name", ["uvicorn", "daphne"])
def test_without_a_drain_all_clients_are_closed_at_once(django_server, name):
    """Negative control: this is the behaviour of a server without draining."""
    server = django_server(env={"DECLBIND_DRAIN_SECONDS": "0"}, **SERVERS[name])
    with ExitStack() as stack:
        leavers, _ = start_leavers(server, stack)
        stop(server, leavers)
        ends = [leaver.closed_at for leaver in leavers]
        assert max(ends) - min(ends) < SECONDS / 2
        assert not any("moving" in leaver.actions for leaver in leavers)


@pytest.mark.parametrize("name", SERVERS)
def test_ctrl_c_does_not_wait(django_server, name):
    """In development, SIGINT is handled by the server at once."""
    server = django_server(env={"DECLBIND_DRAIN_SECONDS": "60"}, **SERVERS[name])
    with ExitStack() as stack:
        leavers, _ = start_leavers(server, stack)
        assert server.process is not None
        server.signal(signal.SIGINT)
        server.process.wait(PATIENCE)
        for leaver in leavers:
            leaver.join(PATIENCE)
        assert not any("moving" in leaver.actions for leaver in leavers)


@pytest.mark.parametrize("name", ["uvicorn", "daphne"])
def test_a_second_signal_ends_the_waiting(django_server, name):
    """All remaining clients are closed at once, still normally."""
    server = django_server(env={"DECLBIND_DRAIN_SECONDS": "600"}, **SERVERS[name])
    with ExitStack() as stack:
        leavers, _ = start_leavers(server, stack)
        server.signal(signal.SIGTERM)
        # The first one is closed at once.
        leavers[0].join(PATIENCE)
        assert leavers[0].code == 1012
        stop(server, leavers)
        assert [leaver.code for leaver in leavers] == [1012] * CLIENTS


# In this process -----------------------------------------------------------------------------------------------------


@pytest.fixture
def signals() -> Iterator[list[int]]:
    """Set a handler of SIGTERM in place of a server's own, and return the signals that it received."""
    got: list[int] = []

    def take(number: int, frame: FrameType | None) -> None:
        got.append(number)

    before = signal.signal(signal.SIGTERM, take)
    yield got
    assert signal.getsignal(signal.SIGTERM) is take
    signal.signal(signal.SIGTERM, before)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - signals set no event
            await asyncio.sleep(0.005)


async def test_the_server_gets_the_signal_after_its_clients_are_closed(settings, signals):
    """The server's own handler runs later and does the same as usual."""
    settings.DECLBIND = {"DRAIN_SECONDS": 0.2}
    with override_bindings(NUMBERS):
        async with Client() as first, Client() as second:
            await subscribe(first)
            await subscribe(second)
            signal.raise_signal(signal.SIGTERM)
            frame = {"stream": "", "group": "", "offset": 0, "payload": {"action": "moving"}}
            assert (await first.receive()) == frame
            assert await first.wait_closed() == 1012
            assert signals == []
            assert await second.wait_closed() == 1012
            await until(lambda: signals == [signal.SIGTERM])
        await (await get_hub()).stop()


async def test_new_clients_are_refused_during_shutdown(settings, signals):
    """A new client is asked to reconnect, and then reaches another process."""
    settings.DECLBIND = {"DRAIN_SECONDS": 60.0}
    with override_bindings(NUMBERS):
        async with Client() as first, Client() as second:
            signal.raise_signal(signal.SIGTERM)
            assert await first.wait_closed() == 1012
            async with Client() as late:
                assert await late.wait_closed() == 1012
            signal.raise_signal(signal.SIGTERM)
            assert await second.wait_closed() == 1012
        await (await get_hub()).stop()


async def test_clients_of_channels_1x_are_only_closed(settings, signals):
    """A client that was only subscribed by the server gets no unknown frames."""
    settings.DECLBIND = {"DRAIN_SECONDS": 0.1}
    with override_bindings(BOARD):
        async with Client() as client:
            signal.raise_signal(signal.SIGTERM)
            with pytest.raises(ConnectionError, match="1012"):
                await client.receive()
        await (await get_hub()).stop()


async def test_a_request_under_way_is_answered_before_the_close(settings, signals, monkeypatch):
    """A socket is closed after its requests are finished."""
    settings.DECLBIND = {"DRAIN_SECONDS": 0.1}
    with override_bindings(NUMBERS):
        async with Client() as client:
            hub = await get_hub()
            go_on = asyncio.Event()
            run = hub.requests.run

            async def run_later(*args: Any, **kwargs: Any) -> Any:
                await go_on.wait()
                return await run(*args, **kwargs)

            monkeypatch.setattr(hub.requests, "run", run_later)
            [socket] = hub.sockets()
            asking = asyncio.create_task(client.request("numbers", "create", data={"name": "a", "value": 1}))
            await until(lambda: socket.requests)
            signal.raise_signal(signal.SIGTERM)
            await until(lambda: hub.drain.is_moving)
            go_on.set()
            assert (await asking)["ok"]
            assert await client.wait_closed() == 1012
        await hub.stop()


async def test_the_health_page_reports_the_shutdown(settings, signals):
    """It returns 503 as soon as the process is ending."""
    settings.DECLBIND = {"DRAIN_SECONDS": 60.0}
    async with Client(), Client() as second:
        hub = await get_hub()
        signal.raise_signal(signal.SIGTERM)
        await until(lambda: hub.drain.is_moving)
        response = await in_thread(HttpClient().get, "/declbind/health/")
        assert (response.status_code, response.json()) == (503, {"ok": False})
        signal.raise_signal(signal.SIGTERM)
        assert await second.wait_closed() == 1012
    await hub.stop()


async def test_a_hub_that_ends_restores_the_signal_handler(settings, signals):
    """The fixture checks the handler. A signal that was held back is not lost."""
    settings.DECLBIND = {"DRAIN_SECONDS": 60.0}
    async with Client(), Client():
        hub = await get_hub()
        signal.raise_signal(signal.SIGTERM)
        await until(lambda: hub.drain.is_moving)
        assert signals == []
        await hub.stop()
        assert signals == [signal.SIGTERM]


async def test_without_a_drain_the_server_handles_the_signal(settings, signals):
    """The server handles the signal itself."""
    settings.DECLBIND = {"DRAIN_SECONDS": 0}
    before = signal.getsignal(signal.SIGTERM)
    async with Client():
        assert signal.getsignal(signal.SIGTERM) is before
        signal.raise_signal(signal.SIGTERM)
        assert signals == [signal.SIGTERM]


#: Takes the signal in a loop, and then does what is said by the argument.
SCRIPT = """
import asyncio, os, signal, sys
import django
from django.conf import settings
settings.configure(DECLBIND={"DRAIN_SECONDS": 5})
from declbind.live import shutdown

class Hub:
    def __init__(self, loop):
        self.loop, self.drain, self.moved = loop, self, False
    def start(self, seconds):
        return self.loop.create_task(self.move())
    async def move(self):
        await asyncio.sleep(0.05)
        self.moved = True

async def main():
    loop = asyncio.get_running_loop()
    hub = Hub(loop)
    how, over = sys.argv[1], asyncio.Event()
    if how == "loop":
        loop.add_signal_handler(signal.SIGTERM, lambda: (print("host", hub.moved), over.set()))
        loop.add_signal_handler(signal.SIGUSR1, lambda: print("other", flush=True))
    shutdown.watch(loop, lambda: [hub])
    if how == "fork":
        if (pid := os.fork()) == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        print("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), hub.moved, flush=True)
        return
    if how == "loop":
        os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGTERM)
    if how == "default":
        await asyncio.sleep(5)
    await over.wait()
    shutdown.unwatch(loop)
    print("handlers", loop.remove_signal_handler(signal.SIGTERM))

factory = None
if sys.argv[2] == "uvloop":
    import uvloop
    factory = uvloop.new_event_loop
with asyncio.Runner(loop_factory=factory) as runner:
    runner.run(main())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(
    ("how", "said", "status"),
    [
        ("loop", "other\nhost True\nhandlers True\n", 0),
        ("fork", "child -15 False\n", 0),
        ("default", "", -15),
    ],
)
def test_the_signal_reaches_its_original_handler(how, said, status, loop):
    """This may be a handler of the event loop, as in hypercorn and granian, none at all, or that of a forked child."""
    environment = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, how, loop],
        capture_output=True, text=True, timeout=60, check=False, env=environment,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == (said, status), done.stderr
