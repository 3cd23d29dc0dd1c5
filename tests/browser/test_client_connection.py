"""The JavaScript client: how it connects, reconnects and authenticates."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from declbind.core.frames import BATCH_PROTOCOL, PLAIN_PROTOCOL
from tests.browser.scripted_server import ScriptedServer, connected, server, until

__all__ = ["server"]


def test_default_address_is_the_page_s_own_site(page: Page, server: ScriptedServer) -> None:
    """Without an address the client connects to ws/bindings/ of the page's own host."""
    line = connected(page, server)
    assert line.socket.request is not None
    assert line.socket.request.path == "/ws/bindings/"


@pytest.mark.parametrize("code", [4401, 4403])
def test_refused_connection_is_not_retried_by_itself(page: Page, server: ScriptedServer, code: int) -> None:
    """Only the page knows of a new login, and then reports it."""
    line = connected(page, server)
    page.evaluate("write(client.stream('posts').delete(1))")
    line.read()
    line.cut(code)
    until(page, "client.state === 'refused' && result")
    assert page.evaluate("result[1]") == "refused"
    page.evaluate("dispatchEvent(new Event('online'))")
    page.evaluate("new Promise((done) => setTimeout(done, 300))")
    assert server.lines.empty()
    page.evaluate("client.reconnect()")
    server.next_line()
    until(page, "client.state === 'live'")


def test_a_client_that_an_operator_disconnected_comes_back_with_the_reason(page: Page, server: ScriptedServer) -> None:
    """The page can show the reason while the client waits to connect again."""
    line = connected(page, server, "{ baseDelay: 1 }")
    page.evaluate("client.addEventListener('state', (event) => (window.heard ??= []).push(event.detail))")
    line.cut(1012, "Maintenance at noon")
    server.next_line()
    until(page, "client.state === 'live'")
    first = page.evaluate("window.heard[0]")
    assert (first["state"], first["code"], first["reason"]) == ("reconnecting", 1012, "Maintenance at noon")


@pytest.mark.parametrize(("code", "state"), [(4403, "refused"), (4401, "refused"), (1012, "reconnecting")])
def test_the_reason_of_the_server_reaches_the_page(page: Page, server: ScriptedServer, code: int, state: str) -> None:
    """It is in the event, and in the error of a write that is given up."""
    line = connected(page, server)
    page.evaluate("client.addEventListener('state', (event) => (window.last ??= event.detail))")
    page.evaluate("() => { client.stream('posts').delete(1).catch((error) => (window.message = error.message)); }")
    line.read()
    line.cut(code, "Maintenance until noon")
    until(page, "window.last")
    assert page.evaluate("[last.state, last.code, last.reason]") == [state, code, "Maintenance until noon"]
    if state == "refused":
        until(page, "window.message?.includes('(Maintenance until noon)')")


def test_an_online_event_ends_the_delay(page: Page, server: ScriptedServer) -> None:
    """An `online` event connects at once, whatever the remaining delay."""
    line = connected(page, server)
    page.evaluate("() => { Math.random = () => 1; client.close(); open({ baseDelay: 60000, maxDelay: 60000 }); }")
    line = server.next_line()
    until(page, "client.state === 'live'")
    line.cut()
    until(page, "client.state === 'reconnecting'")
    page.evaluate("dispatchEvent(new Event('online'))")
    server.next_line()
    until(page, "client.state === 'live'")


def test_a_flooding_client_reconnects_only_after_a_long_delay(page: Page, server: ScriptedServer) -> None:
    """After 4429 not even an `online` event shortens the delay."""
    line = connected(page, server, "{ baseDelay: 1, maxDelay: 60000 }")
    line.cut(4429)
    until(page, "client.state === 'reconnecting'")
    page.evaluate("dispatchEvent(new Event('online'))")
    page.evaluate("new Promise((done) => setTimeout(done, 300))")
    assert server.lines.empty()


def test_a_client_stays_until_a_server_that_is_ending_closes_it(page: Page, server: ScriptedServer) -> None:
    """The notice does not disconnect; after the close the client resumes, and pending writes are not lost."""
    line = connected(page, server, "{ baseDelay: 1 }")
    page.evaluate("watch()")
    line.accept(7)
    line.snapshot(7, {1: {"t": "a"}})
    line.tagged(0, {"action": "moving"}, stream="", group="")
    line.change(8, "update", 1, {"t": "b"})
    until(page, "rows()[0]?.[1] === 'b'")
    assert line.silent()
    assert page.evaluate("client.state") == "live"
    line.cut(1012)
    assert server.next_line().accept(9)["since"] == {"epoch": "e1", "offset": 8, "resume": "proof-7"}


