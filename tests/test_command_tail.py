"""The verbs tail and relay."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.db import transaction
from django.utils import timezone
from pytest_django import Settings

from declbind.models import Event, Traffic
from declbind.outbound import history, relay
from tests.command_runs import Ran, command_process, fresh_registry, store

__all__ = ["command_process", "fresh_registry"]

pytestmark = pytest.mark.django_db


def test_tail_prints_events_in_order() -> None:
    """Offset, stream, action and group, model and key, the data's keys; with --values the data."""
    store()
    row = Group.objects.create(name="staff")
    row.name = "team"
    row.save()
    relay.run_once("default")
    key = row.pk
    told = [line.split("  ") for line in Ran("tail", "--once", "--since", "0", "--stream", "groups").lines]
    assert [(part[2], part[3], part[4], part[5]) for part in told if part[3] != "control"] == [
        ("groups", "create/name-staff", f"auth.group {key}", "{name}"),
        ("groups", "delete/name-staff, create/name-team", f"auth.group {key}", "{name}"),
    ]
    assert [part[0] for part in told] == sorted((part[0] for part in told), key=int)
    with_values = Ran("tail", "--once", "--since", "0", "--stream", "groups", "--values").lines[-1]
    assert with_values.endswith('{"name":"team"}')


def test_tail_describes_a_bulk_event(settings: Settings) -> None:
    """The line names the groups, or says that all are resynced; the JSON is the log's, without a key."""
    settings.DECLBIND = {"BULK_LIMIT": 2}
    store()
    Group.objects.bulk_create([Group(name=name) for name in ("a", "b", "c")])
    Event.objects.create(
        kind=Event.BULK, stream="groups", model="auth.group", object_pk="null", changes='[["*","resync"]]',
        created_at=timezone.now(),
    )  # fmt: skip
    relay.run_once("default")
    named, every = Ran("tail", "--once", "--since", "0", "--stream", "groups").lines[-2:]
    assert named.endswith(
        "groups  resync  auth.group  3 groups asked to take a snapshot: more than 2 rows were written at once "
        "(name-a, name-b, name-c)"
    )
    assert "resync  auth.group  every group asked to take a snapshot" in every
    found = json.loads(Ran("tail", "--once", "--since", "0", "--format", "json").lines[-2])
    assert (found["kind"], found["pk"], found["data"]) == ("bulk", None, [])
    assert found["changes"][0] == {"group": "name-a", "action": "resync"}


def test_tail_follows_its_limits() -> None:
    """--since is exclusive, --limit counts, and without --since only new events are printed."""
    store()
    for name in ("a", "b", "c"):
        Group.objects.create(name=name)
    relay.run_once("default")
    events = [json.loads(line) for line in Ran("tail", "--once", "--since", "0", "--format", "json").lines]
    rows = [event for event in events if event["kind"] == "row"]
    assert [event["data"] for event in rows] == [["name"]] * 3
    assert rows[0]["changes"] == [{"group": "name-a", "action": "create"}]
    after = Ran("tail", "--since", str(rows[0]["offset"]), "--limit", "1", "--format", "json", "--values").lines
    assert [json.loads(line)["data"] for line in after] == [{"name": "b"}]
    assert Ran("tail", "--once").lines == []


def test_tail_with_a_limit_does_not_wait() -> None:
    """Without --since it prints the last stored items in their order, instead of waiting for new ones."""
    store()
    for name in ("a", "b", "c"):
        Group.objects.create(name=name)
    relay.run_once("default")
    lines = Ran("tail", "--limit", "2", "--format", "json", "--values").lines
    assert [json.loads(line)["data"] for line in lines] == [{"name": "b"}, {"name": "c"}]
    assert Ran("tail", "--limit", "0").lines == []
    refused = {"stream": "groups", "action": "update", "outcome": "denied", "connection": "c"}
    Traffic.objects.create(kind=Traffic.REFUSED, at=timezone.now() + timedelta(seconds=1), **refused)
    lines = Ran("tail", "--limit", "2", "--stream", "groups", "--refused", "--format", "json").lines
    assert [json.loads(line)["kind"] for line in lines] == ["row", "refused"]


