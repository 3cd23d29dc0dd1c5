"""The servers of the test suite: they start, stop and restart as tests require, and leave no process behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import MySQLdb
import psycopg
import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction

from tests.servers import ROOT, DjangoServer, MariaDBServer, PostgresServer, RedisServer, ServerError

HELLO = """
import os


async def application(scope, receive, send):
    body = os.environ.get("GREETING", "").encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
    await send({"type": "http.response.body", "body": b"<title>hello</title><p>" + body})
"""


@pytest.fixture
def hello_app(tmp_path: Path) -> dict[str, object]:
    """Return the arguments for a server that answers with the environment's GREETING."""
    (tmp_path / "hello_app.py").write_text(HELLO)
    return {"app": "hello_app:application", "env": {"PYTHONPATH": str(tmp_path), "GREETING": "good day"}}


def fetch(server: DjangoServer) -> str:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        return client.makefile("r", encoding="utf-8").read()


def test_postgres_keeps_its_rows_over_a_restart_and_a_crash(
    postgres_server: PostgresServer, postgres_database: str
) -> None:
    """Committed rows survive a stop and a start, and a crash with its recovery."""
    with psycopg.connect(postgres_database) as client:
        client.execute("CREATE TABLE kept (value int)")
        client.execute("INSERT INTO kept VALUES (7)")
    postgres_server.restart()
    with psycopg.connect(postgres_database) as client:
        client.execute("INSERT INTO kept VALUES (8)")
        client.commit()
        postgres_server.kill()
        with pytest.raises(psycopg.OperationalError):
            client.execute("SELECT 1")
    postgres_server.start()
    with psycopg.connect(postgres_database) as client:
        assert client.execute("SELECT value FROM kept ORDER BY value").fetchall() == [(7,), (8,)]


def test_postgres_does_not_run_as_root(postgres_server: PostgresServer) -> None:
    """The server dropped root, which it requires before it starts."""
    assert Path(f"/proc/{postgres_server.pid}").stat().st_uid != 0 or sys.platform != "linux"


def test_mariadb_keeps_its_rows_over_a_restart_and_a_crash(mariadb_server: MariaDBServer) -> None:
    """Committed rows survive a stop and a start, and a crash with its recovery."""
    mariadb_server.create_database("keeping")
    mariadb_server.execute("CREATE TABLE keeping.kept (value int) ENGINE=InnoDB")
    mariadb_server.execute("INSERT INTO keeping.kept VALUES (7)")
    mariadb_server.restart()
    mariadb_server.execute("INSERT INTO keeping.kept VALUES (8)")
    mariadb_server.kill()
    with pytest.raises(MySQLdb.OperationalError):
        mariadb_server.execute("SELECT 1")
    mariadb_server.start()
    assert mariadb_server.execute("SELECT value FROM keeping.kept ORDER BY value") == [(7,), (8,)]


def test_mariadb_does_not_run_as_root(mariadb_server: MariaDBServer) -> None:
    """The server dropped root before it started."""
    assert Path(f"/proc/{mariadb_server.pid}").stat().st_uid != 0 or sys.platform != "linux"


def test_redis_restarts_empty_on_its_port(redis_server: RedisServer) -> None:
    """A killed Redis refuses connections; after a restart it has the same address and is empty."""
    url = redis_server.url
    assert redis_server.ask("SET name value") == "+OK"
    redis_server.kill()
    with pytest.raises(OSError, match="refused"):
        redis_server.ask("PING")
    redis_server.start()
    assert (redis_server.url, redis_server.ask("EXISTS name")) == (url, ":0")


def test_a_paused_redis_accepts_connections_and_does_not_answer(redis_server: RedisServer) -> None:
    """The frozen server is the worst case for a client: no error and no answer until it resumes."""
    redis_server.pause()
    with socket.create_connection(("127.0.0.1", redis_server.port), timeout=0.3) as client:
        client.sendall(b"PING\r\n")
        with pytest.raises(TimeoutError):
            client.recv(16)
        redis_server.resume()
        client.settimeout(10)
        assert client.recv(16) == b"+PONG\r\n"


