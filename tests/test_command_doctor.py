"""The verb doctor: what it finds, and what it says of a database that was never set up."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from declbind.models import Configuration, Event, Node, Traffic
from declbind.outbound import log, relay
from tests.command_runs import NAME_TEXT, Ran, fresh_registry, node, spoil, store
from tests.json_types import JSONObject
from tests.servers import ROOT

__all__ = ["fresh_registry"]

pytestmark = pytest.mark.django_db

# doctor ---------------------------------------------------------------------------------------------------------------


def examine() -> dict[str, list[JSONObject]]:
    ran = Ran("doctor", "--format", "json")
    assert ran.json["ok"] == (ran.status == 0)
    assert ran.json["ok"] == all(finding["level"] != "bad" for finding in ran.json["findings"])
    findings: dict[str, list[JSONObject]] = {}
    for finding in ran.json["findings"]:
        findings.setdefault(finding["name"], []).append(finding)
    return findings


def levels(name: str) -> list[str]:
    return [finding["level"] for finding in examine().get(name, [])]


def test_doctor_finds_no_problem_in_a_new_setup() -> None:
    """The lines name what was examined."""
    ran = Ran("doctor")
    assert ran.status == 0
    assert any(line.startswith("ok    migrations") for line in ran.lines)
    assert any(line.startswith("note  processes") for line in ran.lines)


def test_doctor_begins_a_new_history_after_a_restore() -> None:
    """With the option, the log gets a new epoch; numbers continue."""
    store()
    Group.objects.create(name="staff")
    relay.run_once("default")
    before = log.load_head("default")
    assert Ran("doctor").status == 0
    assert log.load_head("default") == before
    assert Ran("doctor", "--after-restore").status == 0
    after = log.load_head("default")
    assert (after.offset, after.epoch != before.epoch) == (before.offset, True)


def test_doctor_finds_an_invalid_binding() -> None:
    store()
    spoil()
    [finding] = examine()["binding"]
    assert finding["level"] == "bad"
    assert finding["meaning"] == f"database record 'groups' is left out: {NAME_TEXT.partition(': ')[2]}"


def test_doctor_finds_events_without_numbers() -> None:
    """On PostgreSQL an event that has waited for long means that no relay runs; SQLite needs no relay."""
    store()
    Group.objects.create(name="staff")
    assert levels("sequencer") == ([] if connection.vendor == "sqlite" else ["ok"])
    Event.objects.update(created_at=timezone.now() - timedelta(minutes=5))
    assert levels("sequencer") == ([] if connection.vendor == "sqlite" else ["bad"])
    relay.run_once("default")
    assert "bad" not in levels("sequencer")


def test_doctor_compares_the_processes_with_the_configuration() -> None:
    """A process on an old version is normal at first, and a fault after a while; a dead process is neither."""
    store()
    configuration = Configuration.objects.get()
    running = node(generation=configuration.generation, version=configuration.version)
    node(id="dead", seen_at=timezone.now() - timedelta(minutes=1))
    assert examine()["processes"] == [
        {
            "name": "processes", "level": "ok", "ok": True,
            "meaning": f"1 of 1 process on version {configuration.version}.", "action": "",
        }
    ]  # fmt: skip
    Node.objects.filter(pk=running.pk).update(version=0)
    assert levels("processes") == ["ok"]
    Configuration.objects.update(changed_at=timezone.now() - timedelta(minutes=1))
    [finding] = examine()["processes"]
    assert finding["level"] == "bad"
    assert "web:7 on 0" in finding["meaning"]


def test_doctor_reports_recent_errors() -> None:
    """Errors of the last hour are listed by kind, because an exception may quote a row."""
    error = Traffic.objects.create(
        at=timezone.now() - timedelta(hours=2),
        kind=Traffic.ERROR,
        stream="intval",
        outcome="ZeroDivisionError",
        message="division by zero",
    )
    assert levels("errors") == ["ok"]
    Traffic.objects.filter(pk=error.pk).update(at=timezone.now())
    [finding] = examine()["errors"]
    assert finding["level"] == "bad"
    assert finding["meaning"] == "1 error in the last hour, the last one: intval ZeroDivisionError"


def test_doctor_tries_the_channel_layer(settings: Settings) -> None:
    """A layer that does not respond is a problem; no layer at all is a supported set-up."""
    [finding] = examine()["channel layer"]
    assert finding["level"] == "ok"
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": ["redis://127.0.0.1:1/0"]},
        }
    }
    texts = [finding["meaning"] for finding in examine()["channel layer"]]
    assert texts[0].startswith("declbind.W005: CHANNEL_LAYERS['default']")
    assert texts[1].startswith("declbind.W006: CHANNEL_LAYERS['default']")
    assert texts[2].startswith("channels_redis.core.RedisChannelLayer does not answer")
    assert texts[3].startswith("channels_redis.core.RedisChannelLayer silently drops messages when 100 wait")


def test_doctor_finds_no_problem_in_the_channel_layer(settings: Settings, redis_server: Any) -> None:
    """Negative control, with a real Redis."""
    host = {"address": redis_server.url, "socket_timeout": None}
    settings.CHANNEL_LAYERS = {
        "default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [host]}}
    }
    assert [finding["meaning"] for finding in examine()["channel layer"]] == [
        "channels_redis.pubsub.RedisPubSubChannelLayer answers."
    ]


def test_doctor_notes_debug(settings: Settings) -> None:
    settings.DEBUG = True
    assert levels("debug") == ["note"]


def test_doctor_examines_a_database_that_was_never_set_up(tmp_path: Path, settings: Settings) -> None:
    """An empty SQLite file with Django's defaults: migrations, journal and transactions are all reported."""
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "empty.sqlite3")}
    code = f"from {settings.SETTINGS_MODULE} import *\nDATABASES = {{'default': {database!r}}}\n"
    (tmp_path / "plain_settings.py").write_text(code)
    ran = subprocess.run(
        [sys.executable, "-m", "django", "declbind", "doctor", "--format", "json", "--settings", "plain_settings"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 1, ran.stderr
    bad = [finding["name"] for finding in json.loads(ran.stdout)["findings"] if not finding["ok"]]
    assert bad == ["migrations", "SQLite journal", "SQLite transactions"]


def test_other_verbs_report_a_database_that_was_never_set_up(
    tmp_path: Path, server_env: dict[str, str | None], settings: Settings
) -> None:
    """The message, not a traceback, names the database and what to do."""
    env = {key: value for key, value in {**os.environ, **server_env}.items() if value is not None}
    env.update(DATABASE_URL=f"sqlite:///{tmp_path / 'empty.sqlite3'}", DJANGO_SETTINGS_MODULE=settings.SETTINGS_MODULE)
    ran = subprocess.run(
        [sys.executable, "-m", "django", "declbind", "tail", "--once"],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 1
    assert "A table or column is missing in database 'default' (SQLite, " in ran.stderr
    assert "no such table: declbind_head. Run `manage.py migrate --database default`." in ran.stderr


# Marks ----------------------------------------------------------------------------------------------------------------


def test_doctor_finds_waiting_marks() -> None:
    """They are found on SQLite too, where no process reads past the first mark."""
    Event.objects.create(kind=Event.MARK, data="{}", created_at=timezone.now() - timedelta(minutes=1))
    [found] = [item for item in Ran("doctor", "--format", "json").json["findings"] if item["name"] == "sequencer"]
    what = "note of a trigger" if connection.vendor == "sqlite" else "event"
    assert re.match(rf"1 {what} without a number, the oldest for 6\d s\.", found["meaning"])
    assert not found["ok"]
