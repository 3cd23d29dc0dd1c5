"""Several processes, real servers, and a channel layer that dies: what is committed arrives, sooner or later."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
from django.db import connection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from declbind import touch
from declbind.inbound.revocation import kick
from declbind.models import Node
from declbind.outbound import relay
from example_site.example.models import IntegerValue
from tests.factories import make_user
from tests.servers import DjangoServer, RedisServer
from tests.test_live_revocation import Login

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 20.0

#: Servers with a way of their own to run tasks and to make a ``send`` wait.
SERVERS: dict[str, dict[str, Any]] = {
    "uvicorn": {"arguments": ["--loop", "asyncio", "--ws", "websockets"]},
    "uvicorn with uvloop": {"arguments": ["--loop", "uvloop", "--ws", "websockets"]},
    "uvicorn with sansio": {"arguments": ["--loop", "asyncio", "--ws", "websockets-sansio"]},
    "daphne": {"program": "daphne"},
}


@contextmanager
def connected(server: DjangoServer, login: Login | None = None, **options: Any) -> Iterator[ClientConnection]:
    headers = {}
    if login is not None:
        headers["Cookie"] = f"sessionid={login.session.session_key}"
    address = f"{server.websocket_url}/ws/bindings/"
    with connect(address, additional_headers=headers, open_timeout=PATIENCE, **options) as connection:
        yield connection


def receive(connection: ClientConnection) -> dict[str, Any]:
    frame: dict[str, Any] = json.loads(connection.recv(PATIENCE))
    return frame


def request(connection: ClientConnection, action: str, **payload: Any) -> dict[str, Any]:
    connection.send(json.dumps({"stream": "intval", "payload": {"action": action, "ref": 1, **payload}}))
    while (frame := receive(connection))["payload"]["action"] != "reply":
        pass
    reply: dict[str, Any] = frame["payload"]
    return reply


def read_to_the_close(connection: ClientConnection) -> int | None:
    """Read until the server closes, and return its code."""
    try:
        while True:
            connection.recv(PATIENCE)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd is not None else None


def write(value: int) -> float:
    """Write a number and return when it was committed."""
    IntegerValue.objects.create(name="a", value=value)
    return time.monotonic()


def next_value(connection: ClientConnection) -> int:
    value: int = receive(connection)["payload"]["data"]["value"]
    return value


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


@pytest.mark.parametrize("program", ["uvicorn", "daphne"])
def test_frames_of_another_process_arrive_under_a_real_server(django_server, program):
    """Writes here reach a socket there; requests there are stored here; a logout here ends the socket there."""
    login = Login()
    server = django_server(program=program)
    with connected(server, login) as connection:
        assert request(connection, "subscribe")["ok"]
        write(1)
        assert next_value(connection) == 1
        assert request(connection, "create", data={"name": "b", "value": 2})["ok"]
        assert IntegerValue.objects.get(name="b").value == 2
        login.browser.logout()
        assert read_to_the_close(connection) == 4401


@pytest.mark.parametrize("program", ["uvicorn", "daphne"])
def test_forged_bytes_end_at_most_their_own_connection(django_server, program):
    """Broken UTF-8, binary and huge frames: another socket of the same process notices nothing."""
    server = django_server(program=program)
    with connected(server) as neighbour:
        assert request(neighbour, "subscribe")["ok"]
        with connected(server) as connection:
            connection.send(b"\xff\xfe")
            connection.send('{"stream": 5, "payload": {"ref": "\\ud800"}}')
            assert receive(connection)["payload"]["error"]["code"] == "malformed"
            connection.send("x" * 100_000)
            assert request(connection, "subscribe")["ok"]
            connection.socket.sendall(b"\x81\x82\x00\x00\x00\x00\xff\xff")
            with pytest.raises(ConnectionClosed):
                connection.recv(PATIENCE)
        write(1)
        assert next_value(neighbour) == 1


def test_a_foreign_origin_gets_no_socket(django_server):
    """The refusal is an HTTP status: there never is a WebSocket."""
    server = django_server()
    with pytest.raises(InvalidStatus) as refused, connected(server, origin="http://evil.example"):
        pass
    assert refused.value.response.status_code == 403
    with connected(server, origin=server.url) as connection:
        assert request(connection, "subscribe")["ok"]


@contextmanager
def deaf_client(server: DjangoServer) -> Iterator[None]:
    """Shake hands and never read a byte more: a library would read for us."""
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", server.port))
        raw.sendall(
            b"GET /ws/bindings/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert raw.recv(12) == b"HTTP/1.1 101"
        yield


@pytest.mark.parametrize("program", ["uvicorn", "daphne"])
def test_a_reader_that_reads_nothing_is_let_go(django_server, program):
    """Its queue overflows and its close frame finds no reader: the process lets go of it, and serves the others."""
    IntegerValue.objects.bulk_create(IntegerValue(name="x" * 250, value=value) for value in range(1_000))
    server = django_server(program=program)
    with connected(server) as neighbour:
        assert request(neighbour, "unsubscribe")["ok"]
        with deaf_client(server):
            until(lambda: Node.objects.filter(connections=2).exists())
            # Every connection hears this stream. What the kernel holds for the deaf one is several megabytes.
            for _ in range(25):
                touch(IntegerValue.objects.all())
            until(lambda: Node.objects.filter(connections=1).exists())
        assert request(neighbour, "subscribe")["ok"]
        write(-1)
        while next_value(neighbour) != -1:
            pass


@contextmanager
def narrow_client(server: DjangoServer) -> Iterator[ClientConnection]:
    """Open a connection with a small receive buffer, so that the server soon has to wait for the reader."""
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", server.port))
        with connected(server, sock=raw, max_queue=1, compression=None) as connection:
            yield connection


def snapshot_values(connection: ClientConnection) -> list[int]:
    """Read to the last page of a snapshot and return the values in it. Other frames are skipped."""
    values: list[int] = []
    while True:
        payload = receive(connection)["payload"]
        if payload["action"] == "snapshot":
            values += [row["data"]["value"] for row in payload["objects"]]
            if payload["final"]:
                return values


@pytest.mark.parametrize("name", SERVERS)
def test_a_reader_that_pauses_gets_its_snapshots_whole(django_server, name):
    """The server waits for it in the middle of a snapshot, serves the others meanwhile, and then carries on."""
    rows, times = 9_900, 3
    IntegerValue.objects.bulk_create(IntegerValue(name="x" * 250, value=value) for value in range(rows))
    server = django_server(**SERVERS[name])
    with narrow_client(server) as reader, connected(server) as neighbour:
        # 9 MB for a reader that does not read: the kernel's buffers do not hold that.
        for _ in range(times):
            reader.send('{"stream": "intval", "payload": {"action": "subscribe", "snapshot": true}}')
        assert request(neighbour, "subscribe")["ok"]
        for value in range(5):
            write(-value)
            assert next_value(neighbour) == -value
        for _ in range(times):
            assert snapshot_values(reader)[:rows] == list(range(rows))
        write(-5)
        while next_value(reader) != -5:
            pass


#: So many readers that read nothing, and what each may cost the process at most. (They share the texts that wait.)
DEAF, BYTES_EACH = 30, 700_000
ROWS, TOUCHES = 1_000, 16


def measure_growth(server: DjangoServer) -> int:
    """Send 5 MB of frames to each of many readers that read nothing, and return by how much the process grew."""
    IntegerValue.objects.bulk_create(IntegerValue(name="x" * 250, value=value) for value in range(ROWS))
    process = psutil.Process(server.pid)
    with ExitStack() as stack:
        for _ in range(DEAF):
            stack.enter_context(deaf_client(server))
        until(lambda: Node.objects.filter(connections=DEAF).exists())
        with connected(server) as last:
            # What reading the log takes is the same for any number of readers, and is taken before the count begins.
            touch(IntegerValue.objects.all()[:1])
            assert request(last, "subscribe")["ok"]
            before = peak = process.memory_info().rss
            for _ in range(TOUCHES):
                touch(IntegerValue.objects.all())
                for _ in range(ROWS):
                    next_value(last)
                peak = max(peak, process.memory_info().rss)
    return int(peak - before)


only_once = pytest.mark.skipif(
    connection.vendor != "sqlite", reason="What waits for a reader is the same for any database; run with SQLite."
)


@only_once
@pytest.mark.parametrize("program", ["uvicorn", "daphne"])
def test_readers_that_read_nothing_cost_little_memory(django_server, program):
    """What waits for them is bounded, whatever is sent: in the queue, in the server's buffer, on daphne too."""
    assert measure_growth(django_server(program=program)) < DEAF * BYTES_EACH


