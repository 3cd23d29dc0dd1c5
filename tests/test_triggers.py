"""Writes by raw SQL and other programs, which triggers capture, without reporting any write twice."""

import contextlib
import datetime as dt
import sqlite3
import uuid

import pytest
from django.db import connection, transaction

from declbind.models import Event
from declbind.outbound import log, sequencer, writes
from declbind.testing import capture_events, override_bindings
from tests.captured_events import changes
from tests.field_values import all_cases, each_column, record
from tests.trigger_marks import BY_NAME, FED, KEEPERS, TRUCKS, marking, run
from tests.zoo.columns import Column
from tests.zoo.models import Animal, Bear, Crate, Feather, Food, Keeper, Truck

pytestmark = [pytest.mark.django_db, pytest.mark.needs_triggers]


def test_raw_sql_is_captured_in_all_its_forms():
    """Insert, update and delete have events with the stored data and the groups of each state."""
    ann = Keeper.objects.create(name="Ann")
    with marking(BY_NAME) as events:
        run("UPDATE zoo_keeper SET name = 'Bea' WHERE id = %s", ann.pk)
        run("INSERT INTO zoo_keeper (name, retired) VALUES ('Cy', %s)", True)
        run("DELETE FROM zoo_keeper WHERE id = %s", ann.pk)
    cy = Keeper.objects.get(name="Cy")
    assert changes(events) == [
        ("keepers", ann.pk, [("n-Ann", "delete"), ("n-Bea", "create")]),
        ("keepers", cy.pk, [("n-Cy", "create")]),
        ("keepers", ann.pk, [("n-Bea", "delete")]),
    ]
    assert [event.data for event in events] == [
        {"name": "Bea", "retired": False},
        {"name": "Cy", "retired": True},
        {"name": "Bea", "retired": False},
    ]
    assert [event.kind for event in events] == ["row", "row", "gone"]


def test_without_triggers_raw_sql_is_not_captured():
    """Control: without triggers, the tests above find no events."""
    ann = Keeper.objects.create(name="Ann")
    with override_bindings(BY_NAME), capture_events() as events:
        run("UPDATE zoo_keeper SET name = 'Bea' WHERE id = %s", ann.pk)
    assert events == []


def test_raw_and_orm_writes_keep_their_order():
    """A row that both write has the same last value for the client and in the database."""
    ann = Keeper.objects.create(name="a")
    with marking(KEEPERS) as events:
        for number in range(3):
            run("UPDATE zoo_keeper SET name = %s WHERE id = %s", f"raw{number}", ann.pk)
            Keeper.objects.filter(pk=ann.pk).update(name=f"orm{number}")
    assert [event.data["name"] for event in events] == ["raw0", "orm0", "raw1", "orm1", "raw2", "orm2"]


def test_nothing_is_reported_twice():
    """The triggers report each kind of ORM write, and its hook stands down."""
    with marking(KEEPERS) as events:
        ann = Keeper.objects.create(name="Ann")
        ann.save()
        Keeper.objects.update(name="x")
        Keeper.objects.bulk_create([Keeper(name="b")])
        Keeper.objects.bulk_create([Keeper(name="c")], ignore_conflicts=True)
        Keeper.objects.bulk_update([ann], ["name"])
        Keeper.objects.filter(pk=ann.pk)._raw_delete("default")
        Keeper.objects.filter(name="b").delete()
        Keeper.objects.get(name="c").delete()
    told = [event.changes[0][1] for event in events]
    assert told == ["create", "update", "update", "create", "create", "update", "delete", "delete", "delete"]


def test_hooks_that_do_not_stand_down_would_be_caught(monkeypatch):
    """Control: hooks and triggers that do not know of each other."""
    monkeypatch.setattr(writes, "find_triggers", lambda *args, **kwargs: "none")
    with pytest.raises(AssertionError):
        test_nothing_is_reported_twice()


def test_rolled_back_marks_leave_no_event():
    """A mark is in the transaction of its write."""
    ann = Keeper.objects.create(name="Ann")
    with marking(KEEPERS) as events:
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            run("UPDATE zoo_keeper SET name = 'x' WHERE id = %s", ann.pk)
            raise ZeroDivisionError
        run("UPDATE zoo_keeper SET name = 'y' WHERE id = %s", ann.pk)
    assert [event.data["name"] for event in events] == ["y"]


