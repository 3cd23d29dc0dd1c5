"""Tables that do not simply store what a statement says: events hold the result, and the write succeeds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, models, transaction

from declbind.core.frames import EVERY_GROUP
from declbind.live.snapshots import read_snapshot
from declbind.models import Traffic
from declbind.outbound import catalog
from declbind.registry import get_registry
from declbind.testing import capture_events, override_bindings
from tests.test_stored_rows import bulk_update, make, record, save, save_one, stored, update
from tests.zoo.guests import Kept, Quoted, Rounded, Viewed

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor == "mysql", reason="The statements are those of the other two databases."),
]

IS_SQLITE = connection.vendor == "sqlite"
WRITES = [save, save_one, update, bulk_update]


def run(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@pytest.fixture(autouse=True)
def fresh_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start without cached answers, and with a connection that detects changes of tables."""
    monkeypatch.setattr(catalog, "_answers", {})
    catalog.install()


def put_trigger(table: str, when: str, *body: str, result: str = "NEW") -> None:
    """Put a trigger for each row on a table: before the write on PostgreSQL, after it on SQLite."""
    if IS_SQLITE:
        run(f"CREATE TRIGGER strange {when} ON {table} FOR EACH ROW BEGIN {'; '.join(body)}; END")
    else:
        run(
            f"CREATE FUNCTION strange() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {'; '.join(body)};"
            f" RETURN {result}; END $$",
            f"CREATE TRIGGER strange {when} ON {table} FOR EACH ROW EXECUTE FUNCTION strange()",
        )


@pytest.fixture
def raised_text() -> None:
    """Each written row is stored in capital letters, in the next room."""
    change = "text = upper(NEW.text), room = NEW.room + 10"
    if IS_SQLITE:
        for event in ("INSERT", "UPDATE"):
            run(
                f"CREATE TRIGGER raise_{event} AFTER {event} ON zoo_kept FOR EACH ROW WHEN NEW.room < 10"
                f" BEGIN UPDATE zoo_kept SET {change} WHERE id = NEW.id; END"
            )
    else:
        put_trigger(
            "zoo_kept",
            "BEFORE INSERT OR UPDATE",
            "IF NEW.room < 10 THEN NEW.text = upper(NEW.text); NEW.room = NEW.room + 10; END IF",
        )


def check_that_a_changed_write_is_told(write: Any) -> None:
    row = Kept(text="one", room=1)
    with override_bindings(record(Kept)), capture_events() as events:
        row.save()
        row.text, row.room = "two", 2
        write(row)
        Kept.objects.bulk_create([Kept(text="three", room=3)])
    latest = Kept.objects.latest("pk").pk
    assert [event.data for event in events[1:]] == [stored(Kept, row.pk), stored(Kept, latest)]
    assert events[0].data["text"] == "ONE"
    groups = [[group for group, action in event.changes if action != "delete"] for event in events]
    assert groups == [["room-11"], [f"room-{events[1].data['room']}"], ["room-13"]]


@pytest.mark.parametrize("write", WRITES)
def test_the_values_that_a_trigger_stores_are_reported(write: object, raised_text: None) -> None:
    """This holds for each kind of write."""
    check_that_a_changed_write_is_told(write)


def test_a_change_of_a_table_elsewhere_is_detected_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in this process indicates the change."""
    monkeypatch.setattr(catalog, "_DEFINITION", re.compile("nothing is recognised"))
    monkeypatch.setattr(catalog, "_schema_version", lambda connection: 1)
    monkeypatch.setattr(catalog, "SECONDS", 1_000.0)
    catalog.facts_of(Kept, "default")
    run("DROP TABLE zoo_kept")
    assert catalog.facts_of(Kept, "default").is_ordinary
    until = catalog._answers[Kept, "default", None][0]
    monkeypatch.setattr("declbind.outbound.catalog.time.monotonic", lambda: until)
    assert not catalog.facts_of(Kept, "default").is_ordinary


def test_what_the_instance_holds_would_be_caught(raised_text: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a variant that treats every table as an ordinary one."""
    names = frozenset(field.attname for field in Kept._meta.concrete_fields)
    monkeypatch.setattr(catalog, "_ask", lambda model, connection: catalog.TableFacts(True, True, names))
    with pytest.raises(AssertionError):
        check_that_a_changed_write_is_told(save)


