"""The pages of the doctor and of the processes: problems come first, and the answer comes in time."""

from __future__ import annotations

import asyncio
import threading
import time
import urllib.request
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone

from admin_ui.pages import doctor_page
from declbind.console import doctor, ping, processes
from declbind.console.limits import limited_queries
from declbind.models import Configuration, Event, Node
from declbind.outbound import log, relay
from tests.command_runs import Ran
from tests.console_forms import LIST, POST, save, spoil, staff

pytestmark = pytest.mark.django_db

DOCTOR, PROCESSES = f"{LIST}doctor/", f"{LIST}processes/"
DEAD_LAYER = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": ["redis://127.0.0.1:1/0"]},
    }
}


def add_node(name="n1", *, age=0.0, **values):
    now = timezone.now() - timedelta(seconds=age)
    configuration = Configuration.objects.first()
    current = (
        {"generation": configuration.generation, "version": configuration.version, "digest": "d1"}
        if configuration
        else {}
    )
    return Node.objects.create(
        **{"id": name, "host": name, "pid": 7, "started_at": now, "seen_at": now, **current, **values}
    )


# Doctor -------------------------------------------------------------------------------------------------------------


def test_the_page_shows_the_findings_of_the_command(admin_client):
    """Each finding has an explanation and advice, and the worst come first."""
    bad = save(POST)
    spoil(bad, fields=["titel"])
    page = admin_client.get(DOCTOR).content.decode()
    found = Ran("doctor", "--format", "json").json["findings"]
    assert {finding["level"] for finding in found} == {"ok", "note", "bad"}
    places = [page.index(heading) for heading in ("To fix", "Worth knowing", ">Well<")]
    assert places == sorted(places)
    assert "1 of " in page
    assert "is left out: Binding" in page
    assert "Correct or disable it; <code>manage.py declbind check</code> lists all problems." in page
    assert all(f"<h3>{finding['name']}</h3>" in page for finding in found)


def test_the_page_finds_no_problem_in_a_sound_setup(admin_client):
    """Negative control: there is no problem to fix, and a button examines again."""
    page = admin_client.get(DOCTOR).content.decode()
    assert "All is well:" in page
    assert "To fix" not in page
    assert 'value="Run again"' in page


@pytest.mark.parametrize("right", ["declbind.view_traffic", "declbind.change_bindingrecord"])
def test_the_page_needs_permission_to_watch_or_to_edit(right):
    """Each of the two permissions is enough. The permission to view bindings is not."""
    assert staff(right).get(DOCTOR).status_code == 200
    viewer = staff("declbind.view_bindingrecord", name="viewer")
    assert viewer.get(DOCTOR).status_code == 403
    assert "/doctor/" not in viewer.get(LIST).content.decode()


class HungLayer:
    """A channel layer that never answers and cannot be interrupted."""

    def __init__(self):
        self.free = threading.Event()

    async def group_send(self, group, message):
        self.free.wait()


def test_a_channel_layer_that_hangs_does_not_block_the_page(admin_client, settings, monkeypatch):
    """The page reports it, and a second request starts no second thread."""
    settings.CHANNEL_LAYERS = DEAD_LAYER
    layer = HungLayer()
    monkeypatch.setattr(relay, "make_layer", lambda: layer)
    monkeypatch.setattr(ping, "SECONDS", 0.05)
    monkeypatch.setattr(ping, "GRACE_SECONDS", 0.05)
    try:
        assert "does not answer (TimeoutError: no answer within 0.1 s)" in admin_client.get(DOCTOR).content.decode()
        page = admin_client.get(DOCTOR).content.decode()
        assert "does not answer (TimeoutError: an earlier attempt is still waiting for an answer)" in page
        assert sum(thread.name == "declbind-ping" for thread in threading.enumerate()) == 1
    finally:
        layer.free.set()
    assert ping._lock.acquire(timeout=10), "the thread did not end"
    ping._lock.release()
    page = admin_client.get(DOCTOR).content.decode()
    assert "RedisPubSubChannelLayer answers." in page, "the next look tries again"


def test_skipped_examinations_are_reported(monkeypatch):
    """A skipped examination counts as a problem. With enough time all of them run."""
    findings = doctor.examine("default", 0)
    assert {finding.level for finding in findings} == {"bad"}
    assert all(finding.meaning.startswith("Not examined: ") for finding in findings)
    assert all(finding.ok for finding in doctor.examine("default", 60))


def test_a_slow_query_is_cancelled(monkeypatch):
    """PostgreSQL cancels the statement; on other databases no further one begins. The later examinations still run."""

    def look(using):
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SELECT pg_sleep(60)")
            moment = threading.Event()
            while True:
                cursor.execute("SELECT 1")
                moment.wait(0.01)

    with limited_queries("default", 60):
        pass
    monkeypatch.setattr(doctor, "_log", look)
    [finding] = doctor._guarded("log", lambda: look("default"), "default", time.monotonic() + 0.3)
    assert finding.level == "bad"
    assert finding.meaning.startswith("Could not be examined: ")
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
        if connection.vendor == "postgresql":
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone() == ("0",)


