"""The server's own limit for messages is found, at the start of a process and by `check --deploy`."""

from __future__ import annotations

import importlib.util

import pytest

from declbind.checks import check_message_size
from declbind.live import server_limits
from tests.test_live_servers import connected

SET = {"UVICORN_WS_MAX_SIZE": "65536"}


@pytest.mark.parametrize("websockets", ["websockets", "websockets-sansio", "wsproto"])
@pytest.mark.parametrize(("env", "is_told"), [({}, True), (SET, False)])
def test_uvicorn_is_recognised_by_its_limit(django_server, websockets, env, is_told):
    """Each protocol implementation passes a method of an object that has the limit."""
    server = django_server(program="uvicorn", arguments=["--ws", websockets], env=env)
    with connected(server):
        pass
    assert ("Start uvicorn with --ws-max-size 65536" in server.log_text()) is is_told


def test_other_servers_have_no_known_limit(django_server):
    """daphne passes a method of a queue."""
    server = django_server(program="daphne")
    with connected(server):
        pass
    assert "ws-max-size" not in server.log_text()


@pytest.mark.parametrize(
    ("value", "found"), [(None, True), ("", True), ("16777216", True), ("x", True), ("65536", False), ("1000", False)]
)
def test_the_deployment_check_reads_the_environment(value, found, monkeypatch):
    """uvicorn also takes its options from variables, and a check cannot read a command line."""
    monkeypatch.delenv(server_limits.VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(server_limits.VARIABLE, value)
    assert [message.id for message in check_message_size()] == ["declbind.W021"] * found


def test_the_deployment_check_is_silent_without_uvicorn(monkeypatch):
    """daphne has other options and another limit."""
    monkeypatch.delenv(server_limits.VARIABLE, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert check_message_size() == []
