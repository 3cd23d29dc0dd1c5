"""The JavaScript client: the rows of a group as a store, whose value is replaced and never changed."""

from __future__ import annotations

import json

from playwright.sync_api import Page

from tests.browser.scripted_server import Line, ScriptedServer, connected, server, until

__all__ = ["server"]

#: Listens to a store, and notes each value.
LISTEN = """() => {
    window.store = client.stream('posts').store({ blog_id: 3 });
    window.values = [];
    window.stop = store.subscribe((value) => values.push(value));
}"""
LATEST = "[[...values.at(-1).rows].map(([pk, data]) => [pk, data.t]), values.at(-1).state, values.at(-1).error?.code]"


def listening(page: Page, server: ScriptedServer) -> Line:
    """Return the connection of a client with a store that has a listener and its rows."""
    line = connected(page, server)
    page.evaluate(LISTEN)
    line.accept(7)
    line.snapshot(7, {1: {"t": "a"}, 2: {"t": "b"}})
    until(page, "values.at(-1).state === 'live'")
    return line


def test_a_listener_gets_the_value_at_once_and_after_each_change(page: Page, server: ScriptedServer) -> None:
    line = connected(page, server)
    page.evaluate(LISTEN)
    assert page.evaluate(LATEST) == [[], "subscribing", None]
    line.accept(7)
    line.snapshot(7, {1: {"t": "a"}})
    until(page, "values.at(-1).state === 'live'")
    assert page.evaluate(LATEST) == [[[1, "a"]], "live", None]
    line.change(8, "update", 1, {"t": "b"})
    until(page, "values.at(-1).rows.get(1).t === 'b'")
    assert page.evaluate("store.value === values.at(-1)") is True


def test_a_value_is_replaced_and_never_changed(page: Page, server: ScriptedServer) -> None:
    """A library sees by identity what has changed: the map and the row, but not the other row."""
    line = listening(page, server)
    page.evaluate("() => { window.before = values.at(-1); }")
    line.change(8, "update", 1, {"t": "A"})
    until(page, "values.at(-1) !== before")
    assert page.evaluate("before.rows.get(1).t") == "a"
    assert page.evaluate("[1, 2].map((pk) => before.rows.get(pk) === values.at(-1).rows.get(pk))") == [False, True]


def test_a_burst_is_one_value(page: Page, server: ScriptedServer) -> None:
    """Frames that the server joins are drawn once."""
    line = listening(page, server)
    page.evaluate("() => { values.length = 0; }")
    frames = [
        {
            "stream": "posts",
            "group": "blog-3",
            "offset": offset,
            "payload": {"action": "update", "pk": 1, "data": {"t": str(offset)}, "model": "blog.post"},
        }
        for offset in (8, 9, 10)
    ]
    line.socket.send(json.dumps(frames))
    until(page, "values.length")
    assert page.evaluate("values.map((value) => value.rows.get(1).t)") == ["10"]


def test_a_store_subscribes_while_it_has_listeners(page: Page, server: ScriptedServer) -> None:
    """Two listeners share a subscription, and one may stop twice. After the last one it ends, and begins anew later."""
    line = listening(page, server)
    page.evaluate("() => { window.stopSecond = store.subscribe((value) => (window.second = value)); }")
    assert page.evaluate("second.state") == "live"
    page.evaluate("() => { stop(); stop(); }")
    assert line.silent(0.2)
    page.evaluate("() => { values.length = 0; stopSecond(); }")
    assert line.read()["payload"]["action"] == "unsubscribe"
    line.change(8, "update", 1, {"t": "late"})
    page.evaluate("() => { window.stop = store.subscribe((value) => values.push(value)); }")
    assert page.evaluate(LATEST) == [[], "subscribing", None]
    line.accept(9)
    line.snapshot(9, {3: {"t": "c"}})
    until(page, "values.at(-1).state === 'live'")
    assert page.evaluate(LATEST) == [[[3, "c"]], "live", None]


def test_a_store_that_is_left_and_taken_at_once_keeps_its_rows(page: Page, server: ScriptedServer) -> None:
    """A view that is replaced draws no empty list in between."""
    line = listening(page, server)
    page.evaluate("() => { stop(); values.length = 0; window.stop = store.subscribe((value) => values.push(value)); }")
    assert line.silent()
    found = page.evaluate("values.map((value) => [value.state, value.rows.size])")
    assert found
    assert [value for value in found if value != ["live", 2]] == []


def test_a_lost_connection_is_a_value(page: Page, server: ScriptedServer) -> None:
    """The rows stay and are marked as stale."""
    line = listening(page, server)
    line.cut()
    until(page, "values.some((value) => value.state === 'stale' && value.rows.size === 2)")


def test_a_refusal_is_a_value(page: Page, server: ScriptedServer) -> None:
    line = connected(page, server)
    page.evaluate(LISTEN)
    line.refuse(line.read(), "denied")
    until(page, "values.at(-1).error")
    assert page.evaluate(LATEST) == [[], "closed", "denied"]


def test_the_end_of_a_subscription_is_a_value(page: Page, server: ScriptedServer) -> None:
    """The message of the error has the reason."""
    line = listening(page, server)
    line.tagged(8, {"action": "closed", "reason": "permission"})
    until(page, "values.at(-1).error")
    assert page.evaluate("values.at(-1).error.message") == "The subscription ended: permission."
    assert page.evaluate(LATEST)[1:] == ["closed", "closed"]


def test_a_stream_is_the_same_object_for_the_same_name(page: Page, server: ScriptedServer) -> None:
    """A view may ask for it each time that it is drawn."""
    connected(page, server)
    assert page.evaluate("client.stream('posts') === client.stream('posts')") is True
    assert page.evaluate("client.stream('posts') === client.stream('drafts')") is False
