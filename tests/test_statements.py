"""Execute wrappers and cursors of other packages: text around a statement does not change the events."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, models, transaction
from django.db.backends.utils import CursorWrapper

from declbind.outbound import joint_update, statements
from declbind.testing import capture_events, override_bindings
from tests.zoo.models import Keeper

pytestmark = pytest.mark.django_db

KEEPERS = {"stream": "keepers", "model": "zoo.Keeper", "fields": ["name", "retired"]}
BY_NAME = {**KEEPERS, "stream": "by-name", "groups": ["n-{name}"]}
WORKING = {**KEEPERS, "stream": "working", "where": {"retired": False}}

Way = Callable[[], contextlib.AbstractContextManager[object]]


def rewriting(rewrite: Callable[[str], str]) -> Way:
    """Return a context manager that installs an execute wrapper which rewrites each statement."""

    def run(execute, sql, params, many, context):
        return execute(rewrite(sql), params, many, context)

    return lambda: connection.execute_wrapper(run)


def twice(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    """Execute a write, roll back to a savepoint, and execute it again."""
    # SQLite cannot roll back while a statement has rows to return, which most of Django's inserts request.
    is_busy = connection.vendor == "sqlite" and "RETURNING" in sql
    if not connection.in_atomic_block or is_busy or sql.split()[0] in ("SAVEPOINT", "ROLLBACK", "RELEASE", "SELECT"):
        return execute(sql, params, many, context)
    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        execute(sql, params, many, context)
        raise ZeroDivisionError
    return execute(sql, params, many, context)


class Tagged(CursorWrapper):
    """A cursor of another package that puts a comment on both sides of each statement."""

    def execute(self, sql: Any, params: Any = None) -> Any:
        return super().execute(f"/* begin */ {sql} /* end */;", params)


@contextlib.contextmanager
def wrapped_cursor() -> Iterator[None]:
    make = connection.make_cursor
    connection.make_cursor = lambda cursor: Tagged(cursor, connection)  # type: ignore[method-assign]
    try:
        yield
    finally:
        connection.make_cursor = make  # type: ignore[method-assign]


@contextlib.contextmanager
def first_of_all() -> Iterator[None]:
    """Install an execute wrapper before all others."""

    def run(execute, sql, params, many, context):
        return execute(f"/* first */ {sql}", params, many, context)

    connection.execute_wrappers.insert(0, run)
    try:
        yield
    finally:
        connection.execute_wrappers.remove(run)


def several(before: str) -> Way:
    """Return a context manager that puts statements first, and continues to the last result."""

    def run(execute, sql, params, many, context):
        result = execute(f"{before}; {sql}", params, many, context)
        while context["cursor"].nextset():
            pass
        return result

    return lambda: connection.execute_wrapper(run)


DML = ("SELECT", "INSERT", "UPDATE", "DELETE")
WAYS: dict[str, Way] = {
    "nothing": contextlib.nullcontext,
    "comment before": rewriting(lambda sql: f"/* view=posts */ {sql}"),
    "line before": rewriting(lambda sql: f"-- view=posts\n{sql}"),
    "comment behind": rewriting(lambda sql: f"{sql} /*route='posts'*/"),
    "line behind": rewriting(lambda sql: f"{sql} -- route"),
    "semicolon": rewriting(lambda sql: f"{sql};"),
    "semicolon and comment": rewriting(lambda sql: f"{sql}; -- done"),
    "other spaces": rewriting(lambda sql: "\n  ".join(sql.split(" "))),
    "small letters": rewriting(lambda sql: sql.replace("UPDATE", "update").replace("INSERT", "insert")),
    "with": rewriting(lambda sql: f"WITH t AS (SELECT 1) {sql}" if sql.startswith(DML) else sql),
    "repeated": lambda: connection.execute_wrapper(twice),
    "cursor": wrapped_cursor,
    "first": first_of_all,
}  # fmt: skip
if connection.vendor == "postgresql":
    WAYS["setting"] = several("SET LOCAL declbind_test.a = 'b'")
    WAYS["result"] = several("SELECT set_config('declbind_test.a', 'b', true)")
else:  # Python counts no rows of such a statement on SQLite, with declbind or without
    del WAYS["with"]


def save(row: Keeper) -> None:
    row.name = "saved"
    row.save()


def save_again(row: Keeper) -> None:
    row.save(update_fields=["name"])


def bulk_update(row: Keeper) -> None:
    row.name = "bulk"
    Keeper.objects.bulk_update([row], ["name"])


WRITES: dict[str, Callable[[Keeper], Any]] = {
    "save": save,
    "save of some fields": save_again,
    "create": lambda row: Keeper.objects.create(name="new"),
    "update": lambda row: Keeper.objects.filter(name="Ann").update(name="updated"),
    "update that moves": lambda row: Keeper.objects.filter(pk=row.pk).update(retired=True),
    "update of all": lambda row: Keeper.objects.update(name="all"),
    "update by expression": lambda row: Keeper.objects.update(name=models.functions.Upper("name")),
    "bulk_update": bulk_update,
    "bulk_create": lambda row: Keeper.objects.bulk_create([Keeper(name="b"), Keeper(name="c")]),
    "ignored conflicts": lambda row: Keeper.objects.bulk_create(
        [Keeper(pk=row.pk, name="met"), Keeper(pk=row.pk + 1000, name="new")], ignore_conflicts=True
    ),
    "only a conflict": lambda row: Keeper.objects.bulk_create([Keeper(pk=row.pk, name="x")], ignore_conflicts=True),
    "upsert": lambda row: Keeper.objects.bulk_create(
        [Keeper(pk=row.pk, name="met")], update_conflicts=True, update_fields=["name"],
        unique_fields=None if connection.vendor == "mysql" else ["id"],
    ),
    "delete": lambda row: row.delete(),
    "delete of all": lambda row: Keeper.objects.all().delete(),
    "raw delete": lambda row: Keeper.objects.filter(pk=row.pk)._raw_delete("default"),
    "update or create": lambda row: Keeper.objects.update_or_create(pk=row.pk, defaults={"name": "either"}),
}  # fmt: skip


def reported(write: Callable[[Keeper], Any], way: Way) -> list[Any]:
    """Return the events of a write to a new row, with keys relative to that row's."""
    row = Keeper.objects.create(name="Ann")
    with override_bindings(KEEPERS, BY_NAME, WORKING), capture_events() as events, way():
        wrappers = list(connection.execute_wrappers)
        write(row)
        assert connection.execute_wrappers == wrappers
    assert "compiler" not in vars(connection.ops)
    first = min([int(str(event.pk)) for event in events if event.pk], default=0)
    # The events of one write have no order among streams.
    return [
        (event.stream, event.kind, int(str(event.pk)) - first if event.pk else None, event.changes, event.data)
        for event in sorted(events, key=lambda event: event.stream)
    ]


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
@pytest.mark.parametrize("way", list(WAYS.values())[1:], ids=list(WAYS)[1:])
def test_other_packages_changes_of_statements_change_no_event(way: Way, write: Callable[[Keeper], object]) -> None:
    """A write has the same events under each of them, and its own result is unchanged."""
    with transaction.atomic():
        expected = reported(write, contextlib.nullcontext)
        transaction.set_rollback(True)
    with transaction.atomic():
        assert reported(write, way) == expected
        transaction.set_rollback(True)


