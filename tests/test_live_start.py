"""A hub whose database fails at the start: it retries, and then closes its clients with 1013."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from django.db import OperationalError
from websockets.sync.client import connect

from declbind.inbound import permissions
from declbind.live import starting
from declbind.live.log_reader import LogReader
from declbind.testing import Client, override_bindings
from tests.json_types import JSONObject
from tests.live import NUMBERS, subscribe
from tests.servers import ROOT, DjangoServer

PROCESSES = 8
PATIENCE = 60.0


def test_processes_that_start_together_on_a_new_database_all_serve(tmp_path: Path):
    """In its default mode, SQLite locks out a reader that writes later. Every process starts all the same."""
    environment: dict[str, str | None] = {
        "DJANGO_SETTINGS_MODULE": "tests.sites.plain_sqlite",
        "DATABASE_URL": f"sqlite:///{tmp_path / 'fresh.sqlite3'}",
        "TEST_DATABASE": None,
        "CHANNEL_LAYER_URL": None,
    }
    servers = [DjangoServer(env=environment) for _ in range(PROCESSES)]
    migrate = [sys.executable, "example_site/manage.py", "migrate", "--verbosity", "0"]
    subprocess.run(migrate, cwd=ROOT, env=dict(servers[0].environment()), check=True, timeout=120)

    def shake_hands(server: DjangoServer) -> JSONObject:
        with connect(f"{server.websocket_url}/ws/bindings/", open_timeout=PATIENCE) as connection:
            connection.send(json.dumps({"stream": "intval", "payload": {"action": "subscribe", "ref": 1}}))
            reply: JSONObject = json.loads(connection.recv(PATIENCE))["payload"]
            return reply

    with ExitStack() as stack, ThreadPoolExecutor(PROCESSES) as threads:
        for server in servers:
            stack.callback(server.close)
        list(threads.map(DjangoServer.start, servers))
        replies = list(threads.map(shake_hands, servers))
        logs = [server.log_text() for server in servers]
    assert [reply["ok"] for reply in replies] == [True] * PROCESSES
    assert len({reply["epoch"] for reply in replies}) == 1
    assert not any("Traceback" in log for log in logs)


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """Return a list of faults that the next reads of the log raise, in order."""
    left: list[Exception] = []
    look = LogReader.first_look

    def look_or_fail(log_reader: LogReader) -> object:
        if left:
            raise left.pop(0)
        return look(log_reader)

    monkeypatch.setattr(LogReader, "first_look", look_or_fail)
    monkeypatch.setattr(starting, "FIRST_PAUSE", 0.001)
    return left


def locked() -> OperationalError:
    return OperationalError("database is locked")


@pytest.mark.django_db(transaction=True)
async def test_a_short_outage_of_the_database_is_retried(failures, caplog):
    """The client does not notice it."""
    failures += [locked(), locked()]
    with override_bindings(NUMBERS):
        async with Client() as client:
            await subscribe(client)
    assert failures == []
    assert caplog.records == []


@pytest.mark.django_db(transaction=True)
async def test_clients_are_closed_with_1013_while_the_database_fails(failures, caplog, monkeypatch):
    """The fault is logged once for all clients that wait for the same start, without a traceback."""
    monkeypatch.setattr(starting, "START_SECONDS", 0.0)
    failures.append(locked())
    async with Client() as first:
        assert await first.wait_closed() == 1013
    starts = [record for record in caplog.records if "could not start" in record.message]
    assert [(record.levelno, record.exc_info) for record in starts] == [(logging.WARNING, None)]
    assert not any(record.exc_info for record in caplog.records)
    # The database is well again.
    with override_bindings(NUMBERS):
        async with Client() as second:
            await subscribe(second)


@pytest.mark.django_db(transaction=True)
async def test_a_fault_of_the_program_is_logged_with_its_traceback(failures, caplog):
    """An error that is not the database's is not retried."""
    failures.append(ZeroDivisionError("ours"))
    async with Client() as client:
        assert await client.wait_closed() == 1013
    [record] = [record for record in caplog.records if record.exc_info]
    assert record.levelno == logging.ERROR


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("function", ["identify", "load_current_user"])
async def test_a_failing_database_during_the_handshake_is_logged_without_a_traceback(function, caplog, monkeypatch):
    """The hub runs, and the client is asked to reconnect."""
    async with Client():
        with monkeypatch.context() as patch:

            def fail(*args: object) -> object:
                raise locked()

            patch.setattr(permissions, function, fail)
            async with Client() as client:
                assert await client.wait_closed() == 1013
        assert not any(record.exc_info for record in caplog.records)
        async with Client() as client:
            await client.send("{}")
