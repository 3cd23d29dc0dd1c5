"""The JavaScript client of Channels 1.x, which works unmodified."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from playwright.sync_api import Page

from example_site.example.models import IntegerValue
from tests.browser.pages import log_in, make_user
from tests.json_types import JSONObject
from tests.servers import DjangoServer

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
  const bridge = new modules["django-channels"].WebSocketBridge();
  window.heard = [];
  window.bridge = bridge;
  bridge.connect(url);
  bridge.listen();
  bridge.demultiplex("intval", (payload, stream) => window.heard.push({ payload, stream }));
  return new Promise((resolve) => bridge.socket.addEventListener("open", () => resolve(true)));
}"""


def load_old_client(page: Page, path: str) -> None:
    sources = ("reconnecting-websocket-3.2.2.js", "django-channels-1.1.8.js")
    assert page.evaluate(LOADER % tuple((VENDOR / name).read_text() for name in sources), [path])


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


@pytest.mark.parametrize("path", ["/ws/bindings/", "/ws/intval/"])
def test_the_old_client_sees_every_change(page: Page, django_server: Callable[..., DjangoServer], path: str) -> None:
    """Create, update and delete in another process reach the unmodified client in the plain form of 1.x."""
    server = django_server()
    make_user("ada")
    log_in(page, server, "ada")
    load_old_client(page, path)
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


def test_the_old_client_writes(page: Page, django_server: Callable[..., DjangoServer]) -> None:
    """The unmodified client's create, update and delete requests are carried out, and it receives the changes."""
    server = django_server()
    make_user("ada")
    log_in(page, server, "ada")
    load_old_client(page, "/ws/bindings/")

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


def test_a_refused_request_without_a_ref_gets_no_frame(page: Page, django_server: Callable[..., DjangoServer]) -> None:
    """Without a ref a denied write gets no frame: the next frame of the old client is the next change."""
    server = django_server()
    page.goto(f"{server.url}/accounts/login/")
    load_old_client(page, "/ws/bindings/")
    page.evaluate("() => window.bridge.stream('intval').send({action: 'create', data: {name: 'x', value: 1}})")
    IntegerValue.objects.create(name="allowed", value=2)
    heard = wait_heard(page, 1)
    assert [entry["payload"]["data"]["name"] for entry in heard] == ["allowed"]
    assert not IntegerValue.objects.filter(name="x").exists()