@only_once
@pytest.mark.parametrize("program", ["uvicorn", "daphne"])
def test_memory_without_the_bounds_would_be_noticed(django_server, program):
    """Negative control: the same without limits of the queue and without the pacing of daphne."""
    assert measure_growth(django_server("tests.unbounded:application", program=program)) > DEAF * BYTES_EACH


# The channel layer ---------------------------------------------------------------------------------------------------


@pytest.fixture
def ring_by(settings: Any) -> Iterator[Callable[[RedisServer], None]]:
    """Let the writes of this process ring through a Redis layer."""

    def use(server: RedisServer) -> None:
        backend = "channels_redis.core.RedisChannelLayer"
        settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": {"hosts": [server.url]}}}

    yield use
    relay._ringer = relay._Ringer()


def test_without_a_layer_other_processes_are_heard_by_polling(django_server):
    """No channel layer at all is a supported set-up: two web processes and a writer on one database."""
    first, second = django_server(), django_server()
    with connected(first) as here, connected(second) as there:
        assert request(here, "subscribe")["ok"]
        assert request(there, "subscribe")["ok"]
        for value in range(5):
            write(value)
            assert next_value(here) == next_value(there) == value


def test_a_dead_or_hanging_layer_costs_latency_only(django_server, redis_server, ring_by):
    """Redis is killed, restarted empty, frozen and thawed: every write arrives, none waits for Redis."""
    ring_by(redis_server)
    server = django_server(env={"CHANNEL_LAYER_URL": redis_server.url})
    with connected(server) as connection:
        assert request(connection, "subscribe")["ok"]
        steps = [lambda: None, redis_server.kill, redis_server.start, redis_server.pause, redis_server.resume]
        for value, step in enumerate(steps):
            step()
            begun = time.monotonic()
            committed = write(value)
            assert committed - begun < 2
            assert next_value(connection) == value
            assert time.monotonic() - committed < 5


def test_the_doorbell_wakes_another_process_at_once(django_server, redis_server, ring_by):
    """With Redis a frame does not wait for the poll: of many, most come well within its quarter of a second."""
    ring_by(redis_server)
    server = django_server(env={"CHANNEL_LAYER_URL": redis_server.url})
    with connected(server) as connection:
        assert request(connection, "subscribe")["ok"]
        until(lambda: redis_server.ask("EXISTS asgi:group:declbind.doorbell") == ":1")
        delays = []
        for value in range(20):
            committed = write(value)
            assert next_value(connection) == value
            delays.append(time.monotonic() - committed)
        assert sorted(delays)[10] < 0.1


def test_users_of_two_processes_are_kicked_alike(django_server):
    """A control event reaches every process by the log."""
    login = Login(user=make_user())
    first, second = django_server(), django_server()
    with connected(first, login) as here, connected(second, login) as there:
        assert request(here, "subscribe")["ok"]
        assert request(there, "subscribe")["ok"]
        kick(user=login.user)
        for connection in (here, there):
            assert read_to_the_close(connection) == 4403
