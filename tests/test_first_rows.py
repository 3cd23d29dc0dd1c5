"""The rows that must always exist: the head of the log and the version of the configuration.

The migration inserts them, in the database that holds the tables. A flush deletes them, and any number of processes
may then be the first to need them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from declbind.models import Configuration, Head
from declbind.outbound import history, log
from declbind.registry import check_version
from tests.servers import ROOT

PROCESSES = 8
#: A minimal site, on SQLite files or at a URL; its declbind tables are where the router puts them.
SETTINGS = """
import os

import environ

SECRET_KEY = "only-for-tests"
USE_TZ = True
DATABASES = {
    name: {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(os.environ["FOLDER"], name)}
    for name in ("default", "second")
}
if "DATABASE_URL" in os.environ:
    DATABASES = {"default": environ.Env.db_url_config(os.environ["DATABASE_URL"])}
DATABASE_ROUTERS = ["site_settings.Router"] if os.environ.get("ROUTED") else []
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "channels", "declbind"]


class Router:
    def db_for_read(self, model, **hints):
        return "second" if model._meta.app_label == "declbind" else "default"

    db_for_write = db_for_read

    def allow_relation(self, one, other, **hints):
        return True

    def allow_migrate(self, db, app_label, model_name=None, **hints):
        return db == ("second" if app_label == "declbind" else "default")
"""
#: Forks processes, which begin together with a process's first work; prints the result of each.
START = """
import json, multiprocessing, os, sys, django
django.setup()
from declbind.models import Configuration, Head
from declbind.outbound import history, log
from declbind.live.log_reader import LogReader
processes = multiprocessing.get_context("fork")
barrier = processes.Barrier(int(sys.argv[1]), timeout=60)


def start():
    barrier.wait()
    try:
        tick, _ = LogReader("default").first_look()
        found = [tick.head.epoch, Head.objects.count()]
    except Exception as error:
        found = [f"{type(error).__name__}: {error}", 0]
    os.write(1, json.dumps(found).encode() + b"\\n")


started = [processes.Process(target=start) for _ in range(barrier.parties)]
for process in started:
    process.start()
for process in started:
    process.join()
"""


def environment(folder: Path, **more: str) -> dict[str, str]:
    (folder / "site_settings.py").write_text(SETTINGS)
    path = os.pathsep.join([str(folder), str(ROOT)])
    own = {"DJANGO_SETTINGS_MODULE": "site_settings", "PYTHONPATH": path, "FOLDER": str(folder)}
    return {**{key: value for key, value in os.environ.items() if key != "DATABASE_URL"}, **own, **more}


def run(env: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], env=env, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


COUNT = """
import django; django.setup()
from declbind.models import Configuration, Head
print([[row.__class__.__name__, row.pk] for rows in (Head, Configuration) for row in rows.objects.using({alias!r})])
"""


@pytest.mark.parametrize(("routed", "alias"), [("", "default"), ("1", "second")], ids=["one database", "two"])
def test_the_migration_inserts_them(tmp_path: Path, routed: str, alias: str) -> None:
    """They are in the database of the tables before any process has started; migrating twice changes nothing."""
    env = environment(tmp_path, ROUTED=routed)
    for _ in range(2):
        for name in ("default", "second"):
            run(env, "-m", "django", "migrate", "--database", name, "--verbosity", "0")
    assert run(env, "-c", COUNT.format(alias=alias)).strip() == "[['Head', 1], ['Configuration', 1]]"


def start_together(env: dict[str, str], count: int = PROCESSES) -> list[object]:
    """Start processes at once and return the result of each: the epoch, and the number of head rows."""
    found = [json.loads(line) for line in run(env, "-c", START, str(count)).splitlines()]
    assert len(found) == count
    return found


def check_that_all_agree(found: Sequence[Any]) -> None:
    assert len({epoch for epoch, _ in found}) == 1, found
    assert {count for _, count in found} == {1}, found


@pytest.mark.parametrize("statement", ["", "DELETE FROM declbind_head; DELETE FROM declbind_configuration"])
def test_processes_that_start_together_agree(tmp_path: Path, statement: str) -> None:
    """On SQLite in its default mode, with the rows and without them, no process fails with a locked database."""
    env = environment(tmp_path)
    run(env, "-m", "django", "migrate", "--verbosity", "0")
    delete = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])"
    run(env, "-c", delete, str(tmp_path / "default"), statement)
    check_that_all_agree(start_together(env))


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_processes_that_start_together_on_a_server_agree(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The same race on a database without one lock for all writers."""
    url = request.getfixturevalue(f"{kind}_database")
    env = environment(tmp_path, DATABASE_URL=url)
    run(env, "-m", "django", "migrate", "--verbosity", "0")
    run(env, "-c", "import django; django.setup(); from declbind.models import Head; Head.objects.all().delete()")
    check_that_all_agree(start_together(env))


@pytest.mark.django_db(transaction=True)
def test_a_flush_inserts_them_again() -> None:
    """The log begins a new epoch, with the first number."""
    before = Head.objects.get(pk=1).epoch, Configuration.objects.get(pk=1).generation
    call_command("flush", interactive=False, verbosity=0)
    head, configuration = Head.objects.get(pk=1), Configuration.objects.get(pk=1)
    assert head.epoch != before[0]
    assert configuration.generation != before[1]
    assert configuration.version == 0
    assert log.load_head("default").is_whole


@pytest.mark.django_db(transaction=True)
def test_after_a_flush_without_signals_they_are_inserted_on_first_use() -> None:
    """Test cases with ``available_apps`` flush without ``post_migrate``."""
    call_command("flush", interactive=False, verbosity=0, inhibit_post_migrate=True)
    assert not Head.objects.exists()
    check_version(force=True)
    assert history.ensure_head("default").pk == 1
    with transaction.atomic():
        assert [Configuration.bump("default"), Configuration.bump("default")] == [1, 2]


@pytest.mark.django_db(transaction=True)
def test_a_row_of_another_process_is_found_in_an_open_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    """The insert conflicts with that row, whose epoch applies."""
    known = Head.objects.get(pk=1)
    calls = []

    def first(self: object) -> Any:
        calls.append(self)
        return None if len(calls) == 1 else known

    monkeypatch.setattr("django.db.models.query.QuerySet.first", first)
    assert history.ensure_head("default").epoch == known.epoch
    assert len(calls) == 2
    assert connection.is_usable()
