"""Tokens under real servers: the header, the subprotocol, and the end of a token on the wire."""

from __future__ import annotations

from typing import Any

import pytest
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from declbind import tokens
from declbind.core.frames import BATCH_PROTOCOL
from tests.factories import make_user
from tests.test_live_servers import PATIENCE, next_value, read_to_the_close, receive, request, write

pytestmark = pytest.mark.django_db(transaction=True)


def open_by(server: Any, way: str, token: str, *more: str) -> Any:
    address = f"{server.websocket_url}/ws/bindings/"
    # A page of another site: it has the token, so its origin does not matter.
    options: dict[str, Any] = {"open_timeout": PATIENCE, "origin": "https://elsewhere.example"}
    if way == "header":
        return connect(address, additional_headers={"Authorization": f"Bearer {token}"}, **options)
    offered = [Subprotocol(name) for name in (*more, f"declbind.token.{token}")]
    return connect(address, subprotocols=offered, **options)


@pytest.mark.parametrize("program", ["uvicorn", "daphne"])
@pytest.mark.parametrize("way", ["header", "subprotocol"])
def test_a_token_opens_a_connection_under_a_real_server(django_server, program, way):
    """The connection has the token's user, is renewed while open, and is closed with 4401 when the token ends."""
    user = make_user("example.view_integervalue", "example.add_integervalue")
    server = django_server(program=program)
    with open_by(server, way, tokens.issue(user), BATCH_PROTOCOL) as connection:
        assert connection.subprotocol == (None if way == "header" else BATCH_PROTOCOL)
        assert request(connection, "subscribe")["ok"]
        write(1)
        assert next_value(connection) == 1
        assert request(connection, "create", data={"name": "b", "value": 2})["ok"]
        assert request(connection, "authenticate", token=tokens.issue(user, lifetime=5))["seconds"] <= 5
        assert read_to_the_close(connection) == 4401


@pytest.mark.parametrize("program", ["uvicorn", "daphne"])
@pytest.mark.parametrize("way", ["header", "subprotocol"])
def test_a_refused_token_is_closed_with_a_code_that_a_browser_can_read(django_server, program, way):
    """The handshake succeeds, with the subprotocol that was offered."""
    forged = tokens.issue(make_user())[:-4] + "AAAA"
    with open_by(django_server(program=program), way, forged) as connection:
        assert connection.subprotocol == (None if way == "header" else f"declbind.token.{forged}")
        assert read_to_the_close(connection) == 4401


@pytest.mark.parametrize("program", ["uvicorn", "daphne"])
def test_a_token_that_ends_soon_is_announced_by_a_real_server(django_server, program):
    """The frame is a notice about the whole connection."""
    with open_by(django_server(program=program), "subprotocol", tokens.issue(make_user(), lifetime=20)) as connection:
        frame = receive(connection)
        assert {**frame, "payload": frame["payload"]["action"]} == {
            "stream": "", "group": "", "offset": 0, "payload": "expiring",
        }  # fmt: skip
        assert 0 < frame["payload"]["seconds"] <= 20