@pytest.mark.parametrize("name", ["update", "ignored conflicts", "bulk_update"])
def test_rows_that_are_not_returned_are_read_by_their_keys(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement whose result cannot be found costs a read or a resync, but no event is lost."""
    monkeypatch.setattr(statements, "fetch", lambda cursor, names: None)
    kinds = {(stream, kind) for stream, kind, *_ in reported(WRITES[name], contextlib.nullcontext)}
    kind = "bulk" if name == "ignored conflicts" else "row"
    assert kinds == {(stream, kind) for stream in ("keepers", "by-name", "working")}


@pytest.mark.skipif(connection.vendor != "postgresql", reason="Only PostgreSQL updates and inserts by one statement.")
def test_an_update_that_another_query_made_is_reported_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The events of a save do not depend on being part of its statement."""
    monkeypatch.setattr(joint_update.JointUpdate, "takes", lambda self, query: False)
    row = Keeper.objects.create(name="Ann")
    with override_bindings(KEEPERS), capture_events() as events:
        save(row)
    assert [event.data["name"] for event in events] == ["saved"]


def test_a_failed_write_leaves_the_connection_as_it_was() -> None:
    """The compilers of the block are removed after it, whatever the statement's outcome."""
    row = Keeper.objects.create(name="Ann")
    wrappers = list(connection.execute_wrappers)

    def refuse(execute: object, sql: str, params: object, many: bool, context: object) -> object:
        raise ZeroDivisionError

    for write in ("save", "update", "ignored conflicts", "bulk_update"):
        with override_bindings(KEEPERS), transaction.atomic():
            with pytest.raises(ZeroDivisionError), connection.execute_wrapper(refuse):
                WRITES[write](row)
            transaction.set_rollback(False)
        assert "compiler" not in vars(connection.ops)
        assert connection.execute_wrappers == wrappers
