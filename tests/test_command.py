"""The verbs that read: list, show, check, export, preview, doctor, tail, relay."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from declbind.models import BindingRecord, Configuration, Event, Node, Traffic
from declbind.outbound import log, relay
from declbind.registry import refresh
from tests.servers import ROOT

pytestmark = pytest.mark.django_db

GROUPS = {"stream": "groups", "model": "auth.Group", "fields": ["name"], "groups": ["name-{name}"]}
NAME_TEXT = "$.fields[0]: Binding 'groups': field 'naem' does not exist on auth.Group. Did you mean 'name'?"


class Ran:
    """The output of a run of the command, and its outcome."""

    def __init__(self, *arguments: str) -> None:
        out, err = io.StringIO(), io.StringIO()
        self.status = 0
        try:
            call_command("declbind", *arguments, stdout=out, stderr=err, no_color=True)
        except SystemExit as error:
            self.status = int(error.code or 0)
        self.out, self.err = out.getvalue(), err.getvalue()
        self.lines = self.out.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def store(**changes: Any) -> BindingRecord:
    record = BindingRecord().assign({**GROUPS, **changes})
    record.save()
    return record


def spoil() -> None:
    """Make the stored record invalid without validation, as a migration that renames a field does."""
    BindingRecord._base_manager.filter(stream="groups").update(fields=["naem"])


@pytest.fixture(autouse=True)
def fresh_registry() -> Iterator[None]:
    refresh(force=True)
    yield
    refresh(force=True)


# list, show, check, export ----------------------------------------------------------------------------------


def test_list_shows_every_source_and_state() -> None:
    """One aligned line for each binding: on, off or invalid, and where it is defined."""
    store(enabled=False, stream="quiet")
    store()
    spoil()
    lines = Ran("list").lines
    assert lines[0].split() == ["STREAM", "STATE", "MODEL", "SOURCE", "WHERE"]
    column = lines[0].index("STATE")
    states = {line.split()[0]: line[column:].split()[0] for line in lines[1:]}
    assert states == {"intval": "on", "blog-desk": "on", "blog-posts": "on", "groups": "invalid", "quiet": "off"}
    assert "blog/bindings/posts.json[0]" in "".join(lines)


def test_list_as_json() -> None:
    """The JSON holds the same data, including the problems."""
    store()
    spoil()
    [found] = [item for item in Ran("list", "--format", "json").json if item["stream"] == "groups"]
    path, message = NAME_TEXT.split(": ", 1)
    assert found == {
        "stream": "groups",
        "model": "auth.Group",
        "source": "database",
        "where": "database record 'groups'",
        "state": "invalid",
        "problems": [{"path": path, "message": message}],
        "warnings": [],
        "drift": None,
        "misses": [],
        "waiting": [],
    }


def test_options_are_taken_before_and_after_the_verb() -> None:
    """Django's own options work after the verb too, where users type them."""
    assert Ran("list", "--database", "default", "-v", "2", "--no-color").status == 0
    with pytest.raises(CommandError, match="invalid choice: 'nowhere'"):
        Ran("list", "--database", "nowhere")


def test_show_describes_a_binding() -> None:
    """The output shows what is sent and accepted, the groups and the permissions, with defaults filled in."""
    shown = Ran("show", "blog-posts", "--format", "json").json
    assert shown["sends"] == ["blog", "title", "body", "published", "created", "modified"]
    assert shown["takes"] == ["blog", "title", "body"]
    assert shown["permissions"]["view"] == "anyone"
    assert shown["permissions"]["create"] == "who has blog.add_post"
    assert shown["record"]["stream"] == "blog-posts"
    by_code = Ran("show", "intval")
    assert "groups      by code" in by_code.lines
    assert "may view    by code" in by_code.lines


def test_show_names_the_near_stream() -> None:
    """The error for an unknown stream suggests a similar one."""
    with pytest.raises(CommandError) as caught:
        Ran("show", "blog-post")
    assert str(caught.value) == "$.stream: No source defines a binding 'blog-post'. Did you mean 'blog-posts'?"
    assert caught.value.returncode == 1


def test_check_accepts_valid_bindings() -> None:
    """The status is 0, and the output gives a count."""
    store()
    ran = Ran("check")
    assert (ran.status, ran.lines[-1]) == (0, "4 of 4 bindings valid.")


def test_check_names_the_one_bad_record_of_a_hundred(settings: Any, tmp_path: Path) -> None:
    """Status 1; file, index and JSON path of the bad record; the 99 others count as valid."""
    documents = [{**GROUPS, "stream": f"s{number}", "groups": []} for number in range(100)]
    documents[41]["fields"] = ["naem"]
    (tmp_path / "all.json").write_text(json.dumps(documents))
    settings.DECLBIND = {"RECORD_DIRS": [str(tmp_path)]}
    ran = Ran("check")
    assert ran.status == 1
    assert f"error    {tmp_path}/all.json[41]: {NAME_TEXT.replace('groups', 's41')}" in ran.lines
    assert sum(line.startswith("error") for line in ran.lines) == 1
    assert ran.lines[-1] == "102 of 103 bindings valid."


