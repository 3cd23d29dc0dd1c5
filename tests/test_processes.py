"""Edits are in force in every process without a restart: two web processes and a management command."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from declbind.models import BindingRecord
from tests.servers import DjangoServer
from tests.writer import start_writer

#: How long a reader waits for a frame; an edit itself is in force after two version checks, 2 s.
PATIENCE = 15.0


class Reader:
    """A WebSocket connection to one web process."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.frames: list[dict[str, object]] = []

    def request(self, payload: Mapping[str, Any], stream: str = "blogs") -> dict[str, Any]:
        """Send a request and return its reply; other frames are kept."""
        self.connection.send(json.dumps({"stream": stream, "payload": {**payload, "ref": 1}}))
        return self.wait(lambda payload: payload["action"] == "reply")

    def wait(self, is_wanted: Callable[[dict[str, object]], bool]) -> dict[str, object]:
        """Return the payload of the first wanted frame."""
        while True:
            payload: dict[str, object] = json.loads(self.connection.recv(PATIENCE))["payload"]
            if is_wanted(payload):
                return payload


@contextmanager
def open_reader(server: DjangoServer) -> Iterator[Reader]:
    with connect(f"{server.websocket_url}/ws/bindings/", compression=None) as connection:
        yield Reader(connection)


def wait_until(is_so: Callable[[], bool]) -> None:
    """Poll until a condition is true: an edit may need two version checks to be in force."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, "the edit did not come into force"


@pytest.fixture
def environment(server_env: dict[str, str | None]) -> dict[str, str]:
    server = DjangoServer(env=server_env)
    return dict(server.environment())


def test_an_edit_is_in_force_in_every_process(
    django_server: Callable[..., DjangoServer], environment: dict[str, str]
) -> None:
    """After adding, widening and disabling a binding, all processes have the edit, and no socket is closed."""
    first, second = django_server(), django_server()
    with start_writer(environment) as writer, open_reader(first) as here, open_reader(second) as there:
        readers = (here, there)
        writer.save("blog.Blog", title="before", slug="before")
        for reader in readers:
            assert reader.request({"action": "subscribe"})["error"]["code"] == "unknown_stream"

        record = BindingRecord.objects.create(
            stream="blogs", model="blog.Blog", fields=["title"], permissions={"view": True}
        )
        for reader in readers:
            wait_until(lambda reader=reader: reader.request({"action": "subscribe"})["ok"])  # type: ignore[misc]
        # The resync ends the time in which the writer may not have known; from then on nothing is missed.
        for reader in readers:
            assert reader.wait(lambda payload: payload["action"] == "resync")["reason"] == "config"
        pk = writer.save("blog.Blog", title="one", slug="one")
        for reader in readers:
            change = reader.wait(lambda payload: payload["action"] == "create")
            assert change == {"action": "create", "pk": pk, "data": {"title": "one"}, "model": "blog.blog"}

        record.fields = ["title", "slug"]
        record.save()
        for reader in readers:
            assert reader.wait(lambda payload: payload["action"] == "resync")["reason"] == "config"
        writer.save("blog.Blog", pk=pk, title="two")
        for reader in readers:
            assert reader.wait(lambda payload: payload["action"] == "update")["data"] == {"title": "two", "slug": "one"}

        BindingRecord.objects.filter(stream="blogs").update(enabled=False)
        for reader in readers:
            assert reader.wait(lambda payload: payload["action"] == "closed")["reason"] == "disabled"
            assert reader.request({"action": "subscribe"})["error"]["code"] == "unknown_stream"
            assert reader.request({"action": "subscribe"}, stream="intval")["ok"]