@pytest.mark.parametrize(
    ("code", "is_announced", "bound"),
    [(1012, True, 1000), (1012, False, 8000), (1013, False, 8000), (1011, False, 1000)],
)
def test_clients_that_are_closed_together_reconnect_at_different_times(
    page: Page, server: ScriptedServer, code: int, is_announced: bool, bound: int
) -> None:
    """The random delay is longer if the server has not spread its clients itself, or is not ready for them."""
    line = connected(page, server, "{ baseDelay: 1000 }")
    page.evaluate(
        "Math.random = () => 0.999; client.addEventListener('state', (event) => (window.last = event.detail))"
    )
    if is_announced:
        page.evaluate("client.addEventListener('frame', (event) => (window.heard = event.detail))")
        line.tagged(0, {"action": "moving"}, stream="", group="")
        line.send({"action": "create"})
        until(page, "window.heard?.payload.action === 'create'")
    line.cut(code)
    until(page, "window.last?.retryIn !== undefined")
    assert page.evaluate("window.last.retryIn") == pytest.approx(bound * 0.999)


# Tokens ---------------------------------------------------------------------------------------------------------------


#: A page whose server gives the tokens t1, t2, ... one after the other.
FRESH = "{ token: async () => 't' + (window.count = (window.count ?? 0) + 1), %s }"


@pytest.mark.parametrize(("batch", "protocol"), [("true", BATCH_PROTOCOL), ("false", PLAIN_PROTOCOL)])
@pytest.mark.parametrize("token", ["'t1'", "() => 't1'", "async () => 't1'"])
def test_a_token_is_sent_as_a_subprotocol(
    page: Page, server: ScriptedServer, token: str, batch: str, protocol: str
) -> None:
    """A page cannot set other headers; another subprotocol precedes it, which the server chooses."""
    line = connected(page, server, f"{{ token: {token}, batch: {batch} }}")
    assert line.offered() == [protocol, "declbind.token.t1"]


def test_a_newer_token_is_sent_before_the_present_one_ends(page: Page, server: ScriptedServer) -> None:
    """The connection and its subscriptions stay."""
    line = connected(page, server, FRESH % "")
    page.evaluate("watch()")
    line.accept(7)
    line.snapshot(7, {1: {"t": "a"}})
    line.send({"action": "expiring", "seconds": 1}, stream="", group="", offset=0)
    request = line.read()
    assert request["payload"] == {"action": "authenticate", "token": "t2", "ref": request["payload"]["ref"]}
    line.reply(request, seconds=300)
    line.change(8, "update", 1, {"t": "b"})
    until(page, "rows()[0]?.[1] === 'b'")
    assert page.evaluate("client.state") == "live"


def test_a_token_that_ends_is_followed_by_a_fresh_one(page: Page, server: ScriptedServer) -> None:
    """After 4401 the client connects again by itself, once; if the fresh token is refused too, it gives up."""
    line = connected(page, server, FRESH % "")
    line.cut(4401)
    line = server.next_line()
    assert line.offered()[-1] == "declbind.token.t2"
    until(page, "client.state === 'live'")
    line.cut(4401)
    until(page, "client.state === 'refused'")
    page.evaluate("client.reconnect()")
    assert server.next_line().offered()[-1] == "declbind.token.t3"


def test_a_constant_token_is_not_tried_again(page: Page, server: ScriptedServer) -> None:
    """There is no other token."""
    line = connected(page, server, "{ token: 't1' }")
    line.send({"action": "expiring", "seconds": 0}, stream="", group="", offset=0)
    assert line.silent()
    line.cut(4401)
    until(page, "client.state === 'refused'")


def test_a_page_that_has_no_token_yet_tries_later(page: Page, server: ScriptedServer) -> None:
    """The page gets the reason, and the delay is that of a lost connection."""
    page.evaluate(
        """() => {
            let count = 0;
            open({ token: async () => { if (++count < 3) throw new Error('offline'); return `t${count}`; } });
            client.addEventListener('error', (event) => log.push([event.detail.code, event.detail.message]));
        }"""
    )
    assert server.next_line().offered()[-1] == "declbind.token.t3"
    errors = page.evaluate("log.filter(([kind]) => kind === 'token')")
    assert errors == [["token", "There is no token to go on with: offline"]] * 2


