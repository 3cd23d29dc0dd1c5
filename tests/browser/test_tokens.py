"""A page that connects by tokens, in a real browser and under a real server."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from declbind import tokens
from declbind.models import BindingRecord
from example_site.example.models import IntegerValue
from tests.factories import make_user
from tests.live import NUMBERS
from tests.servers import DjangoServer

PATIENCE = 30.0
CONNECT = """async () => {
  const { connect } = await import('/static/declbind/declbind.js');
  window.states = [];
  window.client = connect(undefined, { token: () => window.fetchToken() });
  client.addEventListener('state', (event) => states.push(event.detail.state));
  window.watch = client.stream('numbers').subscribe({ name: 'a' });
}"""


def until(page: Page, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        # The browser's thread runs what the page calls only while it waits.
        page.wait_for_timeout(50)


@pytest.mark.parametrize("program", ["uvicorn", "daphne"])
def test_a_page_stays_connected_by_one_token_after_the_other(
    page: Page, django_server: Callable[..., DjangoServer], program: str, transactional_db: None
) -> None:
    """The browser takes the handshake, and the connection outlives the first tokens without being opened again."""
    server = django_server(program=program, env={"DEBUG": "1"})
    BindingRecord().assign({**NUMBERS, "permissions": {"view": "authenticated"}}).save()
    user, count = make_user(), 0

    def fetch() -> str:
        nonlocal count
        count += 1
        return tokens.issue(user, lifetime=4)

    def shows(value: int) -> bool:
        return value in page.evaluate("[...watch.rows.values()].map((row) => row.value)")

    page.goto(f"{server.url}/accounts/login/")
    page.expose_function("fetchToken", fetch)
    page.evaluate(CONNECT)
    IntegerValue.objects.create(name="a", value=1)
    until(page, lambda: shows(1))
    # By the fifth token, the first has ended.
    until(page, lambda: count >= 5)
    IntegerValue.objects.create(name="a", value=2)
    until(page, lambda: shows(2))
    assert page.evaluate("states") == ["live"]


def test_a_page_can_read_why_its_token_was_refused(
    page: Page, django_server: Callable[..., DjangoServer], transactional_db: None
) -> None:
    """A browser that had to give up the handshake would show 1006."""
    server = django_server(env={"DEBUG": "1"})
    page.goto(f"{server.url}/accounts/login/")
    code = page.evaluate(
        """() => new Promise((resolve) => {
            const socket = new WebSocket('/ws/bindings/', ['declbind.token.db1-x.y']);
            socket.onclose = (event) => resolve([event.code, socket.protocol]);
        })"""
    )
    assert code == [4401, "declbind.token.db1-x.y"]
