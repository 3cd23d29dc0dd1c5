"""Descriptions of database faults: what happened, where, and the right way to fix it. Each fault is really caused."""

from __future__ import annotations

import contextlib
import gc
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError
from django.db import DatabaseError, IntegrityError, connection, connections, transaction
from pytest_django import Settings

from declbind import registry
from declbind.console import history, plan
from declbind.console.database_fault import describe_fault
from declbind.core.errors import ConfigError
from declbind.models import BindingRecord, BindingRevision
from tests.command_runs import GROUPS, Ran, fresh_registry
from tests.failing_databases import (
    MEANWHILE,
    TABLE,
    after_ddl,
    altered,
    answer_of,
    elsewhere,
    execute,
    impatient,
    on_postgresql,
    on_sqlite,
)

__all__ = ["fresh_registry"]

COLUMN = f"ALTER TABLE {TABLE} RENAME COLUMN"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "records.json"
    file.write_text(json.dumps([GROUPS]))
    return file


@pytest.mark.django_db(transaction=True)
@on_sqlite
@pytest.mark.parametrize("verb", ["apply", "rollback"])
def test_a_locked_file_is_not_reported_as_a_concurrent_edit(path: Path, verb: str) -> None:
    """Another transaction holds the write lock for unrelated work."""
    record = BindingRecord.objects.create(stream="old", model="auth.Group", fields=["name"])
    version = BindingRevision.objects.get().version
    record.delete()
    with elsewhere("UPDATE auth_group SET name = name"), impatient():
        text = answer_of(*(["apply", "--yes", str(path)] if verb == "apply" else ["rollback", "old", str(version)]))
    assert MEANWHILE not in text
    assert text == (
        f"Another connection holds a lock in database 'default' (SQLite, {connection.settings_dict['NAME']}) and did "
        "not release it in time: database is locked. Try again when the other program is done. If it lasts, look for "
        "a transaction that was left open. Nothing was stored."
    )
    assert not BindingRecord.objects.exists()
    Ran("apply", "--yes", str(path))
    assert BindingRecord.objects.get().stream == GROUPS["stream"]


@pytest.mark.django_db(transaction=True)
@on_sqlite
def test_a_failed_installation_of_triggers_shows_the_reason(fresh_registry: None) -> None:
    """The statements of ``triggers --install`` wait for the lock like any others."""
    BindingRecord.objects.create(stream="keepers", model="zoo.Keeper", fields=["name"], capture="triggers")
    registry.refresh(force=True)
    with elsewhere("UPDATE auth_group SET name = name"), impatient():
        text = answer_of("triggers", "--install")
    assert text.startswith("Another connection holds a lock in database 'default' (SQLite, ")
    assert text.endswith("Nothing was stored.")


@pytest.mark.django_db(transaction=True)
@on_sqlite
def test_the_deferred_mode_is_named_if_it_is_in_use(settings: Settings) -> None:
    """A transaction that reads first and writes later fails at once in that mode, so the advice is to change it."""
    options = connection.settings_dict["OPTIONS"]
    error = _locked_error()
    assert "IMMEDIATE" not in describe_fault(error, "default").action
    mode = options.pop("transaction_mode")
    try:
        assert 'OPTIONS["transaction_mode"] = "IMMEDIATE"' in describe_fault(error, "default").action
    finally:
        options["transaction_mode"] = mode


def _locked_error() -> DatabaseError:
    with elsewhere("UPDATE auth_group SET name = name"), impatient(), pytest.raises(DatabaseError) as raised:
        execute("UPDATE auth_group SET name = name")
    return raised.value


@pytest.mark.django_db(transaction=True)
@on_postgresql
def test_a_locked_row_is_not_reported_as_a_concurrent_edit(path: Path) -> None:
    """Another transaction has locked the row of the record and did not change it."""
    BindingRecord.objects.create(**{**GROUPS, "description": "old"})
    with elsewhere(f"SELECT * FROM {TABLE} FOR UPDATE"), impatient():
        text = answer_of("apply", "--yes", str(path))
    assert text.startswith("Another connection holds a lock in database 'default' (PostgreSQL, ")
    assert "canceling statement due to lock timeout" in text
    assert text.endswith("Try again. If it lasts, look for a transaction that was left open. Nothing was stored.")