@pytest.mark.django_db(transaction=True)
def test_tail_with_since_and_a_limit_waits_for_the_missing_items(
    command_process: Callable[..., subprocess.Popen[str]],
) -> None:
    """An existing item counts, and is printed once."""
    store()
    Event.objects.all().delete()
    Group.objects.create(name="first")
    relay.run_once("default")
    process = command_process("tail", "--limit", "2")
    assert process.stdout is not None
    assert "create/name-first" in process.stdout.readline()
    Group.objects.create(name="second")
    relay.run_once("default")
    assert "create/name-second" in process.stdout.readline()
    assert process.wait(timeout=30) == 0


def test_tail_prints_refusals_among_the_events() -> None:
    """They are sorted by time, as text or as JSON; traffic that is recorded only while watched needs --all."""
    now = timezone.now()
    Event.objects.all().delete()
    for seconds in (0, 2):
        Event.objects.create(stream="groups", object_pk="1", created_at=now + timedelta(seconds=seconds))
    relay.run_once("default")
    common = {"stream": "groups", "action": "update", "username": "eve", "connection": "c"}
    refused = {**common, "outcome": "denied", "message": "No."}
    Traffic.objects.create(kind=Traffic.REFUSED, at=now + timedelta(seconds=1), **refused)
    Traffic.objects.create(kind=Traffic.REQUEST, at=now + timedelta(seconds=3), outcome="ok", **common)
    Traffic.objects.create(kind=Traffic.REFUSED, at=now, **{**common, "stream": "other"})
    options = ("tail", "--once", "--since", "0", "--stream", "groups")
    assert len(Ran(*options).lines) == 2
    assert Ran(*options, "--refused").lines[1].endswith("groups  update by eve  denied: No.")
    for option, kinds in (("--refused", ["row", "refused", "row"]), ("--all", ["row", "refused", "row", "request"])):
        told = [json.loads(line) for line in Ran(*options, option, "--format", "json").lines]
        assert [item["kind"] for item in told] == kinds
    assert (told[1]["outcome"], told[1]["user"]) == ("denied", "eve")
    assert Ran("tail", "--once", "--refused").lines == []
    assert len(Ran(*options, "--all", "--limit", "3").lines) == 3


@pytest.mark.django_db(transaction=True)
def test_tail_waits_for_events_and_skips_rolled_back_ones(
    command_process: Callable[..., subprocess.Popen[str]],
) -> None:
    """A process that follows the log prints a committed row, and nothing of a row that was rolled back."""
    store()
    relay.run_once("default")
    process = command_process("tail", "--since", "0", "--stream", "groups", "--limit", "2")
    assert process.stdout is not None
    assert "control" in process.stdout.readline()
    with transaction.atomic():
        Group.objects.create(name="never")
        transaction.set_rollback(True)
    Group.objects.create(name="staff")
    relay.run_once("default")
    assert "create/name-staff" in process.stdout.readline()
    assert process.wait(timeout=30) == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_relay_runs_until_it_is_stopped(
    command_process: Callable[..., subprocess.Popen[str]], number: signal.Signals
) -> None:
    """It numbers events, and a signal ends it cleanly."""
    process = command_process("relay")
    assert process.stdout is not None
    assert process.stdout.readline() == "The relay of database 'default' runs; stop it with Ctrl-C or SIGTERM.\n"
    if not history.needs_sequencer("default"):
        assert process.stdout.readline().startswith("It is not needed here")
    store()
    Group.objects.create(name="staff")
    tail = command_process("tail", "--since", "0", "--stream", "groups", "--limit", "2")
    assert tail.wait(timeout=30) == 0
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "The relay has stopped.\n", "")