def test_a_trigger_that_is_added_later_is_detected() -> None:
    """This process creates the trigger itself."""
    row = make(Kept, text="one")
    with override_bindings(record(Kept)), capture_events() as events:
        row.save()
        change = "UPDATE zoo_kept SET text = upper(text) WHERE id = NEW.id"
        when = "AFTER UPDATE OF room" if IS_SQLITE else "BEFORE UPDATE"
        put_trigger("zoo_kept", when, change if IS_SQLITE else "NEW.text = upper(NEW.text)")
        row.save()
    assert [event.data["text"] for event in events] == ["one", "ONE"]


DELETES = {
    "delete": lambda row: row.delete(),
    "query": lambda row: Kept.objects.filter(pk=row.pk).delete(),
    "raw": lambda row: Kept.objects.filter(pk=row.pk)._raw_delete("default"),
}


def soften() -> None:
    """Turn a delete into an update."""
    change = "UPDATE zoo_kept SET is_gone = {} WHERE id = OLD.id"
    if IS_SQLITE:
        put_trigger("zoo_kept", "BEFORE DELETE", change.format(1), "SELECT RAISE(IGNORE)")
    else:
        put_trigger("zoo_kept", "BEFORE DELETE", change.format("true"), result="NULL")


def check_that_a_row_that_stays_is_not_deleted(delete: Any, **keys: Any) -> list[Any]:
    soften()
    row = make(Kept, text="one")
    with override_bindings(record(Kept, **keys)), capture_events() as events:
        delete(row)
    assert Kept.objects.count() == 1
    assert all(event.kind != "gone" for event in events)
    return [(event.changes, event.data) for event in events]


@pytest.mark.parametrize("delete", DELETES.values(), ids=DELETES)
def test_a_delete_that_keeps_the_row_is_an_update(delete: object) -> None:
    """A trigger turns the delete into an update."""
    told = check_that_a_row_that_stays_is_not_deleted(delete)
    assert told == [([("room-1", "update")], {"text": "one", "room": 1, "is_gone": True})]


def test_a_soft_delete_that_takes_a_row_out_of_where_is_a_delete() -> None:
    """Clients no longer see the row."""
    told = check_that_a_row_that_stays_is_not_deleted(DELETES["delete"], where={"is_gone": False})
    assert told == [([("room-1", "delete")], {})]


