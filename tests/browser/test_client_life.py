"""The JavaScript client in the life of a page: sleep, changing networks, clocks that jump, views that are replaced."""

from __future__ import annotations

import pytest
from playwright.sync_api import CDPSession, Page

from tests.browser.scripted_server import Line, ScriptedServer, connected, server, until

__all__ = ["server"]

#: Makes the page invisible or visible, as far as scripts can tell, and moves the clock by some seconds in between.
HIDE = """(seconds) => {
    const now = Date.now;
    const show = (state) => {
        Object.defineProperty(document, 'visibilityState', { value: state, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
    };
    show('hidden');
    Date.now = () => now() + seconds * 1000;
    show('visible');
}"""


def subscribed(page: Page, server: ScriptedServer) -> Line:
    """Return the connection of a client with a live subscription."""
    line = connected(page, server)
    page.evaluate("watch()")
    line.accept(7)
    line.snapshot(7, {1: {"t": "a"}})
    until(page, "sub.state === 'live'")
    return line


def assert_probed(page: Page, server: ScriptedServer, line: Line) -> None:
    """Check that the client asks whether the connection lives, and replaces it if no answer comes."""
    request = line.read()
    assert request["payload"]["since"] == {"epoch": "e1", "offset": 7, "resume": "proof-7"}
    later = server.next_line()
    assert later.accept(8)["since"]["offset"] == 7
    later.change(8, "update", 1, {"t": "b"})
    until(page, "rows()[0][1] === 'b'")


# Sleep ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [3600, -3600], ids=["an hour", "a clock that was set back"])
def test_a_dead_connection_is_found_after_a_long_time_in_the_background(
    page: Page, server: ScriptedServer, seconds: int
) -> None:
    """No event says that the connection has died. The clock may have been set while the page was hidden."""
    line = subscribed(page, server)
    page.evaluate(HIDE, seconds)
    assert_probed(page, server, line)


def test_a_short_time_in_the_background_costs_nothing(page: Page, server: ScriptedServer) -> None:
    """Control of the test above: the client sends nothing."""
    line = subscribed(page, server)
    page.evaluate(HIDE, 5)
    assert line.silent()


@pytest.mark.parametrize(("seconds", "is_probed"), [(3600, True), (5, False), (-3600, False)])
def test_a_machine_that_slept_with_a_visible_page_is_noticed(
    page: Page, server: ScriptedServer, seconds: int, is_probed: bool
) -> None:
    """The page gets no event, but its timer comes late. A clock that is set back is not taken for sleep."""
    page.evaluate("() => { window.setInterval = (beat) => { window.beat = beat; }; }")
    line = subscribed(page, server)
    page.evaluate("(seconds) => { const now = Date.now; Date.now = () => now() + seconds * 1000; beat(); }", seconds)
    if is_probed:
        assert_probed(page, server, line)
    else:
        assert line.silent()


def test_timers_ignore_a_clock_that_jumps(page: Page, server: ScriptedServer) -> None:
    """A write that is on its way does not time out, and a live client stays live."""
    line = connected(page, server)
    page.evaluate("write(client.stream('posts').delete(1))")
    request = line.read()
    page.evaluate("() => { const now = Date.now; Date.now = () => now() + 86_400_000; }")
    page.evaluate("new Promise((done) => setTimeout(done, 200))")
    assert page.evaluate("[client.state, result]") == ["live", None]
    line.reply(request, pk=1)
    until(page, "result")
    assert page.evaluate("result[0]") == "ok"


# Networks ---------------------------------------------------------------------------------------------------


