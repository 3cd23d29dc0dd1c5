"""The JavaScript client of Channels 1.x, which works unmodified, and `declbind/channels.js`, which takes its place."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from playwright.sync_api import Page

from example_site.example.models import IntegerValue
from tests.browser.pages import log_in, make_user
from tests.browser.scripted_server import ScriptedServer, server, until
from tests.json_types import JSONObject
from tests.servers import DjangoServer

__all__ = ["server"]

VENDOR = Path(__file__).parent / "vendor"
PLAIN_KEYS = {"action", "pk", "data", "model"}

# The package is CommonJS: provide `require`, then record the calls of its `intval` stream.
LOADER = """([url]) => {
  const modules = {};
  const define = (name, factory) => {
    const module = { exports: {} };
    factory(module, module.exports, (wanted) => modules[wanted]);
    modules[name] = module.exports;
  };
  define("reconnecting-websocket", function (module, exports, require) { %s });
  define("django-channels", function (module, exports, require) { %s });
  return (%s)(modules["django-channels"].WebSocketBridge, url);
}"""
OWN = """async ([url]) => (%s)((await import('/static/declbind/channels.js')).WebSocketBridge, url)"""
#: Connects a bridge and notes what it hears.
USE = """(WebSocketBridge, url) => {
  const bridge = new WebSocketBridge();
  window.heard = [];
  window.bridge = bridge;
  bridge.connect(url, undefined, { minReconnectionDelay: 50 });
  bridge.listen((message, stream) => window.heard.push({ message, stream }));
  bridge.demultiplex("intval", (payload, stream) => window.heard.push({ payload, stream }));
  return new Promise((resolve) => bridge.socket.addEventListener("open", () => resolve(true)));
}"""


def load_old_client(page: Page, path: str) -> None:
    sources = ("reconnecting-websocket-3.2.2.js", "django-channels-1.1.8.js")
    assert page.evaluate(LOADER % (*((VENDOR / name).read_text() for name in sources), USE), [path])


def load_own_bridge(page: Page, path: str) -> None:
    assert page.evaluate(OWN % USE, [path])


Load = Callable[[Page, str], None]
bridges = pytest.mark.parametrize("load", [load_old_client, load_own_bridge])


def wait_heard(page: Page, count: int) -> list[JSONObject]:
    """Return the arguments of the stream's callback once there are `count` calls."""
    heard = page.evaluate(
        """(count) => new Promise((resolve, reject) => {
          const give_up = setTimeout(() => reject(new Error(JSON.stringify(window.heard))), 10000);
          const look = () => {
            if (window.heard.length < count) return setTimeout(look, 20);
            clearTimeout(give_up);
            resolve(JSON.stringify(window.heard));
          };
          look();
        })""",
        count,
    )
    return list(json.loads(heard))


@bridges
@pytest.mark.parametrize("path", ["/ws/bindings/", "/ws/intval/"])
def test_the_old_client_sees_every_change(
    page: Page, django_server: Callable[..., DjangoServer], load: Load, path: str
) -> None:
    """Create, update and delete in another process reach the unmodified client in the plain form of 1.x."""
    server = django_server(env={"DEBUG": "1"})
    make_user("ada")
    log_in(page, server, "ada")
    load(page, path)
    row = IntegerValue.objects.create(name="fifty", value=50)
    row.value = 51
    row.save()
    pk = row.pk
    row.delete()

    heard = wait_heard(page, 3)
    assert [entry["payload"]["action"] for entry in heard] == ["create", "update", "delete"]
    assert all(set(entry["payload"]) == PLAIN_KEYS and entry["stream"] == "intval" for entry in heard)
    assert heard[1]["payload"] == {
        "action": "update",
        "pk": pk,
        "data": {"name": "fifty", "value": 51},
        "model": "example.integervalue",
    }