@pytest.mark.parametrize("program", ["uvicorn", "daphne"])
def test_a_site_is_served_with_its_environment(program: str, hello_app: dict[str, Any]) -> None:
    """Both programs serve the application, in the given environment, until they are stopped."""
    with DjangoServer(program=program, **hello_app) as server:
        assert "good day" in fetch(server)
        server.restart()
        assert "good day" in fetch(server)
        server.stop()
        assert not server.is_running
        with pytest.raises(ConnectionRefusedError):
            fetch(server)


def test_a_server_that_cannot_start_shows_its_log() -> None:
    """The error names the server and contains its log, not just that it is missing."""
    server = DjangoServer(app="no_such_module:application")
    with pytest.raises(ServerError, match=r"(?s)django on port \d+ exited with status \d+.*no_such_module"):
        server.start()
    server.close()


def test_servers_die_with_the_process_that_started_them() -> None:
    """A test run that is killed leaves no server behind: the kernel ends them without a handler."""
    if sys.platform != "linux":
        pytest.xfail("other systems have no death signal; an orderly end still stops the servers")
    code = (
        "from tests.servers import RedisServer; server = RedisServer().start();"
        "print(server.pid, server.directory, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as parent:
        assert parent.stdout is not None
        pid, directory = parent.stdout.readline().split()
        descriptor = os.pidfd_open(int(pid))
        parent.send_signal(signal.SIGKILL)
    try:
        with contextlib.closing(asyncio.new_event_loop()) as loop:
            ended = asyncio.Event()
            loop.add_reader(descriptor, ended.set)  # a pidfd becomes readable when its process ends
            assert loop.run_until_complete(asyncio.wait_for(ended.wait(), timeout=10))
            loop.remove_reader(descriptor)
    finally:
        os.close(descriptor)
        shutil.rmtree(directory)


@pytest.mark.django_db(transaction=True)
def test_another_process_sees_what_this_one_committed(server_env: dict[str, str | None]) -> None:
    """The environment of `server_env` makes another process use the database of the test, in both directions."""
    Group.objects.create(name="from the test")
    code = (
        "import django; django.setup(); from django.contrib.auth.models import Group;"
        "print(Group.objects.get().name); Group.objects.create(name='from the process')"
    )
    env = {key: value for key, value in {**os.environ, **server_env}.items() if value is not None}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("from the test\n", "")
    assert Group.objects.filter(name="from the process").exists()


@pytest.mark.django_db(transaction=True)
def test_the_run_uses_the_database_it_was_asked_for() -> None:
    """TEST_DATABASE decides, so that a run on another database cannot silently be a second run on SQLite."""
    vendors = {"sqlite": "sqlite", "postgres": "postgresql", "mariadb": "mysql"}
    assert connection.vendor == vendors[os.environ.get("TEST_DATABASE", "sqlite")]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


@pytest.mark.django_db(transaction=True)
def test_an_open_page_does_not_affect_queries_and_event_loops(
    page: Any, expect: Callable[..., Any], hello_app: dict[str, Any]
) -> None:
    """The test's own thread has no event loop, so the ORM works, and so does an async call."""
    with DjangoServer(**hello_app) as server:
        page.goto(server.url)
        expect(page).to_have_title("hello")
        expect(page.locator("p")).to_have_text("good day")
        Group.objects.create(name="beside the browser")
        assert asyncio.run(asyncio.sleep(0, "no loop was running")) == "no loop was running"
        with page.expect_console_message() as waiting:
            page.evaluate("console.log('said')")
        assert waiting.value.text == "said"
        with pytest.raises(AssertionError):
            expect(page.locator("p")).to_have_text("something else", timeout=200)