def test_failed_orm_write_leaves_the_triggers_active():
    """The suspension ends with its statement, whatever the statement's outcome."""
    owl = Food.objects.create(name="hay")
    foods = {"stream": "foods", "model": "zoo.Food", "fields": ["name"], "capture": "triggers"}
    with marking(foods) as events:
        with contextlib.suppress(Exception), transaction.atomic():
            Food.objects.create(name="hay")
        run("UPDATE zoo_food SET name = 'oats' WHERE id = %s", owl.pk)
    assert [event.data["name"] for event in events] == ["oats"]


def test_bindings_without_triggers_get_no_events_of_marks():
    """Triggers are an option of each binding."""
    ann = Keeper.objects.create(name="Ann")
    with marking(KEEPERS, {**KEEPERS, "stream": "other", "capture": "orm"}) as events:
        run("UPDATE zoo_keeper SET name = 'x' WHERE id = %s", ann.pk)
        Keeper.objects.update(name="y")
    assert sorted((event.stream, event.data["name"]) for event in events) == [
        ("keepers", "x"), ("keepers", "y"), ("other", "y"),
    ]  # fmt: skip


@each_column
def test_each_type_of_column_is_marked_without_loss(model, name):
    """A mark and a hook give the same event when the row is created, changed and deleted."""
    with override_bindings(record(model)), capture_events() as hooked:
        rows = [model.objects.create(**{name: case.value}) for case in all_cases(name)]
    with marking({**record(model), "capture": "triggers"}) as events:
        for row, case in zip(rows, all_cases(name), strict=True):
            new = model.objects.create(**{name: case.value})
            table = model._meta.db_table
            run(f"UPDATE {table} SET id = id WHERE id = %s", row.pk)
            run(f"DELETE FROM {table} WHERE id = %s", new.pk)
    expected, sent = [event.data[name] for event in hooked], [event.data[name] for event in events]
    assert sent[0::3] == expected
    assert sent[1::3] == expected
    assert sent[2::3] == expected
    assert len(sent) == 3 * len(all_cases(name))


def test_changed_key_is_a_deleted_row_and_a_created_one():
    """Clients know rows by their keys."""
    crate = Crate.objects.create(label="x")
    crates = {"stream": "crates", "model": "zoo.Crate", "fields": ["label"], "capture": "triggers"}
    other = uuid.uuid4()
    with marking(crates) as events:
        Crate.objects.none()
        value = other if connection.vendor == "postgresql" else other.hex
        old = crate.pk if connection.vendor == "postgresql" else crate.pk.hex
        run("UPDATE zoo_crate SET id = %s WHERE id = %s", value, old)
    assert sorted((event.pk, event.changes[0][1]) for event in events) == sorted(
        [(str(crate.pk), "delete"), (str(other), "create")]
    )


def test_through_rows_written_by_sql_change_lists():
    """The row that owns the list is sent with the list as it is now."""
    owl = Animal.objects.create(name="Owl")
    hay = Food.objects.create(name="hay")
    with marking(FED) as events:
        run("INSERT INTO zoo_animal_foods (animal_id, food_id) VALUES (%s, %s)", owl.pk, hay.pk)
        owl.foods.clear()
    assert changes(events) == [("fed", owl.pk, [("fed", "update")])] * 2


def test_through_rows_written_by_sql_concern_bindings_that_send_the_list():
    """Another binding of the same rows sends nothing."""
    owl, hay = Animal.objects.create(name="Owl"), Food.objects.create(name="hay")
    names = {"stream": "names", "model": "zoo.Animal", "fields": ["name"], "capture": "triggers"}
    with marking(FED, names) as events:
        run("INSERT INTO zoo_animal_foods (animal_id, food_id) VALUES (%s, %s)", owl.pk, hay.pk)
    assert [event.stream for event in events] == ["fed"]


def test_parents_table_written_by_sql_is_reported_by_the_childs_binding():
    """Both tables of a row have triggers, and the row's groups may depend on either."""
    truck = Truck.objects.create(plate="A", load=1)
    with marking({**TRUCKS, "groups": ["p-{plate}"]}) as events:
        run("UPDATE zoo_vehicle SET plate = 'B' WHERE id = %s", truck.pk)
        sequencer.settle("default")
        run("UPDATE zoo_truck SET load = 2 WHERE vehicle_ptr_id = %s", truck.pk)
        sequencer.settle("default")
        truck.plate = "C"
        truck.save()
    assert [(event.changes, event.data) for event in events] == [
        ([("p-A", "delete"), ("p-B", "create")], {"plate": "B", "load": 1}),
        ([("p-B", "update")], {"plate": "B", "load": 2}),
        ([("p-B", "delete"), ("p-C", "create")], {"plate": "C", "load": 1}),
    ]