@bridges
def test_the_old_client_writes(page: Page, django_server: Callable[..., DjangoServer], load: Load) -> None:
    """The unmodified client's create, update and delete requests are carried out, and it receives the changes."""
    server = django_server(env={"DEBUG": "1"})
    make_user("ada")
    log_in(page, server, "ada")
    load(page, "/ws/bindings/")

    def send(payload: Mapping[str, object]) -> None:
        page.evaluate("(payload) => window.bridge.stream('intval').send(payload)", payload)

    send({"action": "create", "data": {"name": "new", "value": 1}})
    pk = wait_heard(page, 1)[0]["payload"]["pk"]
    assert IntegerValue.objects.get().name == "new"
    send({"action": "update", "pk": pk, "data": {"value": 2}})
    assert wait_heard(page, 2)[1]["payload"]["data"] == {"name": "new", "value": 2}
    assert IntegerValue.objects.get().value == 2
    send({"action": "delete", "pk": pk})
    assert wait_heard(page, 3)[2]["payload"]["action"] == "delete"
    assert not IntegerValue.objects.exists()


@bridges
def test_a_refused_request_without_a_ref_gets_no_frame(
    page: Page, django_server: Callable[..., DjangoServer], load: Load
) -> None:
    """Without a ref a denied write gets no frame: the next frame of the old client is the next change."""
    server = django_server(env={"DEBUG": "1"})
    page.goto(f"{server.url}/accounts/login/")
    load(page, "/ws/bindings/")
    page.evaluate("() => window.bridge.stream('intval').send({action: 'create', data: {name: 'x', value: 1}})")
    IntegerValue.objects.create(name="allowed", value=2)
    heard = wait_heard(page, 1)
    assert [entry["payload"]["data"]["name"] for entry in heard] == ["allowed"]
    assert not IntegerValue.objects.filter(name="x").exists()


# Connections --------------------------------------------------------------------------------------------------------


@bridges
def test_a_lost_connection_is_replaced(page: Page, server: ScriptedServer, load: Load) -> None:
    """The listeners stay: those of streams, of other messages, and of the socket's events."""
    load(page, "/ws/bindings/")
    line = server.next_line()
    assert line.socket.request is not None
    assert line.socket.request.path == "/ws/bindings/"
    page.evaluate(
        """() => {
            window.events = [];
            for (const type of ['open', 'close', 'message']) {
                bridge.socket.addEventListener(type, ({ code, data }) => events.push([type, code ?? data ?? null]));
            }
        }"""
    )
    line.cut(1012)
    line = server.next_line()
    until(page, "events.some(([type]) => type === 'open')")
    line.send({"action": "create", "pk": 1}, stream="intval")
    line.send({"action": "create", "pk": 2}, stream="other")
    line.socket.send('{"hello": 1}')
    assert wait_heard(page, 2) == [
        {"payload": {"action": "create", "pk": 1}, "stream": "intval"},
        {"message": {"hello": 1}, "stream": None},
    ]
    assert page.evaluate("events.slice(0, 2)") == [["close", 1012], ["open", None]]
    assert page.evaluate("events.at(-1)") == ["message", '{"hello": 1}']
    page.evaluate("bridge.send({ hi: 1 })")
    assert line.read() == {"hi": 1}


@bridges
@pytest.mark.parametrize("is_kept", [True, False])
def test_a_connection_that_the_page_closes(page: Page, server: ScriptedServer, load: Load, is_kept: bool) -> None:
    """It is opened again, unless the page says that it stays closed."""
    load(page, "/ws/bindings/")
    server.next_line()
    page.evaluate("(keepClosed) => bridge.socket.close(1000, '', { keepClosed })", is_kept)
    if is_kept:
        page.evaluate("new Promise((done) => setTimeout(done, 500))")
        assert server.lines.empty()
    else:
        server.next_line()
        until(page, "bridge.socket.readyState === WebSocket.OPEN")


@bridges
def test_the_attempts_end_after_the_given_number(page: Page, server: ScriptedServer, load: Load) -> None:
    """With `maxRetries` a page that is left open does not go on for ever."""
    load(page, "/ws/bindings/")
    server.next_line().cut()
    server.next_line()
    page.evaluate(
        """() => new Promise((resolve) => {
            const other = new bridge.constructor();
            other.connect('ws://127.0.0.1:1/', undefined, { minReconnectionDelay: 10, maxRetries: 2 });
            window.failures = 0;
            other.socket.addEventListener('close', () => (failures += 1));
            setTimeout(resolve, 1500);
        })"""
    )
    assert page.evaluate("failures") == 3
