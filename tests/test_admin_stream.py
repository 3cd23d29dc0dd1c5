"""The push of the live page: the same rows as polls give, over each kind of server, and its end."""

from __future__ import annotations

import asyncio
import http.client
import json
import sys
from contextlib import closing

import pytest
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth.models import Permission, User
from django.core.asgi import get_asgi_application
from django.test import AsyncClient, Client
from django.utils import timezone

from admin_ui.traffic import stream
from admin_ui.traffic.wanted import Wanted
from admin_ui.traffic.window import Window
from declbind.live.hub import get_hub
from declbind.models import Event, Node, Traffic, Watch
from declbind.outbound import relay
from tests.console_forms import LIST
from tests.json_types import JSONObject
from tests.live import in_thread
from tests.servers import DjangoServer

LIVE, STREAM, ROWS = f"{LIST}live/", f"{LIST}live/stream/", f"{LIST}live/rows/"
PATIENCE = 20.0

pytestmark = pytest.mark.django_db(transaction=True)


def make_watcher(name="watcher"):
    user = User.objects.create_user(name, password="x", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_traffic"))
    return user


def cursor_now():
    # Creating the viewer is an event too.
    relay.run_once("default")
    return str(Window(Wanted()).cursor)


def add_event(**values):
    event = Event.objects.create(
        **{"stream": "posts", "model": "blog.post", "object_pk": "7", "changes": '[["blog-1","update"]]',
           "data": '{"title": "secret"}', "created_at": timezone.now(), **values}
    )  # fmt: skip
    relay.run_once("default")
    relay.ring("default")
    return event


class Reader:
    """A reader of server-sent events from an endless answer."""

    def __init__(self, lines):
        self._lines = lines

    def until(self, is_wanted):
        """Return the first wanted event: its name, data and id."""
        said: JSONObject = {}
        for line in self._lines:
            if not line:
                if said and is_wanted(said):
                    return said
                said = {}
            elif ":" in line:
                name, _, value = line.partition(": ")
                said[name] = json.loads(value) if name == "data" else value
        raise AssertionError("the stream ended")


def tells(key):
    return lambda said: any(row["key"] == key for row in said.get("data", {}).get("rows", ()))


# Servers --------------------------------------------------------------------------------------------------------------


class WsgiServer(DjangoServer):
    """Serve the site by Django's own WSGI server."""

    def command(self):
        options = ["--noreload", "--insecure", f"127.0.0.1:{self.port}"]
        return [sys.executable, "-m", "django", "runserver", *options]


def session_of(user):
    client = Client()
    client.force_login(user)
    return {"Cookie": f"sessionid={client.cookies['sessionid'].value}"}


def open_stream(server, headers, cursor):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.request("GET", f"{STREAM}?cursor={cursor}", headers=headers)
    return connection, connection.getresponse()


@pytest.mark.parametrize("program", ["uvicorn", "daphne"])
def test_rows_are_pushed_at_once(program, django_server):
    """The server does not buffer the rows, the ids allow resuming, and a disconnected client is released."""
    server = django_server(program=program)
    headers = session_of(make_watcher())
    cursor = cursor_now()
    connection, answer = open_stream(server, headers, cursor)
    with closing(connection):
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert "no-store" in answer.headers["Cache-Control"]
        reader = Reader(line.decode().rstrip("\n") for line in answer)
        first = add_event()
        said = reader.until(tells(f"e{first.pk}"))
        assert "secret" not in json.dumps(said["data"]["rows"])
        second = add_event()
        reader.until(tells(f"e{second.pk}"))
        refused = Traffic.objects.create(at=timezone.now(), kind=Traffic.REFUSED, outcome="denied")
        reader.until(tells(f"t{refused.pk}"))
    # The connection broke after the first row: the browser sends the last id it received.
    connection, answer = open_stream(server, {**headers, "Last-Event-ID": said["id"]}, cursor)
    with closing(connection):
        said = Reader(line.decode().rstrip("\n") for line in answer).until(tells(f"e{second.pk}"))
        # An event that was shown before it had its number is sent again with it.
        keys = {row["key"] for row in said["data"]["rows"]} - {f"e{first.pk}"}
        assert keys == {f"e{second.pk}", f"t{refused.pk}"}


def test_a_wsgi_site_is_polled(django_server, server_env):
    """The server reports that it cannot push. The page does not try, and polls give the same rows."""
    headers = session_of(make_watcher())
    with WsgiServer(env={**server_env, "DEBUG": "1"}) as server:
        cursor = cursor_now()
        event = add_event()
        connection, answer = open_stream(server, headers, cursor)
        with closing(connection):
            assert answer.status == 406
            answer.read()
            connection.request("GET", LIVE, headers=headers)
            assert 'data-stream=""' in connection.getresponse().read().decode()
            connection.request("GET", f"{ROWS}?cursor={cursor}", headers=headers)
            rows = json.loads(connection.getresponse().read())["rows"]
            assert [row["key"] for row in rows] == [f"e{event.pk}"]


# In this process ----------------------------------------------------------------------------------------------------


class Stream:
    """A stream of this process, read event by event."""

    def __init__(self, answer):
        self.chunks = aiter(answer.streaming_content)

    async def next(self):
        """Return the next event: its name and data."""
        async with asyncio.timeout(PATIENCE):
            while True:
                lines = (await anext(self.chunks)).decode().strip().split("\n")
                said = dict(line.split(": ", 1) for line in lines if ": " in line and not line.startswith(":"))
                if "event" in said:
                    return said["event"], json.loads(said["data"])

    async def until(self, name, is_wanted=lambda data: True):
        while True:
            event, data = await self.next()
            if event == name and is_wanted(data):
                return data

    async def close(self):
        await self.chunks.aclose()


async def open_here(user, **query):
    client = AsyncClient()
    await in_thread(client.force_login, user)
    answer = await client.get(STREAM, {"cursor": await in_thread(cursor_now), **query})
    assert answer.status_code == 200
    return client, Stream(answer)


@pytest.mark.parametrize("loss", ["right", "session", "active", "staff"])
async def test_a_stream_ends_with_the_permission_of_its_viewer(loss, monkeypatch):
    """The permission, the session, the account and the staff status are checked again; until then it continues."""
    monkeypatch.setattr(stream, "CHECK_SECONDS", 0.0)
    user = await in_thread(make_watcher)
    client, pushed = await open_here(user)
    await pushed.until("rows")
    event = await in_thread(add_event)
    await pushed.until("rows", lambda data: any(row["key"] == f"e{event.pk}" for row in data["rows"]))

    def lose():
        match loss:
            case "right":
                user.user_permissions.clear()
            case "session":
                client.session.flush()
            case "active":
                User.objects.update(is_active=False)
            case "staff":
                User.objects.update(is_staff=False)

    await in_thread(lose)
    await pushed.until("over")
    with pytest.raises(StopAsyncIteration):
        await anext(pushed.chunks)


async def test_a_stream_leaves_nothing_behind():
    """Its listener is removed when the server reports that the client has disconnected."""
    headers = await in_thread(lambda: session_of(make_watcher()))
    scope = {
        "type": "http", "method": "GET", "path": STREAM, "scheme": "http", "server": ("testserver", 80),
        "query_string": f"cursor={await in_thread(cursor_now)}".encode(),
        "headers": [(b"host", b"testserver"), (b"cookie", headers["Cookie"].encode())],
    }  # fmt: skip
    await get_hub()
    before = set(relay._listeners)
    server = ApplicationCommunicator(get_asgi_application(), scope)
    await server.send_input({"type": "http.request"})
    start = await server.receive_output(PATIENCE)
    assert start["status"] == 200
    await server.receive_output(PATIENCE)
    assert len(set(relay._listeners) - before) == 1
    await server.send_input({"type": "http.disconnect"})
    await server.wait(PATIENCE)
    # A task of the loop closes an asynchronous generator that is released.
    for _ in range(100):
        await asyncio.sleep(0)
    assert set(relay._listeners) - before == set()


async def test_a_stream_holds_the_watch_and_obeys_the_filters(monkeypatch):
    """The lease is renewed for as long as the page is open."""
    monkeypatch.setattr(stream, "CHECK_SECONDS", 0.0)
    _, pushed = await open_here(await in_thread(make_watcher), stream="other")
    await pushed.until("rows")
    assert await Watch.objects.acount() == 1
    await Watch.objects.all().adelete()
    await in_thread(add_event)
    wanted = await in_thread(add_event, stream="other")
    data = await pushed.until("rows", lambda data: data["rows"])
    assert [row["key"] for row in data["rows"]] == [f"e{wanted.pk}"]
    while not await Watch.objects.aexists():
        await pushed.next()
    await pushed.close()


@pytest.mark.parametrize("is_broken", [False, True])
async def test_a_stream_is_in_the_language_of_its_viewer(is_broken, monkeypatch):
    """Its rows and charts are made in threads that know nothing of the request; without its language they are not."""
    if is_broken:
        monkeypatch.setattr(stream.Viewer, "_speak", lambda viewer, function, *args: function(*args))
    client = AsyncClient()
    await in_thread(client.force_login, await in_thread(make_watcher))
    query = {"cursor": await in_thread(cursor_now)}
    pushed = Stream(await client.get(STREAM, query, headers={"accept-language": "de"}))
    data = await pushed.until("rows", lambda data: "charts" in data)
    assert ("Pro Sekunde" in data["charts"]) is not is_broken
    await pushed.close()


async def test_a_silent_stream_sends_comments(monkeypatch):
    """A proxy closes an idle connection."""
    monkeypatch.setattr(stream, "EXTRAS_SECONDS", 1000.0)
    monkeypatch.setattr(stream, "COMMENT_SECONDS", 0.0)
    _, pushed = await open_here(await in_thread(make_watcher))
    async with asyncio.timeout(PATIENCE):
        while not (await anext(pushed.chunks)).startswith(b":"):
            pass
    await pushed.close()


def test_the_push_needs_the_permission_to_watch():
    """The permissions are those of polls; a bad cursor is refused."""
    client = Client()
    assert client.get(STREAM, {"cursor": "e:0:0"}).status_code == 403
    client.force_login(make_watcher())
    assert client.get(STREAM, {"cursor": "nonsense"}).status_code == 400
    assert client.get(STREAM, {"cursor": "e:0:0"}).status_code == 406
    assert Node.objects.count() == 0