def test_the_page_limits_the_time():
    """The page passes a limit; the command passes none."""
    assert 0 < doctor_page.LIMIT_SECONDS <= 15


def test_the_ping_works_beside_a_running_event_loop(settings, redis_server):
    """An ASGI server runs an event loop, and so does a notebook."""
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [redis_server.url]},
        }
    }

    async def examine():
        ping.ping()

    asyncio.run(examine())
    settings.CHANNEL_LAYERS = DEAD_LAYER

    async def fail():
        with pytest.raises(Exception, match="onnect"):
            ping.ping()

    asyncio.run(fail())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("program", "is_up"), [("uvicorn", True), ("daphne", False)])
def test_the_doctor_works_in_an_asgi_server(django_server, redis_server, program, is_up):
    """It runs in the server's thread, with a channel layer that answers and with one that does not."""
    url = redis_server.url if is_up else "redis://127.0.0.1:1/0"
    server = django_server(program=program, env={"CHANNEL_LAYER_URL": url})
    client = Client()
    client.force_login(User.objects.create_superuser("operator", password="x"))
    cookie = f"sessionid={client.cookies['sessionid'].value}"
    request = urllib.request.Request(server.url + DOCTOR, headers={"Cookie": cookie})
    with urllib.request.urlopen(request, timeout=doctor_page.LIMIT_SECONDS + 10) as response:
        page = response.read().decode()
    assert ("RedisChannelLayer answers." in page, "RedisChannelLayer does not answer" in page) == (is_up, not is_up)


# Processes ----------------------------------------------------------------------------------------------------------


def test_processes_are_shown_with_their_problems(admin_client):
    """Live processes come first. Another version, history or deployment is marked. Dead processes are not examined."""
    save(POST)
    version = Configuration.objects.get().version
    add_node("b", digest="d1", connections=3, subscriptions=5, last_error="boom <b>")
    add_node("a")
    add_node("old", version=version - 1)
    add_node("other-deploy", digest="d2")
    add_node("restored", generation="x")
    add_node("dead", age=3600, version=0)
    found = {process.host: process for process in processes.load_processes("default").processes}
    assert list(found) == ["a", "b", "old", "other-deploy", "restored", "dead"]
    assert [name for name, process in found.items() if process.fault] == ["old", "other-deploy", "restored"]
    assert found["old"].fault == f"runs version {version - 1} instead of {version}"
    assert [process.is_live for process in found.values()] == [True] * 5 + [False]
    page = admin_client.get(PROCESSES).content.decode()
    assert page.index("restored") < page.index("dead")
    assert "boom &lt;b&gt;" in page
    assert "has other bindings than the other processes" in page
    assert "5 of 6 processes live" in page


def test_lag_counts_the_events_that_waited_at_the_heartbeat():
    """Later events do not count, and a dead process has no lag."""
    save(POST)
    relay.run_once("default")
    head = log.load_head("default").offset
    now = timezone.now()
    Event.objects.update(created_at=now - timedelta(seconds=8))
    add_node("current", offset=head)
    add_node("behind", offset=head - 1)
    add_node("dead", age=3600, offset=0)
    add_node("before", offset=head - 1, age=10)
    found = {process.host: process for process in processes.load_processes("default").processes}
    assert (found["current"].lag, found["current"].lag_text) == (0, "none")
    assert found["behind"].lag == 1
    assert found["behind"].lag_seconds == pytest.approx(8, abs=1)
    assert found["dead"].lag is None
    assert found["before"].lag == 0


def test_the_command_lists_the_same_processes():
    """The output is a table with the problems below it, or JSON."""
    save(POST)
    add_node("a", last_error="boom")
    ran = Ran("processes")
    assert ran.status == 0
    assert ran.lines[0].split() == [
        "PROCESS", "STATE", "VERSION", "HASH", "CONNECTIONS", "SUBSCRIPTIONS", "LAG", "SEEN",
    ]  # fmt: skip
    assert ran.lines[1].split()[:4] == ["a:7", "live", "1", "d1"]
    assert "a:7: boom" in ran.lines
    [listed] = Ran("processes", "--format", "json").json["processes"]
    assert (listed["host"], listed["is_live"], listed["fault"]) == ("a", True, "")


def test_processes_need_a_permission_of_their_own(admin_client):
    """The permission to view bindings is not enough. The list links to the page for users who may open it."""
    viewer = staff("declbind.view_bindingrecord")
    assert viewer.get(PROCESSES).status_code == 403
    assert PROCESSES not in viewer.get(LIST).content.decode()
    assert staff("declbind.view_node", name="node").get(PROCESSES).status_code == 200
    assert PROCESSES in admin_client.get(LIST).content.decode()
    assert "No process serves sockets." in admin_client.get(PROCESSES).content.decode()
