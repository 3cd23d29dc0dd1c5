"""The JavaScript client: writes and their replies."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.browser.scripted_server import ScriptedServer, connected, server, until

__all__ = ["server"]


def test_writes_are_answered_by_ref(page: Page, server: ScriptedServer) -> None:
    """Replies may come in any order; each resolves its own promise."""
    line = connected(page, server)
    page.evaluate(
        """() => {
            const posts = client.stream('posts');
            const update = posts.update(2, { t: 'b' }, { if: { t: 'x' } });
            write(Promise.all([posts.create({ t: 'a' }), update, posts.delete('three')]));
        }"""
    )
    requests = [line.read() for _ in range(3)]
    update, create, delete = (request["payload"] for request in requests)
    assert (create["action"], create["data"]) == ("create", {"t": "a"})
    assert (update["pk"], update["data"], update["if"]) == (2, {"t": "b"}, {"t": "x"})
    assert (delete["action"], delete["pk"]) == ("delete", "three")
    assert len({request["payload"]["key"] for request in requests}) == 3
    for request, pk in zip(reversed(requests), ("three", 1, 2), strict=True):
        line.reply(request, pk=pk)
    until(page, "result")
    assert page.evaluate("result[1].map((r) => r.pk)") == [1, 2, "three"]


def test_refused_write_carries_the_errors_of_its_fields(page: Page, server: ScriptedServer) -> None:
    line = connected(page, server)
    page.evaluate("write(client.stream('posts').create({ t: '' }))")
    line.refuse(line.read(), "invalid", fields={"t": ["This field is required."]})
    until(page, "result")
    assert page.evaluate("result") == ["error", "invalid", {"t": ["This field is required."]}, True]


def test_write_whose_reply_was_lost_is_repeated_under_the_same_key(page: Page, server: ScriptedServer) -> None:
    """The server knows the key and writes only once."""
    line = connected(page, server)
    page.evaluate("write(client.stream('posts').create({ t: 'a' }))")
    first = line.read()
    line.cut()
    line = server.next_line()
    second = line.read()
    assert second == first
    line.reply(second, pk=5)
    until(page, "result")
    assert page.evaluate("result[1].pk") == 5


def test_write_without_a_key_is_never_sent_twice(page: Page, server: ScriptedServer) -> None:
    line = connected(page, server)
    page.evaluate("write(client.stream('posts').create({ t: 'a' }, { key: null }))")
    assert "key" not in line.read()["payload"]
    line.cut()
    until(page, "result")
    assert page.evaluate("result[1]") == "disconnected"
    assert server.next_line().silent()


def test_writes_beyond_the_limit_wait(page: Page, server: ScriptedServer) -> None:
    """No more writes are in progress than the server accepts, and their order is kept."""
    line = connected(page, server, "{ inFlight: 2 }")
    page.evaluate("() => { for (const n of [1, 2, 3]) client.stream('posts').update(n, { t: 'x' }).catch(() => {}) }")
    first = line.read()
    line.read()
    assert line.silent()
    line.reply(first, pk=1)
    assert line.read()["payload"]["pk"] == 3


def test_write_times_out(page: Page, server: ScriptedServer) -> None:
    line = connected(page, server)
    page.evaluate("write(client.stream('posts').delete(1, { timeout: 50 }))")
    line.read()
    until(page, "result")
    assert page.evaluate("result[1]") == "timeout"


# Outcomes -------------------------------------------------------------------------------------------------

#: Ways in which a write ends without a reply, by the code of its error.
ENDS = {
    "timeout": "client.stream('posts').delete(1, { timeout: 50 })",
    "closed": "client.stream('posts').delete(1); client.close()",
}


def fail(page: Page, code: str) -> tuple[str, bool, str]:
    """Let a write end without a reply; return its code, whether the outcome is unknown, and the message."""
    first, *rest = ENDS[code].split("; ")
    page.evaluate(
        f"""() => {{
            window.failure = null;
            {first}.catch((error) => (failure = [error.code, error.outcomeUnknown, error.message]));
            {"; ".join(rest)}
        }}"""
    )
    until(page, "failure")
    found_code, is_unknown, message = page.evaluate("failure")
    return found_code, is_unknown, message


@pytest.mark.parametrize("code", ENDS)
def test_the_outcome_of_a_sent_write_is_unknown(page: Page, server: ScriptedServer, code: str) -> None:
    """Without a reply nobody can say whether it was stored."""
    connected(page, server)
    found_code, is_unknown, message = fail(page, code)
    assert (found_code, is_unknown) == (code, True)
    assert message.endswith("; whether the write was stored is unknown.")


@pytest.mark.parametrize("code", ENDS)
def test_the_outcome_of_an_unsent_write_is_known(page: Page, server: ScriptedServer, code: str) -> None:
    """It was never sent, so it is not stored, and the page may offer to send it again."""
    line = connected(page, server)
    page.evaluate("() => { Math.random = () => 1; client.close(); open({ baseDelay: 60000, maxDelay: 60000 }); }")
    line = server.next_line()
    until(page, "client.state === 'live'")
    line.cut()
    until(page, "client.state === 'reconnecting'")
    found_code, is_unknown, message = fail(page, code)
    assert (found_code, is_unknown) == (code, False)
    assert message.endswith("; the write was never sent.")


def test_a_write_that_waits_for_its_turn_was_not_sent(page: Page, server: ScriptedServer) -> None:
    """Writes beyond `inFlight` wait in the client."""
    connected(page, server, "{ inFlight: 1 }")
    page.evaluate("() => { client.stream('posts').delete(1).catch(() => {}); }")
    assert fail(page, "timeout")[:2] == ("timeout", False)


def test_a_write_stays_sent_over_a_reconnect(page: Page, server: ScriptedServer) -> None:
    """It was sent on the lost connection, and waits to be sent again."""
    line = connected(page, server)
    page.evaluate("() => { Math.random = () => 1; client.close(); open({ baseDelay: 60000, maxDelay: 60000 }); }")
    line = server.next_line()
    until(page, "client.state === 'live'")
    page.evaluate(
        """() => {
            window.failure = null;
            client.stream('posts').delete(1).catch((error) => (failure = [error.code, error.outcomeUnknown]));
        }"""
    )
    line.read()
    line.cut()
    until(page, "client.state === 'reconnecting'")
    page.evaluate("client.close()")
    until(page, "failure")
    assert page.evaluate("failure") == ["closed", True]


@pytest.mark.parametrize(("code", "is_unknown"), [("internal", True), ("denied", False)])
def test_a_refusal_says_whether_the_outcome_is_known(
    page: Page, server: ScriptedServer, code: str, is_unknown: bool
) -> None:
    """After `internal` the write may have been stored; the other codes mean that it was not."""
    line = connected(page, server)
    page.evaluate(
        """() => {
            window.failure = null;
            client.stream('posts').delete(1).catch((error) => (failure = error.outcomeUnknown));
        }"""
    )
    line.refuse(line.read(), code)
    until(page, "failure !== null")
    assert page.evaluate("failure") is is_unknown
