"""Several processes, real servers, and a channel layer that fails: every committed change arrives."""

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
from pytest_django import Settings
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from declbind import touch
from declbind.inbound.revocation import kick
from declbind.models import Node
from declbind.outbound import relay
from example_site.example.models import IntegerValue
from tests.factories import make_user
from tests.json_types import JSONObject
from tests.logins import Login
from tests.servers import DjangoServer, RedisServer

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 20.0

#: Servers with a way of their own to run tasks and to make a ``send`` wait.
SERVERS: dict[str, JSONObject] = {
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


def receive(connection: ClientConnection) -> JSONObject:
    frame: JSONObject = json.loads(connection.recv(PATIENCE))
    return frame


def request(connection: ClientConnection, action: str, **payload: object) -> JSONObject:
    connection.send(json.dumps({"stream": "intval", "payload": {"action": action, "ref": 1, **payload}}))
    while (frame := receive(connection))["payload"]["action"] != "reply":
        pass
    reply: JSONObject = frame["payload"]
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
    """A write here reaches a socket there, a request there is stored, and a logout here closes the socket there."""
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
def test_malformed_bytes_close_at_most_their_own_connection(django_server, program):
    """Invalid UTF-8, binary and huge frames do not affect another socket of the same process."""
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
    """The refusal is an HTTP status during the handshake."""
    server = django_server()
    with pytest.raises(InvalidStatus) as refused, connected(server, origin="http://evil.example"):
        pass
    assert refused.value.response.status_code == 403
    with connected(server, origin=server.url) as connection:
        assert request(connection, "subscribe")["ok"]


@contextmanager
def client_that_reads_nothing(server: DjangoServer) -> Iterator[None]:
    """Open a WebSocket without a library, which would read from it; read nothing after the handshake."""
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
def test_a_client_that_reads_nothing_is_dropped(django_server, program):
    """Its queue overflows and its close frame is not read. The process drops it, and serves the others."""
    IntegerValue.objects.bulk_create(IntegerValue(name="x" * 250, value=value) for value in range(1_000))
    server = django_server(program=program)
    with connected(server) as neighbour:
        assert request(neighbour, "unsubscribe")["ok"]
        with client_that_reads_nothing(server):
            until(lambda: Node.objects.filter(connections=2).exists())
            # Every connection is subscribed to this stream. The kernel buffers several megabytes for the idle reader.
            for _ in range(25):
                touch(IntegerValue.objects.all())
            until(lambda: Node.objects.filter(connections=1).exists())
        assert request(neighbour, "subscribe")["ok"]
        write(-1)
        while next_value(neighbour) != -1:
            pass


@contextmanager
def client_with_a_small_buffer(server: DjangoServer) -> Iterator[ClientConnection]:
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
def test_a_client_that_pauses_gets_complete_snapshots(django_server, name):
    """The server waits in the middle of a snapshot, serves other clients meanwhile, and then continues."""
    rows, times = 9_900, 3
    IntegerValue.objects.bulk_create(IntegerValue(name="x" * 250, value=value) for value in range(rows))
    server = django_server(**SERVERS[name])
    with client_with_a_small_buffer(server) as reader, connected(server) as neighbour:
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
            stack.enter_context(client_that_reads_nothing(server))
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
def test_clients_that_read_nothing_use_little_memory(django_server, program):
    """Waiting data is bounded, in the queue and in the server's buffer, on daphne too."""
    assert measure_growth(django_server(program=program)) < DEAF * BYTES_EACH


@only_once
@pytest.mark.parametrize("program", ["uvicorn", "daphne"])
def test_memory_without_the_limits_is_detected(django_server, program):
    """Negative control: the queue has no limits, and daphne is not paced."""
    assert measure_growth(django_server("tests.unbounded:application", program=program)) > DEAF * BYTES_EACH


# The channel layer ---------------------------------------------------------------------------------------------------


@pytest.fixture
def ring_by(settings: Settings) -> Iterator[Callable[[RedisServer], None]]:
    """Let the writes of this process send wake-ups through a Redis layer."""

    def use(server: RedisServer) -> None:
        backend = "channels_redis.core.RedisChannelLayer"
        settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": {"hosts": [server.url]}}}

    yield use
    relay._ringer = relay._Ringer()


def test_without_a_layer_processes_poll_the_log(django_server):
    """Two web processes and a writer on one database without a channel layer are a supported setup."""
    first, second = django_server(), django_server()
    with connected(first) as here, connected(second) as there:
        assert request(here, "subscribe")["ok"]
        assert request(there, "subscribe")["ok"]
        for value in range(5):
            write(value)
            assert next_value(here) == next_value(there) == value


def test_a_failing_layer_costs_latency_only(django_server, redis_server, ring_by):
    """Redis is killed, restarted empty, paused and resumed. Every write arrives, and none waits for Redis."""
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


def test_a_wake_up_reaches_another_process_at_once(django_server, redis_server, ring_by):
    """With Redis most frames arrive well within the poll interval of a quarter of a second."""
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


def test_a_kick_reaches_all_processes(django_server):
    """The control event is in the log, which every process reads."""
    login = Login(user=make_user())
    first, second = django_server(), django_server()
    with connected(first, login) as here, connected(second, login) as there:
        assert request(here, "subscribe")["ok"]
        assert request(there, "subscribe")["ok"]
        kick(user=login.user)
        for connection in (here, there):
            assert read_to_the_close(connection) == 1012