def test_check_as_json_and_with_warnings() -> None:
    """Warnings are shown and do not change the status; the JSON has a key "ok"."""
    store(fields=[], exclude=None)
    ran = Ran("check", "--format", "json")
    assert (ran.status, ran.json["ok"]) == (0, True)
    assert "uses 'name', which is not sent" in ran.out
    spoil()
    ran = Ran("check", "--format", "json")
    assert (ran.status, ran.json["ok"]) == (1, False)


def test_check_names_a_stream_of_two_sources_on_both(settings: Any, tmp_path: Path) -> None:
    """Two errors, each with the place of the other."""
    store()
    (tmp_path / "one.json").write_text(json.dumps(GROUPS))
    settings.DECLBIND = {"RECORD_DIRS": [str(tmp_path)]}
    ran = Ran("check")
    assert ran.status == 1
    assert [line.split(": ")[0].split(None, 1)[1] for line in ran.lines if line.startswith("error")] == [
        f"{tmp_path}/one.json",
        "database record 'groups'",
    ]


def test_export_writes_the_records_of_the_database_in_order() -> None:
    """A JSON list by stream, keys in the order of the published table, defaults left out."""
    store(stream="zebra", where={"name": "z", "id": 1}, permissions={"delete": False, "view": True})
    store()
    exported = Ran("export").json
    assert [record["stream"] for record in exported] == ["groups", "zebra"]
    assert list(exported[1]) == ["stream", "model", "fields", "groups", "permissions", "where"]
    assert list(exported[1]["permissions"]) == ["view", "delete"]
    assert list(exported[1]["where"]) == ["id", "name"]


def test_export_takes_named_bindings_of_any_source() -> None:
    """The record of a file is exported unchanged, without $schema; for a class the equivalent record."""
    exported = Ran("export", "intval", "blog-desk").json
    assert [record["stream"] for record in exported] == ["blog-desk", "intval"]
    assert exported[1] == {
        "stream": "intval",
        "model": "example.IntegerValue",
        "fields": ["name", "value"],
        "auto_subscribe": True,
    }
    with pytest.raises(CommandError, match="No source defines a binding 'nobody'"):
        Ran("export", "nobody")


# preview ----------------------------------------------------------------------------------------------------


def test_preview_is_the_frame_that_a_save_sends() -> None:
    """The frame equals, byte for byte, the one that a save sends, and the groups are the row's."""
    store()
    row = Group.objects.create(name="staff")
    made = Ran("preview", "groups", str(row.pk), "--format", "json").json
    assert made["payload"] == {"action": "update", "pk": row.pk, "data": {"name": "staff"}, "model": "auth.group"}
    assert made["groups"] == ["name-staff"]
    row.save()
    event = Event.objects.filter(stream="groups").latest("id")
    assert made["frame"] == (
        f'{{"stream":"groups","payload":{{"action":"update","pk":{event.object_pk},'
        f'"data":{event.data},"model":"{event.model}"}}}}'
    )
    assert json.loads(event.changes) == [["name-staff", "update"]]


def test_preview_shows_who_may_see_the_row() -> None:
    """An anonymous visitor, a user without and one with the permission; by name and by primary key."""
    store()
    row = Group.objects.create(name="staff")
    reader = User.objects.create(username="reader")
    rule = "view is for who has auth.view_group"
    assert Ran("preview", "groups", str(row.pk)).lines[-1] == (
        f'an anonymous visitor may not see it in group name-staff with params {{"name": "staff"}}: {rule}.'
    )
    refused = Ran("preview", "groups", str(row.pk), "--user", "reader", "--format", "json").json
    assert [verdict["allowed"] for verdict in refused["verdicts"]] == [False]
    reader.user_permissions.add(Permission.objects.get(codename="view_group"))
    allowed = Ran("preview", "groups", str(row.pk), "--user", str(reader.pk), "--format", "json").json
    assert allowed["user"] == "reader"
    assert [verdict["allowed"] for verdict in allowed["verdicts"]] == [True]


def test_preview_knows_the_scope() -> None:
    """A row of another user is not visible, whatever the permission says."""
    store(stream="own", model="auth.User", fields=["username"], groups=["user-{id}"], scope={"id": "$user.pk"},
          permissions={"view": True})  # fmt: skip
    mine, other = User.objects.create(username="me"), User.objects.create(username="other")
    for row, allowed in ((mine, True), (other, False)):
        made = Ran("preview", "own", str(row.pk), "--user", "me", "--format", "json").json
        assert [verdict["allowed"] for verdict in made["verdicts"]] == [allowed]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["groups", "0"], "There is no auth.Group with the primary key '0'."),
        (["groups", "one"], "Expected a primary key of auth.Group, got 'one'"),
        (["groups", "0", "--user", "nobody"], "Expected a user's name or primary key, got 'nobody': there is none."),
        (["group", "0"], "No source defines a binding 'group'. Did you mean 'groups'?"),
    ],
)
def test_preview_says_what_is_missing(arguments: list[str], text: str) -> None:
    store()
    with pytest.raises(CommandError) as caught:
        Ran("preview", *arguments)
    assert text in str(caught.value)


