"""The verb apply: concurrent runs, and the confirmation of what it opens."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from django.core.management import CommandError
from django.db import connections, transaction
from django.test import Client

from declbind.models import BindingRecord
from tests.command_runs import GROUPS, USERS, Ran, command_process, digest, fresh_registry, state, store, write
from tests.console_forms import LIST

__all__ = ["command_process", "fresh_registry"]

pytestmark = pytest.mark.django_db


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.json"


# Concurrent runs ------------------------------------------------------------------------------------------------------


def waits_for_the_lock(process: subprocess.Popen[str], using: str = "default") -> bool:
    """Return whether a process waits for what this test has locked."""
    if connections[using].vendor == "sqlite":
        # BEGIN IMMEDIATE waits at the connection's first use for records; the file is opened just before.
        name = connections[using].settings_dict["NAME"]
        return any(file.path == name for file in psutil.Process(process.pid).open_files())
    with connections[using].cursor() as cursor:
        if connections[using].vendor == "mysql":
            cursor.execute("SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'")
            return bool(cursor.fetchone()[0] >= 2)
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # otherwise a transaction sees the same answer every time
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return bool(cursor.fetchone()[0] >= 2)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("planned", [True, False], ids=["with --plan", "without"])
def test_concurrent_applies_do_not_mix(
    command_process: Callable[..., subprocess.Popen[str]], tmp_path: Path, planned: bool
) -> None:
    """Both processes wait for the same lock, and the result never mixes the two files.

    With the plan's hash one of them is refused. Without it both may be carried out, one after the other, and the
    stored records are then all from one file.
    """
    records = [store(stream="one"), store(stream="two")]
    paths = []
    for name in ("left", "right"):
        documents = [{**record.definition(), "description": name} for record in records]
        paths.append(write(tmp_path / f"{name}.json", *documents, {**USERS, "description": name}))
    plans = [["--plan", digest(path)] if planned else [] for path in paths]
    with transaction.atomic():
        list(BindingRecord.objects.select_for_update())
        processes = [command_process("apply", "--yes", path, *more) for path, more in zip(paths, plans, strict=True)]
        deadline = time.monotonic() + 30
        while not all(map(waits_for_the_lock, processes)):
            assert time.monotonic() < deadline, "the processes did not come to the lock"
    told = [process.communicate(timeout=60) for process in processes]
    statuses = [process.returncode for process in processes]
    assert statuses.count(0) >= 1, told
    if planned:
        assert sorted(statuses) == [0, 1], told
        refusal = told[statuses.index(1)][1]
        assert "Expected to carry out plan" in refusal or "Another user edited" in refusal
    descriptions = {definition.get("description") for definition in state()[0].values()}
    assert len(descriptions) == 1
    if planned:
        assert descriptions == {("left", "right")[statuses.index(0)]}


# Confirmations --------------------------------------------------------------------------------------------------------


def answering(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Answer the command's questions; return the list of answers. Without an answer the input is empty."""
    asked: list[str] = []
    given = iter(answers)

    def answer(prompt: str = "") -> str:
        asked.append(prompt)
        for text in given:
            return text
        raise EOFError

    monkeypatch.setattr("builtins.input", answer)
    return asked


def test_apply_prints_what_it_opens_and_asks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is stored unless the answer is yes."""
    write(path, {**GROUPS, "direction": "outbound", "permissions": {"view": "authenticated"}})
    asked = answering(monkeypatch, "n", "", "yes")
    for _ in range(2):
        with pytest.raises(CommandError, match="Nothing was stored"):
            Ran("apply", str(path))
    assert state() == ({}, 0)
    ran = Ran("apply", str(path))
    assert ran.lines[:4] == [
        "+ groups",
        "    + is a new binding of auth.Group",
        "    + sends name",
        "    + users who are logged in may subscribe",
    ]
    assert len(asked) == 3
    assert set(state()[0]) == {"groups"}


def test_apply_says_what_the_page_says(path: Path, monkeypatch: pytest.MonkeyPatch, admin_client: Client) -> None:
    """All consequences of each change, in the same words, and what gives more access is marked."""
    store(stream="groups", permissions={"view": False}, description="old")
    changed = {**GROUPS, "permissions": {"view": True}, "description": "new"}
    asked = answering(monkeypatch, "y")
    page = admin_client.post(f"{LIST}import/", {"text": json.dumps(changed), "_review": "1"})
    [row] = page.context["review"].rows
    lines = Ran("apply", write(path, changed)).lines
    shown = [
        f"    {item.sign} {item.text}{'  (gives more access)' if item.widens else ''}" for item in row.consequences
    ]
    assert lines[: len(shown) + 1] == ["~ groups", *shown]
    assert any("(gives more access)" in line for line in shown)
    assert any("description" in line for line in shown)
    assert asked == ["This gives more access than before. Store it? [y/N] "]


def test_apply_without_an_input_names_the_option_that_answers(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script has to pass the option; so does a program that reads JSON."""
    write(path, GROUPS)
    asked = answering(monkeypatch)
    with pytest.raises(CommandError, match="Repeat it with --yes"):
        Ran("apply", str(path))
    assert "--yes" in Ran("apply", str(path), "--format", "json").json["error"]
    assert state() == ({}, 0)
    assert len(asked) == 1
    assert Ran("apply", "--yes", str(path)).status == 0
    assert set(state()[0]) == {"groups"}


def test_apply_with_a_closed_input_fails(path: Path, command_process: Callable[..., subprocess.Popen[str]]) -> None:
    """A process without any standard input gets the same message."""
    write(path, GROUPS)
    process = command_process("apply", str(path), stdin=subprocess.DEVNULL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "--yes" in err


def test_apply_asks_nothing_if_it_only_narrows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restriction needs no confirmation."""
    store(permissions={"view": True})
    asked = answering(monkeypatch)
    Ran("apply", write(path, {**GROUPS, "permissions": {"view": False}}))
    Ran("apply", write(path, {**GROUPS, "permissions": {"view": False}, "enabled": False}))
    Ran("apply", write(path, {**GROUPS, "stream": "spare", "enabled": False}), "--prune")
    assert asked == []


def test_the_confirmed_plan_is_stored(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changes while the question is open is not stored instead of the shown plan."""
    write(path, GROUPS)

    def answer(prompt: str = "") -> str:
        write(path, {**GROUPS, "permissions": {"view": True}})
        return "y"

    monkeypatch.setattr("builtins.input", answer)
    with pytest.raises(CommandError, match="Review a new plan"):
        Ran("apply", str(path))
    assert state() == ({}, 0)