def test_row_whose_base_manager_may_hide_it_is_reported_by_group():
    """Whether it was shown before is unknown, so the groups take a snapshot."""
    bear = Bear.awake.create(name="Bo", den=1)
    bears = {"stream": "b", "model": "zoo.Bear", "fields": ["name"], "groups": ["d-{den}"], "capture": "triggers"}
    with marking(bears) as events:
        run("UPDATE zoo_bear SET asleep = %s WHERE id = %s", True, bear.pk)
    assert [event.changes for event in events] == [[("*", "resync")]]


def test_many_rows_are_reported_by_group(settings):
    """As for the ORM: above the limit, all groups take a snapshot."""
    settings.DECLBIND = {"BULK_LIMIT": 2}
    for name in "abc":
        Keeper.objects.create(name=name)
    with marking(KEEPERS) as events:
        run("UPDATE zoo_keeper SET name = 'x'")
        run("UPDATE zoo_keeper SET name = 'y' WHERE id = (SELECT MIN(id) FROM zoo_keeper)")
    kinds = [event.kind for event in events]
    assert kinds[0] == "bulk"
    assert events[0].changes == [("*", "resync")]


def test_a_write_beside_a_large_call_is_reported_by_itself(settings):
    """Waiting marks are counted by call, so a large call does not include a small one."""
    settings.DECLBIND = {"BULK_LIMIT": 2}
    ann = Keeper.objects.create(name="Ann")
    with marking(KEEPERS) as events:
        run("UPDATE zoo_keeper SET name = 'x' WHERE id = %s", ann.pk)
        Keeper.objects.bulk_create(Keeper(name=name) for name in "abc")
    assert [event.kind for event in events] == ["row", "bulk"]
    assert events[0].data == {"name": "x", "retired": False}


def test_unconvertible_marks_do_not_block_the_log(caplog, monkeypatch):
    """Clients get a resync, and the log continues."""
    from declbind.outbound.triggers import marks

    ann = Keeper.objects.create(name="Ann")
    monkeypatch.setattr(marks, "_draft", lambda *args: 1 / 0)
    with marking(KEEPERS, {"stream": "foods", "model": "zoo.Food", "fields": ["name"]}) as events:
        run("UPDATE zoo_keeper SET name = 'x' WHERE id = %s", ann.pk)
        Food.objects.create(name="hay")
    assert [event.kind for event in events] == ["bulk", "row"]
    assert "zoo_keeper" in caplog.text


def test_marks_leave_no_gap_in_the_log():
    """This holds before and after marks become events, whatever their number."""
    ann = Keeper.objects.create(name="a")
    with marking({**KEEPERS, "where": {"retired": False}}, {**KEEPERS, "stream": "twice"}) as events:
        before = log.load_head("default")
        ann.save()
        run("UPDATE zoo_keeper SET name = 'b' WHERE id = %s", ann.pk)
        pending = log.look(before.offset, 100, "default")
        run("INSERT INTO zoo_keeper (name, retired) VALUES ('c', %s)", True)
        ann.save()
        assert pending.has_waiting
        assert pending.head.is_whole
        sequencer.settle("default")
        sequencer.sequence("default")
        after = log.look(before.offset, 100, "default")
    assert [event.offset for event in after.events] == list(range(before.offset + 1, after.head.offset + 1))
    assert after.head.is_whole
    assert not after.has_waiting
    assert sorted(event.stream for event in events) == ["keepers"] * 3 + ["twice"] * 4


