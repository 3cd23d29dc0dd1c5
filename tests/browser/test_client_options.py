"""The JavaScript client: options that do not exist are errors, which name the nearest one that does."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.browser.scripted_server import ScriptedServer, connected, server

__all__ = ["server"]

CLIENT_OPTIONS = "timeout, retryWrites, inFlight, baseDelay, maxDelay, batch, token, WebSocket"
SUBSCRIBE_OPTIONS = "snapshot, onChange, onRows, onState, onResync, onClosed, onError"

#: A call with an option that does not exist, and the error that it gives.
MISTAKES = {
    "connect('/ws/', { timout: 1 })": f"connect(): expected options among {CLIENT_OPTIONS}, "
    "got 'timout'. The nearest is 'timeout'.",
    "new Client('/ws/', { websocket: WebSocket })": f"connect(): expected options among {CLIENT_OPTIONS}, "
    "got 'websocket'. The nearest is 'WebSocket'.",
    "connect('/ws/', { toString: 1 })": f"connect(): expected options among {CLIENT_OPTIONS}, "
    "got 'toString'. The nearest is 'token'.",
    "client.stream('posts').subscribe({}, { onRow: () => {} })": "subscribe(): expected options among "
    f"{SUBSCRIBE_OPTIONS}, got 'onRow'. The nearest is 'onRows'.",
    "client.stream('posts').create({}, { keys: 'k' })": "create(): expected options among key, if, timeout, "
    "got 'keys'. The nearest is 'key'.",
    "client.stream('posts').update(1, {}, { iff: {} })": "update(): expected options among key, if, timeout, "
    "got 'iff'. The nearest is 'if'.",
    "client.stream('posts').delete(1, { Timeout: 3 })": "delete(): expected options among key, if, timeout, "
    "got 'Timeout'. The nearest is 'timeout'.",
}
TRY = """async () => {
    try {
        await %s;
    } catch (error) {
        return [error.name, error.message];
    }
}"""


@pytest.mark.parametrize("call", MISTAKES)
def test_an_option_that_does_not_exist_is_an_error(page: Page, server: ScriptedServer, call: str) -> None:
    """A misspelled option would otherwise be ignored. Nothing is sent and no connection is opened."""
    line = connected(page, server)
    assert page.evaluate(TRY % call) == ["TypeError", MISTAKES[call]]
    assert line.silent(0.1)
    assert server.lines.empty()


@pytest.mark.parametrize(
    "call",
    [
        f"connect('/ws/', {{ {', '.join(f'{name}: undefined' for name in CLIENT_OPTIONS.split(', '))} }}).close()",
        f"client.stream('posts').subscribe({{}}, {{ {SUBSCRIBE_OPTIONS.replace(',', ': undefined,')}: undefined }})",
        "client.stream('posts').subscribe({}, undefined)",
    ],
)
def test_every_option_may_be_undefined(page: Page, server: ScriptedServer, call: str) -> None:
    """Control of the test above, and the defaults stay in place of undefined values."""
    connected(page, server)
    assert page.evaluate(TRY % call) is None


def test_an_undefined_option_has_its_default(page: Page, server: ScriptedServer) -> None:
    """A write with `timeout: undefined` does not time out at once, and has a key."""
    line = connected(page, server, "{ timeout: undefined, batch: undefined }")
    page.evaluate(
        "write(client.stream('posts').delete(1, { timeout: undefined, key: undefined, if: undefined }))",
    )
    request = line.read()
    assert len(request["payload"]["key"]) == 32
    assert "if" not in request["payload"]
    page.evaluate("new Promise((done) => setTimeout(done, 100))")
    assert page.evaluate("result") is None