def set_offline(session: CDPSession, is_offline: bool) -> None:
    """Take the network away from the page, or give it back. Open sockets on this machine stay as they are."""
    conditions = {"offline": is_offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    session.send("Network.emulateNetworkConditions", conditions)


@pytest.mark.parametrize("event", ["online", "offline"])
def test_a_network_that_changes_puts_the_connection_in_doubt(page: Page, server: ScriptedServer, event: str) -> None:
    """The socket may belong to the network that is gone. It is kept if it answers, and replaced if it does not."""
    line = subscribed(page, server)
    page.evaluate("(event) => dispatchEvent(new Event(event))", event)
    line.accept(7)
    page.evaluate("new Promise((done) => setTimeout(done, 200))")
    assert page.evaluate("[client.state, sub.state]") == ["live", "live"]
    page.evaluate("(event) => dispatchEvent(new Event(event))", event)
    assert_probed(page, server, line)


def test_a_network_that_comes_back_ends_the_wait(page: Page, server: ScriptedServer) -> None:
    """While the browser is offline, attempts fail. The client connects again as soon as it is online."""
    line = connected(page, server)
    page.evaluate("() => { client.close(); Math.random = () => 1; open({ baseDelay: 50, maxDelay: 60000 }); }")
    line = server.next_line()
    until(page, "client.state === 'live'")
    session = page.context.new_cdp_session(page)
    set_offline(session, True)
    line.cut()
    page.evaluate("client.addEventListener('state', (event) => (window.last = event.detail.retryIn))")
    # By then three attempts have failed.
    until(page, "window.last >= 400")
    assert server.lines.empty()
    page.evaluate("client.addEventListener('state', () => (window.changed = true))")
    set_offline(session, False)
    server.next_line()
    until(page, "client.state === 'live'")


@pytest.mark.parametrize("answers", [True, False])
def test_a_connection_without_subscriptions_is_replaced_if_it_stays_silent(
    page: Page, server: ScriptedServer, answers: bool
) -> None:
    """There is nothing to ask, so any frame counts as an answer. A write that waits for its reply is not lost."""
    line = connected(page, server, "{ timeout: 30000 }")
    page.evaluate("write(client.stream('posts').delete(1))")
    request = line.read()
    page.evaluate("dispatchEvent(new Event('offline'))")
    if answers:
        line.reply(request, pk=1)
        until(page, "result")
        page.evaluate("new Promise((done) => setTimeout(done, 5500))")
        assert server.lines.empty()
        assert page.evaluate("client.state") == "live"
    else:
        later = server.next_line()
        assert later.read() == request
        later.reply(request, pk=1)
        until(page, "result")


#: Notes in `held` which listeners and which longer timers there are.
LEDGER = """() => {
    window.held = [];
    const types = ['online', 'offline', 'pageshow', 'visibilitychange'];
    const strike = (name) => held.includes(name) && held.splice(held.indexOf(name), 1);
    const wrap = (target, name, note) => {
        const original = target[name];
        target[name] = (...args) => {
            const result = original.apply(target, args);
            note(args, result);
            return result;
        };
    };
    for (const target of [window, document]) {
        wrap(target, 'addEventListener', ([type]) => types.includes(type) && held.push(type));
        wrap(target, 'removeEventListener', ([type]) => strike(type));
    }
    for (const kind of ['Interval', 'Timeout']) {
        wrap(window, `set${kind}`, ([, delay], id) => delay > 1000 && held.push(kind + id));
        wrap(window, `clear${kind}`, ([id]) => strike(kind + id));
    }
}"""


def test_a_closed_client_leaves_nothing_behind(page: Page, server: ScriptedServer) -> None:
    """Its listeners and timers are gone, so that pages may open and close as many clients as they like."""
    page.evaluate(LEDGER)
    line = connected(page, server)
    page.evaluate("watch()")
    line.accept(7)
    line.snapshot(7, {})
    until(page, "sub.state === 'live'")
    page.evaluate("write(client.stream('posts').delete(1)); dispatchEvent(new Event('offline'))")
    held = page.evaluate("held")
    assert set(held) > {"online", "offline", "pageshow", "visibilitychange"}
    assert len([name for name in held if name.startswith("Timeout")]) >= 3
    assert len([name for name in held if name.startswith("Interval")]) == 1
    page.evaluate("client.close()")
    until(page, "result")
    assert page.evaluate("held") == []


# Views ------------------------------------------------------------------------------------------------------


def test_a_view_that_is_mounted_twice_at_once_makes_one_subscription(page: Page, server: ScriptedServer) -> None:
    """React's strict mode mounts, unmounts and mounts again in one go. The server hears of one subscription."""
    line = connected(page, server)
    page.evaluate("() => { watch(); sub.unsubscribe(); watch(); }")
    line.accept(7)
    line.snapshot(7, {1: {"t": "a"}})
    until(page, "sub.state === 'live'")
    assert line.silent()
    line.change(8, "update", 1, {"t": "b"})
    until(page, "rows()[0][1] === 'b'")
    assert page.evaluate("log.filter(([name]) => name === 'update')") == [["update", 1, "a"]]
    page.evaluate("sub.unsubscribe()")
    assert line.read()["payload"]["action"] == "unsubscribe"
    line.change(9, "update", 1, {"t": "c"})
    assert page.evaluate("rows()") == [[1, "b"]]


def test_a_view_that_replaces_another_gets_its_rows_at_once(page: Page, server: ScriptedServer) -> None:
    """A live subscription that is given up and taken again in one go stays, with its rows."""
    line = subscribed(page, server)
    page.evaluate("() => { sub.unsubscribe(); write(watch().ready.then(rows)); }")
    until(page, "result")
    assert page.evaluate("result[1]") == [[1, "a"]]
    assert line.silent()


def test_a_view_that_is_mounted_later_subscribes_anew(page: Page, server: ScriptedServer) -> None:
    """Control of the tests above: with time in between, the first subscription has ended."""
    line = subscribed(page, server)
    page.evaluate("sub.unsubscribe()")
    assert line.read()["payload"]["action"] == "unsubscribe"
    page.evaluate("watch()")
    assert line.accept(7)["snapshot"] is True