@after_ddl
@pytest.mark.parametrize("verb", ["apply", "plan", "list", "history"])
@pytest.mark.parametrize(
    ("change", "undo"),
    [
        (f"ALTER TABLE {TABLE} RENAME TO moved", f"ALTER TABLE moved RENAME TO {TABLE}"),
        (
            f"ALTER TABLE {TABLE} RENAME COLUMN direction TO moved",
            f"ALTER TABLE {TABLE} RENAME COLUMN moved TO direction",
        ),
    ],
    ids=["table", "column"],
)
def test_a_missing_table_or_column_asks_for_migrate(path: Path, verb: str, change: str, undo: str) -> None:
    """The tables are those of another release, or missing."""
    arguments = {"apply": ["--yes", str(path)], "plan": [str(path)], "history": ["groups"]}
    revisions = "ALTER TABLE declbind_bindingrevision RENAME COLUMN"
    with contextlib.ExitStack() as stack:
        stack.enter_context(altered(change, undo))
        if verb == "history":
            stack.enter_context(altered(f"{revisions} definition TO moved", f"{revisions} moved TO definition"))
        with transaction.atomic():
            text = answer_of_once(verb, *arguments.get(verb, []))
            transaction.set_rollback(True)
    assert text.startswith("A table or column is missing in database 'default' (")
    assert "Run `manage.py migrate --database default`." in text
    assert text.endswith("Nothing was stored.") is (verb == "apply")


def answer_of_once(*arguments: str) -> str:
    """Run once: the transaction of the test is unusable on PostgreSQL afterwards."""
    with pytest.raises(CommandError) as raised:
        Ran(*arguments)
    return str(raised.value)


@pytest.mark.django_db(transaction=True)
def test_a_read_only_connection_is_named(path: Path) -> None:
    """A replica, a file without write permission, or a user's read-only mode causes it."""
    is_sqlite = connection.vendor == "sqlite"
    execute(
        {
            "sqlite": "PRAGMA query_only = 1",
            "postgresql": "SET default_transaction_read_only = on",
            "mysql": "SET SESSION TRANSACTION READ ONLY",
        }[connection.vendor]
    )
    try:
        text = answer_of("apply", "--yes", str(path))
    finally:
        connection.close()
    assert text.startswith("The connection to database 'default' (")
    assert ("in which SQLite keeps its journal" if is_sqlite else "lead to the primary server") in text
    assert text.endswith("Nothing was stored.")


@pytest.mark.django_db(transaction=True)
@on_sqlite
def test_a_file_that_cannot_be_opened_is_named(path: Path) -> None:
    """Its folder does not exist. Without an answer, the message claims nothing about the edit's outcome."""
    name = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = str(path.parent / "nowhere" / "db.sqlite3")
    try:
        text = answer_of("apply", "--yes", str(path))
    finally:
        connection.close()
        connection.settings_dict["NAME"] = name
    assert "nowhere/db.sqlite3) could not be made, or was lost: unable to open database file." in text
    assert "Check that its folder exists and that the process may open the file." in text
    assert "It is not known whether the edit was stored" in text


@pytest.mark.django_db(transaction=True)
@on_sqlite
@pytest.mark.filterwarnings("ignore:Exception ignored in. <sqlite3.Connection:pytest.PytestUnraisableExceptionWarning")
def test_a_file_that_is_no_database_is_named(path: Path) -> None:
    """The file exists and is not a database."""
    name = connection.settings_dict["NAME"]
    connection.close()
    broken = path.parent / "broken.sqlite3"
    broken.write_text("This is a text. " * 200)
    connection.settings_dict["NAME"] = str(broken)
    try:
        text = answer_of("apply", "--yes", str(path))
    finally:
        connection.close()
        connection.settings_dict["NAME"] = name
    # Django drops a connection whose first statement fails without closing it. Python 3.13 warns about that when the
    # object is collected, which must not happen during another test.
    gc.collect()
    assert "cannot be read: file is not a database." in text


