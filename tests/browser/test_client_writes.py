"""The JavaScript client: writes and their replies."""

from __future__ import annotations

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
