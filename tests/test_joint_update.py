"""Updates that store their events: one statement on PostgreSQL, with the same events as any other save."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, models, transaction
from django.test.utils import CaptureQueriesContext

from declbind import WebsocketBinding
from declbind.models import Event
from declbind.outbound import saves
from declbind.outbound.index import plan_for
from declbind.outbound.joint_update import JointUpdate, can_join
from declbind.testing import capture_events, override_bindings
from tests.json_types import JSONObject
from tests.zoo.models import Animal, Keeper, Truck

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(
        connection.vendor != "postgresql", reason="Only PostgreSQL updates and inserts by one statement."
    ),
]

KEEPERS = {"stream": "keepers", "model": "zoo.Keeper", "fields": ["name"]}
ALSO = {"stream": "also", "model": "zoo.Keeper", "fields": ["name", "retired"]}
WORKING = {"stream": "working", "model": "zoo.Keeper", "fields": ["name"], "where": {"retired": False}}
BY_KEEPER = {"stream": "animals", "model": "zoo.Animal", "fields": ["name"], "groups": ["keeper-{keeper_id}"]}


@pytest.fixture
def keeper() -> Keeper:
    return Keeper.objects.create(name="Ann")


def statements(captured: CaptureQueriesContext) -> list[str]:
    return [query["sql"].split()[0] for query in captured]


def test_the_event_is_that_of_an_ordinary_save(keeper, monkeypatch):
    """Every column but the id and the time equals what two statements would have stored."""
    rows = []
    for joins in (True, False):
        if not joins:
            monkeypatch.setattr(saves, "can_join", lambda *args: False)
        with override_bindings(KEEPERS, ALSO), CaptureQueriesContext(connection) as captured:
            keeper.name = 'Bob\'s "100 %" \\ é \u2028 %s'
            keeper.save()
        assert ("WITH" in statements(captured)) is joins
        found = list(Event.objects.order_by("-id")[:2].values())
        rows.append(sorted(({**row, "id": 0, "created_at": None} for row in found), key=lambda row: str(row["stream"])))
        Event.objects.all().delete()
    assert len(rows[0]) == 2
    assert rows[0] == rows[1]


def test_in_autocommit_it_is_one_statement(keeper):
    """It needs no transaction around it, and a wake-up is sent."""
    with override_bindings(KEEPERS), CaptureQueriesContext(connection) as captured:
        keeper.save()
    assert statements(captured) == ["WITH"]


def test_a_row_that_moves_is_read_first(animal_of_two_keepers):
    """Old groups are those of the stored row, which stays locked until it is written."""
    animal, other = animal_of_two_keepers
    old = animal.keeper_id
    with override_bindings(BY_KEEPER), capture_events() as events, CaptureQueriesContext(connection) as captured:
        animal.keeper = other
        animal.save()
    assert [word for word in statements(captured) if word in ("SELECT", "WITH", "UPDATE")][:2] == ["SELECT", "WITH"]
    assert events[0].changes == [(f"keeper-{old}", "delete"), (f"keeper-{other.pk}", "create")]


@pytest.fixture
def animal_of_two_keepers() -> tuple[Animal, Keeper]:
    one, other = Keeper.objects.create(name="one"), Keeper.objects.create(name="other")
    return Animal.objects.create(name="Owl", keeper=one), other


def test_a_deleted_row_is_inserted_again_as_by_django(keeper):
    """The update matches nothing and inserts no event. One create follows."""
    Keeper.objects.filter(pk=keeper.pk).delete()
    with override_bindings(KEEPERS), capture_events() as events:
        keeper.save()
    assert [event.changes for event in events] == [[("keepers", "create")]]
    assert Keeper.objects.filter(pk=keeper.pk).exists()


def test_a_forced_update_of_a_deleted_row_is_an_error(keeper):
    """``force_update`` behaves as without a binding, and leaves the transaction usable."""
    Keeper.objects.filter(pk=keeper.pk).delete()
    with override_bindings(KEEPERS), capture_events() as events:
        with pytest.raises(DatabaseError, match="did not affect any rows"), transaction.atomic():
            keeper.save(force_update=True)
        assert Keeper.objects.count() == 0
    assert events == []


@contextlib.contextmanager
def log_that_refuses() -> Any:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE declbind_event ADD CONSTRAINT refuses CHECK (stream <> 'keepers') NOT VALID")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE declbind_event DROP CONSTRAINT refuses")


def check_that_row_and_event_stand_or_fall_together(keeper: Keeper) -> None:
    with override_bindings(KEEPERS), log_that_refuses():
        keeper.name = "changed"
        with contextlib.suppress(IntegrityError):
            keeper.save()
    keeper.refresh_from_db()
    assert keeper.name == "Ann"


@pytest.mark.django_db(transaction=True)
def test_an_event_that_cannot_be_stored_undoes_the_update():
    """In autocommit, the database executes the whole statement or nothing of it."""
    check_that_row_and_event_stand_or_fall_together(Keeper.objects.create(name="Ann"))


@pytest.mark.django_db(transaction=True)
def test_two_statements_without_a_transaction_are_detected(monkeypatch):
    """Negative control: the plain update, and the insert after it."""

    def apart(self: JointUpdate, cursor: Any) -> int:
        count: int = cursor.rowcount
        cursor.execute(
            "INSERT INTO declbind_event (stream, kind, model, object_pk, changes, data, version, actor, origin,"
            " created_at) VALUES ('keepers', 'row', '', '1', '[]', '{}', 0, '', '', now())"
        )
        return count

    monkeypatch.setattr(JointUpdate, "extend", lambda self, sql, params: (sql, params))
    monkeypatch.setattr(JointUpdate, "finish", apart)
    with pytest.raises(AssertionError):
        check_that_row_and_event_stand_or_fall_together(Keeper.objects.create(name="Ann"))


@pytest.mark.django_db(transaction=True)
def test_a_wake_up_is_sent_after_the_commit(monkeypatch):
    """It is sent at once in autocommit, after the commit in a transaction, and never for rolled-back work."""
    keeper = Keeper.objects.create(name="Ann")
    rung: list[str] = []
    monkeypatch.setattr("declbind.outbound.log.ring", rung.append)
    with override_bindings(KEEPERS):
        keeper.save()
        assert len(rung) == 1
        with transaction.atomic():
            keeper.save()
            keeper.save()
            assert len(rung) == 1
        assert len(rung) == 2
        with contextlib.suppress(KeyError), transaction.atomic():
            keeper.save()
            raise KeyError
        assert len(rung) == 2


@pytest.mark.django_db(transaction=True)
def test_without_autocommit_an_update_takes_two_statements():
    """Outside of ``atomic()`` Django has no commit hooks then. The write works as usual."""
    keeper = Keeper.objects.create(name="Ann")
    with override_bindings(KEEPERS), capture_events() as events:
        transaction.set_autocommit(False)
        try:
            keeper.name = "Bob"
            keeper.save()
            transaction.commit()
        finally:
            transaction.set_autocommit(True)
    assert [event.data for event in events] == [{"name": "Bob"}]


def may_join(instance: models.Model, *bindings: Any) -> bool:
    with override_bindings(*bindings):
        plan = plan_for(type(instance))
        assert plan is not None
        return can_join(plan, instance, "default")


def test_updates_that_need_a_read_afterwards_take_two_statements(keeper):
    """These are values that the database or saving changes, new rows, and code of the project."""
    assert may_join(keeper, KEEPERS)
    assert may_join(keeper, WORKING)
    assert not may_join(Keeper(pk=keeper.pk, name="made by key"), KEEPERS)
    assert not may_join(keeper, KEEPERS, Shouting)
    keeper.name = models.F("name")
    assert not may_join(keeper, KEEPERS)
    animal = Animal.objects.create(name="Owl", keeper=Keeper.objects.create(name="Bob"))
    assert may_join(animal, BY_KEEPER)
    assert not may_join(animal, {**BY_KEEPER, "fields": ["name", "changed"]})
    truck = Truck.objects.create(plate="A")
    assert not may_join(truck, {"stream": "trucks", "model": "zoo.Truck", "fields": ["load"]})


class Shouting(WebsocketBinding):
    """A binding that sends more than its fields."""

    model = Keeper
    stream = "shouting"
    fields = ("name",)

    def serialize_data(self, instance: Any) -> JSONObject:
        return {"name": instance.name.upper()}


def test_a_rewritten_update_takes_two_statements(keeper):
    """Another package rewrites statements on this connection. Nothing is executed twice, and no event is missing."""

    def remark(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        return execute(f"/* seen */ {sql}", params, many, context)

    with override_bindings(KEEPERS), capture_events() as events, connection.execute_wrapper(remark):
        keeper.name = "Bob"
        keeper.save()
    assert [event.data for event in events] == [{"name": "Bob"}]
    keeper.refresh_from_db()
    assert keeper.name == "Bob"