def test_a_token_that_arrives_after_the_close_opens_no_connection(page: Page, server: ScriptedServer) -> None:
    """The client was closed while the page fetched it."""
    page.evaluate("open({ token: () => new Promise((resolve) => (window.answer = resolve)) })")
    page.evaluate("client.close()")
    page.evaluate("answer('t1')")
    page.evaluate("new Promise((done) => setTimeout(done, 100))")
    assert server.lines.empty()
    assert page.evaluate("client.state") == "closed"


# Authenticating later -----------------------------------------------------------------------------------------------

#: Authenticates with the tokens u1, u2, ... and stores the outcome.
AUTHENTICATE = """() => {
    window.fetched = 0;
    write(client.authenticate(async () => 'u' + (fetched += 1)));
}"""


def test_an_open_connection_is_authenticated_and_stays(page: Page, server: ScriptedServer) -> None:
    """The promise waits for the server, and the function is called again before its token ends."""
    line = connected(page, server)
    page.evaluate("watch()")
    line.accept(7)
    line.snapshot(7, {1: {"t": "a"}})
    page.evaluate(AUTHENTICATE)
    request = line.read()
    assert request["payload"] == {"action": "authenticate", "token": "u1", "ref": request["payload"]["ref"]}
    assert page.evaluate("result") is None
    line.reply(request, seconds=300)
    until(page, "result")
    assert page.evaluate("[result[0], client.state, sub.state]") == ["ok", "live", "live"]
    line.send({"action": "expiring", "seconds": 1}, stream="", group="", offset=0)
    renewal = line.read()
    assert renewal["payload"]["token"] == "u2"
    line.reply(renewal, seconds=300)
    line.cut()
    assert server.next_line().offered()[-1] == "declbind.token.u3"


def test_a_refused_token_rejects(page: Page, server: ScriptedServer) -> None:
    """The page learns the code. The connection stays as it was, and later ones do not begin with that token."""
    line = connected(page, server, "{ token: 't1' }")
    page.evaluate(AUTHENTICATE)
    line.refuse(line.read(), "denied")
    until(page, "result")
    assert page.evaluate("[result[1], client.state]") == ["denied", "live"]
    line.cut()
    assert server.next_line().offered()[-1] == "declbind.token.t1"


def test_a_token_that_cannot_be_fetched_rejects(page: Page, server: ScriptedServer) -> None:
    line = connected(page, server)
    page.evaluate("write(client.authenticate(async () => { throw new Error('no'); }))")
    until(page, "result")
    assert page.evaluate("result[1]") == "token"
    assert line.silent()


def test_a_refused_client_connects_again_with_its_token(page: Page, server: ScriptedServer) -> None:
    """After the end of a session, no other call is needed."""
    line = connected(page, server)
    line.cut(4401)
    until(page, "client.state === 'refused'")
    page.evaluate(AUTHENTICATE)
    assert server.next_line().offered()[-1] == "declbind.token.u1"
    until(page, "client.state === 'live' && result")


def test_a_connection_that_is_lost_meanwhile_begins_with_the_token(page: Page, server: ScriptedServer) -> None:
    """The promise does not stay open for ever."""
    line = connected(page, server)
    page.evaluate(AUTHENTICATE)
    line.read()
    line.cut()
    assert server.next_line().offered()[-1] == "declbind.token.u2"
    until(page, "result")
    assert page.evaluate("result[0]") == "ok"


def test_a_flooding_client_cannot_authenticate_early(page: Page, server: ScriptedServer) -> None:
    """The delay after 4429 stays; the next connection begins with the token."""
    line = connected(page, server, "{ baseDelay: 1, maxDelay: 60000 }")
    line.cut(4429)
    until(page, "client.state === 'reconnecting'")
    page.evaluate(AUTHENTICATE)
    until(page, "result")
    assert server.lines.empty()


def test_close_ends_everything(page: Page, server: ScriptedServer) -> None:
    line = connected(page, server)
    page.evaluate("watch()")
    line.accept(7)
    line.snapshot(7, {})
    until(page, "sub.state === 'live'")
    page.evaluate("write(client.stream('posts').delete(1)); client.close()")
    until(page, "result")
    assert page.evaluate("[client.state, sub.state, result[1]]") == ["closed", "closed", "closed"]
    assert server.lines.empty()
