"""The JavaScript client against a server whose every frame the test writes.

The wire protocol is the contract. Situations that are rare with a real server (a lost reply, a disconnect between
two pages of a snapshot) are produced here on purpose.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from declbind.core.frames import BATCH_PROTOCOL, PLAIN_PROTOCOL
from declbind.serializers import encode_key

MODULE = Path(__file__).parents[2] / "declbind" / "static" / "declbind" / "declbind.js"
PAGE = "<!doctype html><title>client</title><link rel=icon href='data:,'>"
WAIT = 10


class Line:
    """One accepted socket, seen from the server."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.over = threading.Event()

    def read(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(self.socket.recv(timeout=WAIT))
        return frame

    def silent(self, seconds: float = 0.4) -> bool:
        """Return whether the client sends nothing for a while."""
        try:
            self.socket.recv(timeout=seconds)
        except TimeoutError:
            return True
        return False

    def send(self, payload: dict[str, Any], stream: str = "posts", **envelope: Any) -> None:
        self.socket.send(json.dumps({"stream": stream, "payload": payload, **envelope}))

    def tagged(self, offset: int, payload: dict[str, Any], group: str = "blog-3", **envelope: Any) -> None:
        self.send(payload, group=group, offset=offset, **envelope)

    def change(self, offset: int, action: str, pk: Any, data: dict[str, Any]) -> None:
        self.tagged(offset, {"action": action, "pk": pk, "data": data, "model": "blog.post"})

    def snapshot(self, offset: int, rows: dict[Any, dict[str, Any]], *, final: bool = True) -> None:
        objects = [{"pk": pk, "data": data} for pk, data in rows.items()]
        self.tagged(offset, {"action": "snapshot", "model": "blog.post", "objects": objects, "final": final})

    def reply(self, request: dict[str, Any], **result: Any) -> None:
        self.send({"action": "reply", "ref": request["payload"]["ref"], "ok": True, **result})

    def refuse(self, request: dict[str, Any], code: str, **more: Any) -> None:
        error = {"code": code, "message": code, **more}
        self.send({"action": "reply", "ref": request["payload"]["ref"], "ok": False, "error": error})

    def accept(self, offset: int, epoch: str = "e1", group: str = "blog-3") -> dict[str, Any]:
        """Answer the next subscribe request; return its payload.

        The proof for a later ``since`` names the offset of the reply.
        """
        request = self.read()
        self.reply(request, group=group, epoch=epoch, offset=offset, resume=f"proof-{offset}")
        payload: dict[str, Any] = request["payload"]
        return payload

    def offered(self) -> list[str]:
        """Return the subprotocols that the client has offered."""
        assert self.socket.request is not None
        return [name.strip() for name in self.socket.request.headers["Sec-WebSocket-Protocol"].split(",")]

    def cut(self, code: int = 1011) -> None:
        self.socket.close(code)
        self.over.set()


class ScriptedServer:
    """A server for the module and an empty page, which passes each socket to the test."""

    def __init__(self) -> None:
        self.lines: queue.Queue[Line] = queue.Queue()
        self.open: list[Line] = []
        self.server: Server = serve(
            self.handle,
            "127.0.0.1",
            0,
            process_request=self.respond,
            subprotocols=[Subprotocol(BATCH_PROTOCOL), Subprotocol(PLAIN_PROTOCOL)],
        )
        self.port: int = self.server.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def respond(self, connection: ServerConnection, request: Request) -> Response | None:
        if "websocket" in request.headers.get("Upgrade", "").lower():
            return None
        script = request.path.endswith(".js")
        body = MODULE.read_bytes() if script else PAGE.encode()
        kind = "text/javascript" if script else "text/html"
        headers = Headers({"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"})
        return Response(HTTPStatus.OK.value, "OK", headers, body)

    def handle(self, socket: ServerConnection) -> None:
        line = Line(socket)
        self.open.append(line)
        self.lines.put(line)
        line.over.wait()

    def next_line(self) -> Line:
        return self.lines.get(timeout=WAIT)

    def stop(self) -> None:
        for line in self.open:
            line.over.set()
        self.server.shutdown()
        self.thread.join(WAIT)


@pytest.fixture
def server(page: Any) -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    page.goto(f"http://127.0.0.1:{server.port}/")
    page.evaluate(
        """async () => {
            Object.assign(window, await import('/declbind.js'));
            window.log = [];
            window.open = (options) => {
                window.client = connect(undefined, { baseDelay: 20, timeout: 5000, ...options });
                client.addEventListener('state', (event) => log.push(['client', event.detail.state]));
            };
            window.watch = (options = {}, params = { blog_id: 3 }) => {
                window.sub = client.stream('posts').subscribe(params, options);
                sub.addEventListener('state', (event) => log.push(['state', event.detail.state]));
                sub.addEventListener('change', ({ detail: { action, pk, previous } }) => {
                    log.push([action, pk, previous?.t ?? null]);
                });
                sub.addEventListener('closed', (event) => log.push(['closed', event.detail.reason]));
                sub.addEventListener('error', (event) => log.push(['error', event.detail.code]));
                return sub;
            };
            window.rows = () => [...sub.rows].map(([pk, data]) => [pk, data.t]);
            window.write = (promise) => {
                window.result = null;
                promise.then(
                    (reply) => (result = ['ok', reply]),
                    (error) => (result = ['error', error.code, error.fields, error instanceof DeclbindError]),
                );
            };
        }"""
    )
    yield server
    page.goto("about:blank")
    server.stop()


def until(page: Any, expression: str) -> None:
    page.wait_for_function(expression, timeout=WAIT * 1000)


def connected(page: Any, server: ScriptedServer, options: str = "{}") -> Line:
    page.evaluate(f"open({options})")
    line = server.next_line()
    until(page, "client.state === 'live'")
    return line


def test_default_address_is_the_page_s_own_site(page: Any, server: ScriptedServer) -> None:
    """Without an address the client connects to ws/bindings/ of the page's own host."""
    line = connected(page, server)
    assert line.socket.request is not None
    assert line.socket.request.path == "/ws/bindings/"


def test_snapshot_appears_at_once_when_its_last_page_is_there(page: Any, server: ScriptedServer) -> None:
    """Pages are held back until the final one, and number and text keys keep their type."""
    line = connected(page, server)
    page.evaluate("watch()")
    payload = line.accept(7)
    assert payload == {
        "action": "subscribe",
        "params": {"blog_id": 3},
        "snapshot": True,
        "ref": payload["ref"],
    }
    line.snapshot(7, {1: {"t": "a"}}, final=False)
    page.evaluate("new Promise((done) => setTimeout(done, 100))")
    assert page.evaluate("[rows(), sub.state]") == [[], "subscribing"]
    line.snapshot(7, {"x": {"t": "b"}} | {2: {"t": "c"}})
    until(page, "sub.state === 'live'")
    assert sorted(page.evaluate("rows()"), key=str) == sorted([[1, "a"], ["x", "b"], [2, "c"]], key=str)


@pytest.mark.parametrize("encode", [encode_key, str], ids=["exact", "as numbers"])
def test_rows_with_large_keys_are_distinguished(page: Any, server: ScriptedServer, encode: Any) -> None:
    """Two keys that are one number to JavaScript are two rows, and are returned unchanged.

    The keys as numbers are the negative control: the browser treats them as one row.
    """
    line = connected(page, server)
    page.evaluate("watch()")
    line.accept(7)
    rows = ",".join(f'{{"pk":{encode(2**53 + n)},"data":{{"t":"{n}"}}}}' for n in (0, 1))
    payload = f'{{"action":"snapshot","model":"blog.post","objects":[{rows}],"final":true}}'
    line.socket.send(f'{{"stream":"posts","group":"blog-3","offset":7,"payload":{payload}}}')
    until(page, "sub.state === 'live'")
    page.evaluate("write(client.stream('posts').update([...sub.rows.keys()].at(-1), { t: 'x' }))")
    is_exact = encode is encode_key
    assert page.evaluate("sub.rows.size") == (2 if is_exact else 1)
    assert (int(line.read()["payload"]["pk"]) == 2**53 + 1) is is_exact


def test_changes_are_applied_once(page: Any, server: ScriptedServer) -> None:
    """Create, update and delete change the rows; a frame with a known offset has no effect."""
    line = connected(page, server)
    page.evaluate("watch()")
    line.accept(7)
    line.snapshot(7, {1: {"t": "a"}})
    line.change(7, "update", 1, {"t": "in the snapshot already"})
    line.change(8, "create", 2, {"t": "b"})
    line.change(9, "update", 1, {"t": "a2"})
    line.change(8, "create", 2, {"t": "again"})
    line.change(10, "update", 5, {"t": "unknown row"})
    line.change(11, "delete", 2, {})
    until(page, "log.some(([action]) => action === 'delete')")
    assert page.evaluate("rows()") == [[1, "a2"], [5, "unknown row"]]
    assert page.evaluate("log.filter(([name]) => ['create', 'update', 'delete'].includes(name))") == [
        ["create", 2, None],
        ["update", 1, "a"],
        ["update", 5, None],
        ["delete", 2, "b"],
    ]


def test_frames_of_other_groups_and_streams_are_not_mixed_in(page: Any, server: ScriptedServer) -> None:
    """A group belongs to its stream: the same name elsewhere is another group."""
    line = connected(page, server)
    page.evaluate("watch()")
    line.accept(1)
    line.snapshot(1, {})
    row = {"action": "create", "pk": 1, "data": {"t": "no"}, "model": "blog.post"}
    line.send(row, stream="posts", group="blog-4", offset=2)
    line.send(row, stream="drafts", group="blog-3", offset=3)
    line.change(4, "create", 2, {"t": "yes"})
    until(page, "rows().length")
    assert page.evaluate("rows()") == [[2, "yes"]]


def test_client_resumes_from_its_last_offset(page: Any, server: ScriptedServer) -> None:
    """After a lost connection the client resumes from its last offset, not from the head, with the latest proof."""
    line = connected(page, server)
    page.evaluate("watch()")
    line.accept(7)
    line.snapshot(7, {1: {"t": "a"}})
    line.change(8, "update", 1, {"t": "b"})
    until(page, "rows()[0]?.[1] === 'b'")
    line.cut()
    line = server.next_line()
    payload = line.accept(12)
    assert payload["since"] == {"epoch": "e1", "offset": 8, "resume": "proof-7"}
    assert "snapshot" not in payload
    line.change(10, "update", 1, {"t": "c"})
    until(page, "rows()[0]?.[1] === 'c'")
    line.cut()
    # Offsets 11 and 12 were announced by the reply and never arrived.
    assert server.next_line().accept(12)["since"] == {"epoch": "e1", "offset": 10, "resume": "proof-12"}


def test_a_snapshot_cut_in_two_is_asked_for_again(page: Any, server: ScriptedServer) -> None:
    """An incomplete snapshot cannot be resumed."""
    line = connected(page, server)
    page.evaluate("watch()")
    line.accept(7)
    line.snapshot(7, {1: {"t": "half"}}, final=False)
    line.cut()
    line = server.next_line()
    assert line.accept(9)["snapshot"] is True
    line.snapshot(9, {2: {"t": "whole"}})
    until(page, "sub.state === 'live'")
    assert page.evaluate("rows()") == [[2, "whole"]]


def test_resync_takes_a_new_snapshot(page: Any, server: ScriptedServer) -> None:
    """Rows deleted meanwhile disappear, and changes made during the snapshot are kept."""
    line = connected(page, server)
    page.evaluate("watch()")
    line.accept(7)
    line.snapshot(7, {1: {"t": "gone"}, 2: {"t": "old"}})
    until(page, "sub.state === 'live'")
    line.tagged(9, {"action": "resync", "reason": "bulk"})
    until(page, "sub.state === 'stale'")
    request = line.read()
    assert request["payload"]["snapshot"] is True
    line.change(11, "create", 3, {"t": "newer than the snapshot"})
    line.reply(request, group="blog-3", epoch="e1", offset=10)
    line.snapshot(10, {2: {"t": "new"}})
    until(page, "sub.state === 'live'")
    assert page.evaluate("rows()") == [[2, "new"], [3, "newer than the snapshot"]]


def test_resync_during_a_snapshot_asks_once_more(page: Any, server: ScriptedServer) -> None:
    """A snapshot that was in progress may be older than the resync."""
    line = connected(page, server)
    page.evaluate("watch()")
    line.accept(7)
    line.tagged(9, {"action": "resync", "reason": "config"})
    line.snapshot(7, {1: {"t": "too old"}})
    assert line.accept(9)["snapshot"] is True
    line.snapshot(9, {1: {"t": "fresh"}})
    until(page, "sub.state === 'live'")
    assert page.evaluate("rows()") == [[1, "fresh"]]


def test_another_epoch_forgets_the_old_offsets(page: Any, server: ScriptedServer) -> None:
    """Offsets of a new epoch start low, and are not treated as repetitions."""
    line = connected(page, server)
    page.evaluate("watch()")
    line.accept(700)
    line.snapshot(700, {1: {"t": "a"}})
    until(page, "sub.state === 'live'")
    line.cut()
    line = server.next_line()
    line.accept(3, epoch="e2")
    line.tagged(3, {"action": "resync", "reason": "epoch"})
    line.accept(3, epoch="e2")
    line.snapshot(3, {1: {"t": "b"}})
    line.change(4, "update", 1, {"t": "c"})
    until(page, "rows()[0]?.[1] === 'c'")


def test_closed_ends_the_subscription_and_says_why(page: Any, server: ScriptedServer) -> None:
    """Nothing is requested again, neither now nor after a reconnect."""
    line = connected(page, server)
    page.evaluate("watch()")
    line.accept(7)
    line.snapshot(7, {})
    line.tagged(8, {"action": "closed", "reason": "permission"})
    until(page, "sub.state === 'closed'")
    assert ["closed", "permission"] in page.evaluate("log")
    line.cut()
    assert server.next_line().silent()


def test_refused_subscription_rejects_ready(page: Any, server: ScriptedServer) -> None:
    """The reason of a refusal reaches both the promise and the event."""
    line = connected(page, server)
    page.evaluate("write(watch().ready)")
    line.refuse(line.read(), "denied")
    until(page, "result")
    assert page.evaluate("result[1]") == "denied"
    assert ["error", "denied"] in page.evaluate("log")


def test_rate_limited_subscription_is_tried_again(page: Any, server: ScriptedServer) -> None:
    """Many subscriptions at once may exceed the limit; each succeeds in the end."""
    line = connected(page, server)
    page.evaluate("watch()")
    line.refuse(line.read(), "rate_limited")
    line.accept(1)
    line.snapshot(1, {})
    until(page, "sub.state === 'live'")


def test_two_watchers_share_one_subscription(page: Any, server: ScriptedServer) -> None:
    """The second costs no request, and the server is notified only when both have ended."""
    line = connected(page, server)
    page.evaluate("window.first = watch()")
    line.accept(7)
    line.snapshot(7, {1: {"t": "a"}})
    until(page, "sub.state === 'live'")
    page.evaluate("watch().ready")
    assert page.evaluate("rows()") == [[1, "a"]]
    page.evaluate("first.unsubscribe()")
    line.change(8, "update", 1, {"t": "b"})
    until(page, "rows()[0][1] === 'b'")
    assert page.evaluate("first.state") == "closed"
    page.evaluate("sub.unsubscribe()")
    assert line.read()["payload"] == {"action": "unsubscribe", "params": {"blog_id": 3}}


def test_writes_are_answered_by_ref(page: Any, server: ScriptedServer) -> None:
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


def test_refused_write_carries_the_errors_of_its_fields(page: Any, server: ScriptedServer) -> None:
    line = connected(page, server)
    page.evaluate("write(client.stream('posts').create({ t: '' }))")
    line.refuse(line.read(), "invalid", fields={"t": ["This field is required."]})
    until(page, "result")
    assert page.evaluate("result") == ["error", "invalid", {"t": ["This field is required."]}, True]


def test_write_whose_reply_was_lost_is_repeated_under_the_same_key(page: Any, server: ScriptedServer) -> None:
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


def test_write_without_a_key_is_never_sent_twice(page: Any, server: ScriptedServer) -> None:
    line = connected(page, server)
    page.evaluate("write(client.stream('posts').create({ t: 'a' }, { key: null }))")
    assert "key" not in line.read()["payload"]
    line.cut()
    until(page, "result")
    assert page.evaluate("result[1]") == "disconnected"
    assert server.next_line().silent()


def test_writes_beyond_the_limit_wait_their_turn(page: Any, server: ScriptedServer) -> None:
    """No more writes are in progress than the server accepts, and their order is kept."""
    line = connected(page, server, "{ inFlight: 2 }")
    page.evaluate("() => { for (const n of [1, 2, 3]) client.stream('posts').update(n, { t: 'x' }).catch(() => {}) }")
    first = line.read()
    line.read()
    assert line.silent()
    line.reply(first, pk=1)
    assert line.read()["payload"]["pk"] == 3


def test_write_times_out(page: Any, server: ScriptedServer) -> None:
    line = connected(page, server)
    page.evaluate("write(client.stream('posts').delete(1, { timeout: 50 }))")
    line.read()
    until(page, "result")
    assert page.evaluate("result[1]") == "timeout"


@pytest.mark.parametrize("code", [4401, 4403])
def test_refused_connection_does_not_come_back_by_itself(page: Any, server: ScriptedServer, code: int) -> None:
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


def test_an_online_event_ends_the_delay(page: Any, server: ScriptedServer) -> None:
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


def test_a_flooding_client_reconnects_only_after_a_long_delay(page: Any, server: ScriptedServer) -> None:
    """After 4429 not even an `online` event shortens the delay."""
    line = connected(page, server, "{ baseDelay: 1, maxDelay: 60000 }")
    line.cut(4429)
    until(page, "client.state === 'reconnecting'")
    page.evaluate("dispatchEvent(new Event('online'))")
    page.evaluate("new Promise((done) => setTimeout(done, 300))")
    assert server.lines.empty()


def test_a_client_stays_until_a_server_that_is_ending_closes_it(page: Any, server: ScriptedServer) -> None:
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
def test_clients_that_are_closed_together_come_back_spread_out(
    page: Any, server: ScriptedServer, code: int, is_announced: bool, bound: int
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


# Tokens --------------------------------------------------------------------------------------------------------------

#: A page whose server gives the tokens t1, t2, ... one after the other.
FRESH = "{ token: async () => 't' + (window.count = (window.count ?? 0) + 1), %s }"


@pytest.mark.parametrize(("batch", "protocol"), [("true", BATCH_PROTOCOL), ("false", PLAIN_PROTOCOL)])
@pytest.mark.parametrize("token", ["'t1'", "() => 't1'", "async () => 't1'"])
def test_a_token_is_sent_as_a_subprotocol(
    page: Any, server: ScriptedServer, token: str, batch: str, protocol: str
) -> None:
    """A page cannot set other headers; another subprotocol precedes it, which the server chooses."""
    line = connected(page, server, f"{{ token: {token}, batch: {batch} }}")
    assert line.offered() == [protocol, "declbind.token.t1"]


def test_a_newer_token_is_sent_before_the_present_one_ends(page: Any, server: ScriptedServer) -> None:
    """The connection stays, and so do its subscriptions."""
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


def test_a_token_that_ends_is_followed_by_a_fresh_one(page: Any, server: ScriptedServer) -> None:
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


def test_a_token_that_is_a_text_is_not_tried_again(page: Any, server: ScriptedServer) -> None:
    """There is no other token."""
    line = connected(page, server, "{ token: 't1' }")
    line.send({"action": "expiring", "seconds": 0}, stream="", group="", offset=0)
    assert line.silent()
    line.cut(4401)
    until(page, "client.state === 'refused'")


def test_a_page_that_has_no_token_yet_tries_later(page: Any, server: ScriptedServer) -> None:
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


def test_a_token_that_comes_too_late_opens_nothing(page: Any, server: ScriptedServer) -> None:
    """The client was closed while the page fetched it."""
    page.evaluate("open({ token: () => new Promise((resolve) => (window.answer = resolve)) })")
    page.evaluate("client.close()")
    page.evaluate("answer('t1')")
    page.evaluate("new Promise((done) => setTimeout(done, 100))")
    assert server.lines.empty()
    assert page.evaluate("client.state") == "closed"


def test_plain_frames_are_received_by_stream(page: Any, server: ScriptedServer) -> None:
    """Streams that the server subscribes to by itself have no group and no offset."""
    line = connected(page, server)
    # In braces: Playwright calls an expression whose value is a function.
    page.evaluate("() => { window.heard = []; window.off = client.on('intval', (payload) => heard.push(payload.pk)); }")
    row = {"action": "update", "data": {"value": 1}, "model": "example.integervalue"}
    line.send({**row, "pk": 1}, stream="intval")
    line.send({**row, "pk": 2}, stream="other")
    until(page, "heard.length")
    page.evaluate("off()")
    line.send({**row, "pk": 3}, stream="intval")
    page.evaluate("client.addEventListener('frame', (event) => (window.last = event.detail.payload.pk))")
    line.send({**row, "pk": 4}, stream="intval")
    until(page, "window.last === 4")
    assert page.evaluate("heard") == [1]


def test_close_ends_everything(page: Any, server: ScriptedServer) -> None:
    line = connected(page, server)
    page.evaluate("watch()")
    line.accept(7)
    line.snapshot(7, {})
    until(page, "sub.state === 'live'")
    page.evaluate("write(client.stream('posts').delete(1)); client.close()")
    until(page, "result")
    assert page.evaluate("[client.state, sub.state, result[1]]") == ["closed", "closed", "closed"]
    assert server.lines.empty()