@pytest.mark.django_db(transaction=True)
@on_postgresql
def test_a_lost_connection_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server ends the connection in the middle of the transaction."""
    load = plan.find_faults

    def lose(*args: Any) -> object:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            pid = cursor.fetchone()[0]
        with elsewhere(f"SELECT pg_terminate_backend({pid}, 10000)"):
            return load(*args)

    monkeypatch.setattr(plan, "find_faults", lose)
    text = answer_of_once("apply", "--yes", str(path))
    connection.close()
    assert "could not be made, or was lost: " in text
    assert "Check that the server is running and that DATABASES['default'] is correct, then try again." in text
    assert "It is not known whether the edit was stored" in text


@pytest.mark.django_db(transaction=True)
@on_postgresql
def test_a_missing_privilege_is_named(path: Path) -> None:
    execute("DROP ROLE IF EXISTS declbind_reader")
    execute("CREATE ROLE declbind_reader")
    execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO declbind_reader")
    execute("SET ROLE declbind_reader")
    try:
        text = answer_of("apply", "--yes", str(path))
    finally:
        execute("RESET ROLE")
        execute("DROP OWNED BY declbind_reader")
        execute("DROP ROLE declbind_reader")
    assert "lacks a privilege in database 'default'" in text
    assert "permission denied" in text


@after_ddl
def test_a_constraint_of_the_project_is_not_reported_as_a_concurrent_edit(path: Path) -> None:
    """The unique index is on the table of records, on a column that declbind does not check before."""
    BindingRecord.objects.create(stream="first", model="auth.Group", fields=["name"])
    with altered(f"CREATE UNIQUE INDEX only_one ON {TABLE} (model)", f"DROP INDEX only_one ON {TABLE}"):
        text = answer_of("apply", "--yes", str(path))
    assert MEANWHILE not in text
    assert text.startswith("A row with the same key exists already in database 'default' (")
    assert text.endswith("Nothing was stored.")
    assert [record.stream for record in BindingRecord.objects.all()] == ["first"]


@pytest.mark.django_db
def test_a_record_that_is_added_at_the_same_time_is_a_concurrent_edit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: here the message is right, and the database's own error is its cause."""
    monkeypatch.setattr(BindingRecord, "full_clean", lambda self, *args, **kwargs: None)
    made = plan.plan_items(plan.load_path(path), "default")
    _insert_raw(str(GROUPS["stream"]))
    with pytest.raises(ConfigError, match=MEANWHILE) as raised, transaction.atomic():
        plan.carry_out(made, "default")
    assert isinstance(raised.value.__cause__, IntegrityError)


def _insert_raw(stream: str) -> None:
    """Store a record as another process would, without any effect in this one."""
    record = BindingRecord().assign({**GROUPS, "stream": stream})
    columns = [field for field in BindingRecord._meta.local_fields if not field.primary_key]
    names = ", ".join(connection.ops.quote_name(str(field.column)) for field in columns)
    values = [field.get_db_prep_save(getattr(record, field.attname), connection) for field in columns]
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {TABLE} ({names}) VALUES ({', '.join(['%s'] * len(values))})", values)


@pytest.mark.django_db
def test_a_stream_that_is_stored_twice_is_described() -> None:
    """The message names the table and the column, on each database."""
    _insert_raw("one")
    with pytest.raises(IntegrityError) as raised, transaction.atomic():
        _insert_raw("one")
    fault = describe_fault(raised.value, "default")
    assert fault.text.startswith(f"{MEANWHILE} in database 'default' (")
    assert (fault.action, fault.outcome) == ("Try again.", "Nothing was stored.")


@after_ddl
def test_a_rollback_distinguishes_a_constraint_from_a_concurrent_edit() -> None:
    record = BindingRecord.objects.create(**GROUPS)
    revision = BindingRevision.objects.get()
    record.delete()
    BindingRecord.objects.create(stream="first", model="auth.Group", fields=["name"])
    unique = altered(f"CREATE UNIQUE INDEX only_one ON {TABLE} (model)", f"DROP INDEX only_one ON {TABLE}")
    with unique, pytest.raises(IntegrityError), transaction.atomic():
        history.roll_back(revision, "default", None, "")


@pytest.mark.django_db(transaction=True)
@on_postgresql
def test_two_edits_that_cannot_be_serialised_are_named() -> None:
    """The other transaction changed the row after this one began."""
    BindingRecord.objects.create(**GROUPS)
    with pytest.raises(DatabaseError) as raised, transaction.atomic():
        _change_what_changes()
    fault = describe_fault(raised.value, "default")
    assert fault.kind == "collision"
    assert fault.text.startswith("Another transaction changed the same rows in database 'default' (")


def _change_what_changes() -> None:
    execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
    BindingRecord.objects.count()
    other = threading.Thread(target=_change_elsewhere)
    other.start()
    other.join(30)
    execute(f"UPDATE {TABLE} SET description = 'here'")


def _change_elsewhere() -> None:
    execute(f"UPDATE {TABLE} SET description = 'there'")
    connections.close_all()


def test_an_unknown_error_is_quoted() -> None:
    """The message claims nothing about it."""
    fault = describe_fault(DatabaseError("strange"), "default")
    assert fault.kind == "other"
    assert "reported an error (DatabaseError: strange)." in fault.text