def test_an_invented_delete_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a variant that reports a delete without reading the row."""
    monkeypatch.setattr("declbind.outbound.written_rows.WrittenRows.forget_staying", lambda self: None)
    with pytest.raises(AssertionError):
        check_that_a_row_that_stays_is_not_deleted(DELETES["delete"])


def test_a_cancelled_insert_leaves_no_event() -> None:
    """A trigger cancels the insert."""
    if IS_SQLITE:
        put_trigger("zoo_rounded", "BEFORE INSERT", "SELECT RAISE(IGNORE)")
    else:
        put_trigger("zoo_rounded", "BEFORE INSERT", "NULL", result="NULL")
    with override_bindings(record(Rounded)), capture_events() as events:
        Rounded(pk=77, text="one").save(force_insert=True)
    assert not Rounded.objects.exists()
    assert events == []


@pytest.mark.parametrize("write", WRITES)
def test_table_and_column_names_may_need_quotes(write: Any) -> None:
    """The events equal those of plain names."""
    row = make(Quoted, text="one")
    row.text = "two"
    with override_bindings(record(Quoted, groups=["order-{order}"])), capture_events() as events, transaction.atomic():
        write(row)
        pk = row.pk
        row.delete()
    assert [(event.kind, event.pk, event.data["text"]) for event in events] == [("row", pk, "two"), ("gone", pk, "two")]
    assert events[0].changes == [("order-1", "update")]


@pytest.fixture(params=["plain", "distinct"])
def view(request: pytest.FixtureRequest) -> Iterator[None]:
    """Return a view whose rows can be written through rules of the database."""
    word = "DISTINCT" if request.param == "distinct" else ""
    run("CREATE TABLE zoo_behind (id integer PRIMARY KEY, text varchar(50), room integer)")
    run(f"CREATE VIEW zoo_viewed AS SELECT {word} id, text, room FROM zoo_behind")
    change = "UPDATE zoo_behind SET text = upper(NEW.text), room = NEW.room WHERE id = OLD.id"
    removal = "DELETE FROM zoo_behind WHERE id = OLD.id"
    if IS_SQLITE:
        run(
            f"CREATE TRIGGER viewed_update INSTEAD OF UPDATE ON zoo_viewed BEGIN {change}; END",
            f"CREATE TRIGGER viewed_delete INSTEAD OF DELETE ON zoo_viewed BEGIN {removal}; END",
        )
    else:
        run(
            f"CREATE RULE viewed_update AS ON UPDATE TO zoo_viewed DO INSTEAD {change}",
            f"CREATE RULE viewed_delete AS ON DELETE TO zoo_viewed DO INSTEAD {removal}",
        )
    run("INSERT INTO zoo_behind VALUES (1, 'one', 1)")
    yield
    run("DROP VIEW zoo_viewed", "DROP TABLE zoo_behind")


def test_rows_of_a_view_are_reported(view: None) -> None:
    """They cannot be locked if the view is distinct, and are changed by rules."""
    with override_bindings(record(Viewed)), capture_events() as events, transaction.atomic():
        assert models.QuerySet(Viewed).filter(pk=1).update(text="two", room=2) == 1 or IS_SQLITE
        Viewed(pk=1, text="three", room=2).save(force_update=True) if not IS_SQLITE else None
        Viewed.objects.filter(pk=1).delete()
    told = [(event.kind, event.changes) for event in events]
    assert told[0] == ("row", [("room-1", "delete"), ("room-2", "create")])
    assert told[-1] == ("gone", [("room-2", "delete")])
    assert {event.data["text"] for event in events} <= {"TWO", "THREE"}


def test_a_view_has_snapshots(view: None) -> None:
    """The snapshot has the rows of the view."""
    with override_bindings(record(Viewed)):
        bound = get_registry().by_stream["notes"](using="default")
        assert read_snapshot(bound, "room-1", {"room": 1}, "default").pages == [[("1", '{"text":"one","room":1}')]]


def check_that_a_column_that_is_not_there_costs_a_resync() -> None:
    row = make(Kept, text="one")
    run("ALTER TABLE zoo_kept DROP COLUMN is_gone")
    with override_bindings(record(Kept)), capture_events() as events, transaction.atomic():
        assert Kept.objects.filter(pk=row.pk).update(text="two") == 1
        row.text = "three"
        row.save(update_fields=["text"])
    assert [(event.kind, event.changes) for event in events] == [("bulk", [(EVERY_GROUP, "resync")])] * 2
    faults = Traffic.objects.filter(stream="notes", kind=Traffic.ERROR)
    assert faults.count() >= 2
    with connection.cursor() as cursor:
        cursor.execute("SELECT text FROM zoo_kept")
        assert cursor.fetchall() == [("three",)]


def test_a_read_that_fails_costs_a_resync() -> None:
    """In a half-finished deployment, the write succeeds in a transaction that continues; the cause is recorded."""
    check_that_a_column_that_is_not_there_costs_a_resync()


@pytest.mark.skipif(IS_SQLITE, reason="A statement that fails does not end a transaction of SQLite.")
def test_a_read_without_a_savepoint_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the failed read ends the transaction."""
    names = frozenset(field.attname for field in Kept._meta.concrete_fields)
    monkeypatch.setattr(catalog, "_ask", lambda model, connection: catalog.TableFacts(True, True, names))
    with pytest.raises(Exception, match=r"transaction|is_gone"), transaction.atomic():
        check_that_a_column_that_is_not_there_costs_a_resync()


def test_a_column_of_another_type_is_read_back() -> None:
    """PostgreSQL pads `char` with blanks, and SQLite converts text to numbers."""
    row = make(Kept, text="007")
    if IS_SQLITE:
        run("ALTER TABLE zoo_kept DROP COLUMN text", "ALTER TABLE zoo_kept ADD COLUMN text integer NULL")
    else:
        run("ALTER TABLE zoo_kept ALTER COLUMN text TYPE char(5)")
    with override_bindings(record(Kept)), capture_events() as events:
        row.save()
    assert events[0].data["text"] == stored(Kept, row.pk)["text"] != "007"
