"""Shared steps of the tests of the command: runs in this process and in others, and records."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone
from pytest_django import Settings

from declbind.models import BindingRecord, Configuration, Node
from declbind.registry import refresh
from tests.json_types import JSONObject
from tests.servers import ROOT

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


def store(**changes: object) -> BindingRecord:
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


def node(**values: object) -> Node:
    now = timezone.now()
    return Node.objects.create(
        **{"id": "n1", "host": "web", "pid": 7, "started_at": now, "seen_at": now, **values},
    )


@pytest.fixture
def command_process(
    server_env: dict[str, str | None], settings: Settings
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
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


USERS = {"stream": "users", "model": "auth.User", "fields": ["username"]}


def write(path: Path, *documents: object) -> str:
    path.write_text(json.dumps(list(documents)))
    return str(path)


def digest(*arguments: str) -> str:
    found = re.fullmatch("plan ([0-9a-f]{12})", Ran("plan", *arguments).lines[-1])
    assert found
    return found[1]


def state() -> tuple[JSONObject, int]:
    configuration = Configuration.objects.first()
    records = {record.stream: record.definition() for record in BindingRecord.objects.all()}
    return records, configuration.version if configuration else 0
