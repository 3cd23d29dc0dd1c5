"""The blocks of the front-end tutorial, pasted into the console of a browser."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from example_site.example.models import IntegerValue
from tests.browser.pages import log_in, make_user
from tests.docs.blocks import Block, find_blocks
from tests.servers import DjangoServer

PATIENCE = 20.0
BLOCKS = [block for block in find_blocks() if block.page == "docs/tutorials/frontend.md" and block.language == "js"]


class Console:
    """The console of a page's developer tools: a block can use what earlier blocks declared."""

    def __init__(self, page: Page) -> None:
        self.session = page.context.new_cdp_session(page)

    def run(self, code: str) -> object:
        """Run code and return its value; raises ``AssertionError`` if it throws."""
        answer = self.session.send(
            "Runtime.evaluate",
            {"expression": code, "replMode": True, "awaitPromise": True, "returnByValue": True},
        )
        details = answer.get("exceptionDetails", {})
        assert details == {}, details["exception"]["description"]
        return answer["result"].get("value")

    def wait(self, expression: str, wanted: object) -> None:
        """Wait until an expression has a value."""
        deadline = time.monotonic() + PATIENCE
        while (found := self.run(expression)) != wanted:
            assert time.monotonic() < deadline, f"{expression}: expected {wanted!r}, got {found!r}"
            self.run("new Promise((resolve) => setTimeout(resolve, 20))")


@pytest.fixture
def console(page: Page, django_server: Callable[..., DjangoServer]) -> Console:
    """Return the console of the board, for a user who is logged in."""
    IntegerValue.objects.create(name="Coffees today", value=7)
    server = django_server(env={"DEBUG": "1"})
    make_user("reader")
    log_in(page, server, "reader")
    page.goto(f"{server.url}/board/")
    return Console(page)


def paste(console: Console, blocks: list[Block]) -> None:
    """Run blocks in order, and check after each the result that the page describes."""
    for block in blocks:
        console.run(block.code)
        for sign, (expression, wanted) in PROMISES.items():
            if sign in block.code:
                console.wait(expression, wanted)


#: What is true after a block, by a piece of its code.
PROMISES: dict[str, tuple[str, object]] = {
    "console.table": ("watch.rows.size", 1),
    "prepend(list)": ("list.textContent", "Coffees today: 7"),
    "{ value: 42 });\n": ("list.textContent", "Coffees today: 42"),
    "'many'": ("error.code + Object.keys(error.fields)", "invalidvalue"),
    "conflict": ("conflict.code + list.textContent", "conflictCoffees today: 43"),
    "client.reconnect()": ("states.at(-1) + watch.state", "livelive"),
    "new WebSocket": ("frames.map(({ payload }) => payload.action).slice(0, 2).join()", "reply,snapshot"),
}


@pytest.mark.django_db(transaction=True)
def test_the_blocks_do_what_the_tutorial_says(console: Console) -> None:
    """Every block runs, and the list that the tutorial draws follows the writes."""
    assert [sign for sign in PROMISES if not any(sign in block.code for block in BLOCKS)] == []
    paste(console, BLOCKS)


@pytest.mark.django_db(transaction=True)
def test_a_block_that_is_wrong_is_caught(console: Console) -> None:
    """Control: a method that does not exist fails the test."""
    broken = Block(
        "x.md", 1, "js", "const { connect } = await import('/static/declbind/declbind.js'); connect().streem('x')"
    )
    with pytest.raises(AssertionError, match="streem"):
        paste(console, [broken])