def test_a_snapshot_includes_the_marks_of_its_state():
    """Rows in the snapshot are not sent again."""
    ann = Keeper.objects.create(name="a")
    with marking(KEEPERS):
        run("UPDATE zoo_keeper SET name = 'b' WHERE id = %s", ann.pk)
        with sequencer.numbered_read("default") as head:
            assert Keeper.objects.get(pk=ann.pk).name == "b"
        assert log.look(head.offset, 10, "default").events == []


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has neither COPY nor TRUNCATE.")
def test_copy_and_truncate_on_postgresql():
    """COPY is reported row by row, TRUNCATE as a whole."""
    with marking(KEEPERS) as events:
        with connection.cursor() as cursor, cursor.copy("COPY zoo_keeper (name, retired) FROM STDIN") as rows:
            rows.write_row(("Ann", True))
        sequencer.settle("default")
        run("TRUNCATE zoo_keeper CASCADE")
    assert [(event.changes, event.data) for event in events] == [
        ([("keepers", "create")], {"name": "Ann", "retired": True}),
        ([("*", "resync")], {}),
    ]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite writes values one way only.")
def test_settings_of_the_writer_do_not_matter():
    """They may set other formats for dates and bytes."""
    columns = {"stream": "columns", "model": "zoo.Column", "fields": "__all__", "capture": "triggers"}
    moment = dt.datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=dt.UTC)
    row = Column.objects.create(
        date=moment.date(), date_time=moment, duration=dt.timedelta(days=-1, hours=2), binary=b"\xff", float=0.1
    )
    with marking(columns) as events:
        row.save()
        for setting in ("datestyle = 'SQL, DMY'", "timezone = 'Asia/Tokyo'", "intervalstyle = 'iso_8601'",
                        "bytea_output = 'escape'", "extra_float_digits = -5"):  # fmt: skip
            run(f"SET LOCAL {setting}")
        run("UPDATE zoo_column SET id = id WHERE id = %s", row.pk)
        for name in ("datestyle", "timezone", "intervalstyle", "bytea_output", "extra_float_digits"):
            run(f"RESET {name}")
    orm, raw = events
    assert raw.data == orm.data


def test_database_cascades_are_captured():
    """Both the rows of the statement and cascaded rows have events."""
    feathers = {"stream": "feathers", "model": "zoo.Feather", "fields": ["colour"], "capture": "triggers"}
    animals = {"stream": "animals", "model": "zoo.Animal", "fields": ["name"], "capture": "triggers"}
    owl = Animal.objects.create(name="Owl")
    Feather.objects.create(animal=owl, colour="red")
    connection.check_constraints()  # which ends what would hold the tables up
    run(CASCADE[connection.vendor])
    with marking(feathers, animals) as events:
        Animal.objects.filter(pk=owl.pk)._raw_delete("default")
    connection.check_constraints()
    run(NO_CASCADE[connection.vendor])
    assert sorted((event.stream, event.changes[0][1]) for event in events) == [
        ("animals", "delete"), ("feathers", "delete"),
    ]  # fmt: skip


#: A cascade as ``DB_CASCADE`` makes one; SQLite takes a trigger for it, as its keys cannot be changed.
CASCADE = {
    "postgresql": "ALTER TABLE zoo_feather ADD CONSTRAINT goes_along FOREIGN KEY (animal_id) REFERENCES zoo_animal (id)"
    " ON DELETE CASCADE",
    "sqlite": "CREATE TRIGGER goes_along BEFORE DELETE ON zoo_animal"
    " BEGIN DELETE FROM zoo_feather WHERE animal_id = OLD.id; END",
}
NO_CASCADE = {
    "postgresql": "ALTER TABLE zoo_feather DROP CONSTRAINT goes_along",
    "sqlite": "DROP TRIGGER goes_along",
}


@pytest.mark.django_db(transaction=True)
def test_another_program_is_captured():
    """A connection that knows nothing of Django writes in a transaction of its own."""
    ann = Keeper.objects.create(name="Ann")
    with marking(KEEPERS) as events:
        if connection.vendor == "sqlite":
            with contextlib.closing(sqlite3.connect(connection.settings_dict["NAME"])) as other:
                other.execute("UPDATE zoo_keeper SET name = 'Bea' WHERE id = ?", [ann.pk])
                other.commit()
        else:
            import psycopg

            settings = connection.settings_dict
            with psycopg.connect(
                host=settings["HOST"], port=settings["PORT"], user=settings["USER"], dbname=settings["NAME"]
            ) as other:
                other.execute("UPDATE zoo_keeper SET name = 'Bea' WHERE id = %s", [ann.pk])
    assert [event.data["name"] for event in events] == ["Bea"]
    assert Event.objects.get(stream="keepers", kind="row").origin.startswith("SQL")
