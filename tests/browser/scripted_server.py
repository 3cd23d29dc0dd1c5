"""A server for the tests of the JavaScript client, which sends the frames that a test writes.

The wire protocol is the contract. Situations that are rare with a real server (a lost reply, a disconnect between
two pages of a snapshot) are produced here on purpose.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from declbind.core.frames import BATCH_PROTOCOL, PLAIN_PROTOCOL
from tests.json_types import JSONObject

PACKAGE = Path(__file__).parents[2] / "declbind" / "static" / "declbind"
PAGE = "<!doctype html><title>client</title><link rel=icon href='data:,'>"
WAIT = 10


class Line:
    """One accepted socket, seen from the server."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.over = threading.Event()

    def read(self) -> JSONObject:
        frame: JSONObject = json.loads(self.socket.recv(timeout=WAIT))
        return frame

    def silent(self, seconds: float = 0.4) -> bool:
        """Return whether the client sends nothing for a while."""
        try:
            self.socket.recv(timeout=seconds)
        except TimeoutError:
            return True
        return False

    def send(self, payload: JSONObject, stream: str = "posts", **envelope: object) -> None:
        self.socket.send(json.dumps({"stream": stream, "payload": payload, **envelope}))

    def tagged(self, offset: int, payload: JSONObject, group: str = "blog-3", **envelope: Any) -> None:
        self.send(payload, group=group, offset=offset, **envelope)

    def change(self, offset: int, action: str, pk: object, data: JSONObject) -> None:
        self.tagged(offset, {"action": action, "pk": pk, "data": data, "model": "blog.post"})

    def snapshot(self, offset: int, rows: dict[Any, JSONObject], *, final: bool = True) -> None:
        objects = [{"pk": pk, "data": data} for pk, data in rows.items()]
        self.tagged(offset, {"action": "snapshot", "model": "blog.post", "objects": objects, "final": final})

    def reply(self, request: JSONObject, **result: object) -> None:
        self.send({"action": "reply", "ref": request["payload"]["ref"], "ok": True, **result})

    def refuse(self, request: JSONObject, code: str, **more: object) -> None:
        error = {"code": code, "message": code, **more}
        self.send({"action": "reply", "ref": request["payload"]["ref"], "ok": False, "error": error})

    def accept(self, offset: int, epoch: str = "e1", group: str = "blog-3") -> JSONObject:
        """Answer the next subscribe request; return its payload.

        The proof for a later ``since`` names the offset of the reply.
        """
        request = self.read()
        self.reply(request, group=group, epoch=epoch, offset=offset, resume=f"proof-{offset}")
        payload: JSONObject = request["payload"]
        return payload

    def offered(self) -> list[str]:
        """Return the subprotocols that the client has offered."""
        assert self.socket.request is not None
        return [name.strip() for name in self.socket.request.headers["Sec-WebSocket-Protocol"].split(",")]

    def cut(self, code: int = 1011, reason: str = "") -> None:
        self.socket.close(code, reason)
        self.over.set()


class ScriptedServer:
    """A server for the modules of the client and a page, which passes each socket to the test.

    Args:
        page: The HTML of every path that is no module.
        modules: Other modules, by path.
    """

    def __init__(self, page: str = PAGE, modules: Mapping[str, str] | None = None) -> None:
        self.page = page
        own = {path.name: path.read_text() for path in PACKAGE.glob("*.js")}
        self.modules = {f"{root}{name}": text for root in ("/", "/static/declbind/") for name, text in own.items()}
        self.modules |= modules or {}
        self.lines: queue.Queue[Line] = queue.Queue()
        self.open: list[Line] = []
        self.server: Server = serve(
            self.handle,
            "127.0.0.1",
            0,
            process_request=self.respond,
            select_subprotocol=self.select_subprotocol,
        )
        self.port: int = self.server.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def respond(self, connection: ServerConnection, request: Request) -> Response | None:
        if "websocket" in request.headers.get("Upgrade", "").lower():
            return None
        module = self.modules.get(request.path)
        body = (self.page if module is None else module).encode()
        kind = "text/html" if module is None else "text/javascript"
        headers = Headers({"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"})
        return Response(HTTPStatus.OK.value, "OK", headers, body)

    def select_subprotocol(self, connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        """Choose as declbind does; a client of Channels 1.x offers nothing."""
        known = (Subprotocol(BATCH_PROTOCOL), Subprotocol(PLAIN_PROTOCOL))
        return next((protocol for protocol in known if protocol in offered), None)

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
def server(page: Page) -> Iterator[ScriptedServer]:
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


def until(page: Page, expression: str) -> None:
    page.wait_for_function(expression, timeout=WAIT * 1000)


def connected(page: Page, server: ScriptedServer, options: str = "{}") -> Line:
    page.evaluate(f"open({options})")
    line = server.next_line()
    until(page, "client.state === 'live'")
    return line