def test_preview_names_a_row_outside_of_where() -> None:
    store(where={"name": "staff"})
    row = Group.objects.create(name="guests")
    with pytest.raises(CommandError, match="is outside 'where'"):
        Ran("preview", "groups", str(row.pk))


# doctor -----------------------------------------------------------------------------------------------------


def examine() -> dict[str, list[dict[str, Any]]]:
    ran = Ran("doctor", "--format", "json")
    assert ran.json["ok"] == (ran.status == 0)
    assert ran.json["ok"] == all(finding["level"] != "bad" for finding in ran.json["findings"])
    findings: dict[str, list[dict[str, Any]]] = {}
    for finding in ran.json["findings"]:
        findings.setdefault(finding["name"], []).append(finding)
    return findings


def levels(name: str) -> list[str]:
    return [finding["level"] for finding in examine().get(name, [])]


def test_doctor_finds_a_new_set_up_well() -> None:
    """There is no problem; the lines name what was examined."""
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
    assert finding["meaning"] == f"database record 'groups' is left out: {NAME_TEXT}"


def test_doctor_finds_events_without_numbers() -> None:
    """On PostgreSQL an event that has waited for long means that no relay runs; SQLite needs no relay."""
    store()
    Group.objects.create(name="staff")
    assert levels("sequencer") == ([] if connection.vendor == "sqlite" else ["ok"])
    Event.objects.update(created_at=timezone.now() - timedelta(minutes=5))
    assert levels("sequencer") == ([] if connection.vendor == "sqlite" else ["bad"])
    relay.run_once("default")
    assert "bad" not in levels("sequencer")


def node(**values: Any) -> Node:
    now = timezone.now()
    return Node.objects.create(
        **{"id": "n1", "host": "web", "pid": 7, "started_at": now, "seen_at": now, **values},
    )


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


def test_doctor_tries_the_channel_layer(settings: Any) -> None:
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


def test_doctor_finds_the_channel_layer_well(settings: Any, redis_server: Any) -> None:
    """Negative control, with a real Redis."""
    host = {"address": redis_server.url, "socket_timeout": None}
    settings.CHANNEL_LAYERS = {
        "default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [host]}}
    }
    assert [finding["meaning"] for finding in examine()["channel layer"]] == [
        "channels_redis.pubsub.RedisPubSubChannelLayer answers."
    ]


def test_doctor_notes_debug(settings: Any) -> None:
    settings.DEBUG = True
    assert levels("debug") == ["note"]


def test_doctor_examines_a_database_that_was_never_set_up(tmp_path: Path, settings: Any) -> None:
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
    tmp_path: Path, server_env: dict[str, str | None], settings: Any
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


# tail and relay ---------------------------------------------------------------------------------------------


def test_doctor_finds_waiting_marks() -> None:
    """This is found on SQLite too, where nobody reads past the first mark."""
    Event.objects.create(kind=Event.MARK, data="{}", created_at=timezone.now() - timedelta(minutes=1))
    [found] = [item for item in Ran("doctor", "--format", "json").json["findings"] if item["name"] == "sequencer"]
    what = "note of a trigger" if connection.vendor == "sqlite" else "event"
    assert found["meaning"].startswith(f"1 {what} without a number, the oldest for 60 s.")
    assert not found["ok"]


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


def test_tail_describes_a_bulk_event(settings: Any) -> None:
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


def test_tail_with_a_limit_ends_on_a_log_that_is_quiet() -> None:
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
def test_tail_with_a_limit_waits_for_what_is_missing(command_process: Callable[..., subprocess.Popen[str]]) -> None:
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
    assert process.stdout.readline() == ("The relay of database 'default' runs; stop it with Ctrl-C or SIGTERM.\n")
    store()
    Group.objects.create(name="staff")
    tail = command_process("tail", "--since", "0", "--stream", "groups", "--limit", "2")
    assert tail.wait(timeout=30) == 0
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "The relay has stopped.\n", "")


@pytest.fixture
def command_process(server_env: dict[str, str | None], settings: Any) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that runs the command in a process of its own on the database of this test."""
    processes: list[subprocess.Popen[str]] = []
    env = {key: value for key, value in {**os.environ, **server_env}.items() if value is not None}
    env["DJANGO_SETTINGS_MODULE"] = settings.SETTINGS_MODULE

    def start(*arguments: str, stdin: int | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "django", "declbind", *arguments],
            cwd=ROOT, env=env, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()
