"""What the doctor and the checks find around the log, so that "Why?" need not be asked."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.urls import path
from django.utils import timezone

from declbind.checks import check_application
from declbind.checks.asgi_mounts import find_mounts
from declbind.console import surroundings, unseen
from declbind.console.why import Cause, Certainty, Question, explain
from declbind.live.consumers import BindingConsumer
from declbind.live.traffic import describe_origin
from declbind.models import Connection, Node
from declbind.registry import database_alias, get_registry
from declbind.routing import websocket_urlpatterns
from declbind.sources import files
from declbind.testing import override_bindings
from example_site.example.models import IntegerValue
from tests.factories import make_user
from tests.live import NUMBERS

ROUTES = URLRouter([*websocket_urlpatterns, path("more/", BindingConsumer.as_asgi())])


async def of_the_project(scope: Any, receive: Any, send: Any) -> None:
    """An application that cannot be walked."""


def wrap(application: Any) -> Any:
    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        await application(scope, receive, send)

    return middleware


APPLICATIONS = {
    "whole": ProtocolTypeRouter({"websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(ROUTES))}),
    "nested": ProtocolTypeRouter({"websocket": AuthMiddlewareStack(URLRouter([path("a/", ROUTES)]))}),
    "no login": ProtocolTypeRouter({"websocket": AllowedHostsOriginValidator(ROUTES)}),
    "no socket": ProtocolTypeRouter({"http": of_the_project}),
    "other consumer": ProtocolTypeRouter(
        {"websocket": AuthMiddlewareStack(URLRouter([path("x/", AsyncWebsocketConsumer.as_asgi())]))}
    ),
    "wrapped": ProtocolTypeRouter({"websocket": wrap(ROUTES)}),
    "unknown": ProtocolTypeRouter({"websocket": of_the_project}),
}
application: Any = None


@pytest.fixture
def mounted(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    settings.ASGI_APPLICATION = f"{__name__}.application"

    def mount(name: str) -> None:
        monkeypatch.setattr(f"{__name__}.application", APPLICATIONS[name])

    return mount


@pytest.mark.parametrize(
    ("name", "paths", "found"),
    [
        ("whole", ("/ws/bindings/", "/more/"), []),
        ("nested", ("/a/ws/bindings/", "/a/more/"), []),
        ("no login", ("/ws/bindings/", "/more/"), ["declbind.W019"]),
        ("no socket", (), ["declbind.W018"]),
        ("other consumer", (), ["declbind.W018"]),
        ("wrapped", ("/ws/bindings/", "/more/"), []),
        ("unknown", (), []),
    ],
)
def test_the_application_is_walked_for_consumers(mounted: Any, name: str, paths: Any, found: list[str]) -> None:
    """Nothing is reported for an application that cannot be walked to its end."""
    mounted(name)
    assert find_mounts().paths == paths
    assert [message.id for message in check_application()] == found


def test_an_application_that_cannot_be_imported_is_reported(settings: Any) -> None:
    """The server cannot start with it either."""
    settings.ASGI_APPLICATION = "no.such.module"
    assert [message.id for message in check_application()] == ["declbind.W018"]


@pytest.mark.django_db
@pytest.mark.parametrize(("name", "cause"), [("no socket", Cause.NOT_MOUNTED), ("no login", Cause.NO_LOGIN)])
def test_the_application_explains_why_a_user_is_not_connected(mounted: Any, name: str, cause: Cause) -> None:
    """The answer is certain for an application without the consumer; without a login, if a visitor was connected."""
    mounted(name)
    user = make_user()
    with override_bindings(NUMBERS):
        now = timezone.now()
        if name == "no login":
            Connection.objects.create(id="c", node="n", opened_at=now - timedelta(minutes=1))
        row = IntegerValue.objects.create(name="a", value=1)
        from declbind.outbound import relay

        relay.run_once(database_alias())
        found = explain(Question("numbers", str(row.pk), user.username, timezone.now()), database_alias()).answers
        assert (found[0].cause, found[0].certainty) == (cause, Certainty.CERTAIN)
        mounted("whole")
        found = explain(Question("numbers", str(row.pk), user.username, timezone.now()), database_alias()).answers
        assert found[0].cause is Cause.NOT_CONNECTED
        assert "/ws/bindings/" in found[0].remedy


@pytest.mark.django_db
def test_a_process_that_is_older_than_the_files_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only processes of this host can be judged."""
    file = tmp_path / "bindings.py"
    file.write_text("")
    monkeypatch.setattr(surroundings, "_files", lambda: iter([file]))
    now = timezone.now()
    values = {"pid": 1, "started_at": now - timedelta(minutes=5), "seen_at": now}
    Node.objects.create(id="a", host=socket.gethostname()[:200], **values)
    Node.objects.create(id="b", host="elsewhere", **values)
    assert [finding.name for finding in surroundings.find_changed_files(database_alias())] == ["files"]
    os.utime(file, (time.time() - 600, time.time() - 600))
    assert list(surroundings.find_changed_files(database_alias())) == []


@pytest.mark.django_db
def test_a_group_that_is_nearly_too_large_is_reported(settings: Any) -> None:
    """Before clients are refused."""
    IntegerValue.objects.bulk_create([IntegerValue(name="a", value=number) for number in range(9)])
    IntegerValue.objects.create(name="b", value=1)
    with override_bindings(NUMBERS):
        levels = {}
        for limit in (8, 10, 20):
            settings.DECLBIND = {"MAX_SNAPSHOT_ROWS": limit}
            levels[limit] = [finding.level for finding in surroundings.find_large_groups(database_alias())]
    assert levels == {8: ["bad"], 10: ["note"], 20: []}


@pytest.mark.django_db
def test_fixtures_are_a_gap_while_raw_capture_is_off(settings: Any) -> None:
    """The advice is about the setting, and not about triggers."""
    with override_bindings(NUMBERS):
        binding = get_registry().by_stream["numbers"]
        assert not any("loaddata" in gap.text for gap in unseen.find_gaps(binding, database_alias()))
        settings.DECLBIND = {"CAPTURE_RAW": False}
        gaps = [gap for gap in unseen.find_gaps(binding, database_alias()) if "loaddata" in gap.text]
        assert "CAPTURE_RAW" in gaps[0].action


def test_runserver_reloads_on_the_files_of_records(settings: Any, tmp_path: Path) -> None:
    """A running development server would otherwise keep the old bindings."""
    settings.DECLBIND = {"RECORD_DIRS": [str(tmp_path)]}
    watched: list[Path] = []

    class Reloader:
        def watch_dir(self, path: Path, glob: str) -> None:
            watched.append(path / glob)

    files.watch_files(Reloader())
    assert tmp_path / "*.json" in watched


@pytest.mark.django_db
def test_a_refused_origin_names_a_user_who_is_loaded() -> None:
    """A lazy user stays lazy, because a query is not allowed there."""
    from django.utils.functional import SimpleLazyObject

    user = make_user()

    def fail() -> Any:
        raise AssertionError("loaded")

    assert describe_origin({"user": user})["username"] == user.username
    assert "username" not in describe_origin({"user": SimpleLazyObject(fail)})
    assert "username" not in describe_origin({})
