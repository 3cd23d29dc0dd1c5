"""Capture with tenants: each event has the tenant of its write, and a row of an unknown tenant is a resync."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import transaction
from django.db.models.signals import pre_delete
from django.test.utils import override_settings

from declbind import signals, tenancy, touch
from declbind.models import Event
from declbind.outbound import log, tenants
from declbind.testing import capture_events, override_bindings
from tests.captured_events import FED, KEEPERS
from tests.tenants.classes import Separate, current, inside, separate
from tests.zoo.models import Animal, Food, Keeper, Truck

pytestmark = pytest.mark.django_db

NAMED = {**KEEPERS, "groups": ["named-{name}"]}
TRUCKS = {"stream": "trucks", "model": "zoo.Truck", "fields": ["plate", "load"], "groups": ["plate-{plate}"]}
BY_KEEPER = {
    "stream": "animals", "model": "zoo.Animal", "fields": ["name"], "groups": ["kind-{kind}"], "also": ["keeper"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def site() -> Iterator[None]:
    """Use a site with tenants."""
    with override_settings(DECLBIND=separate()):
        yield


@pytest.fixture
def faults() -> Iterator[list[Exception]]:
    """Collect the faults of bindings."""
    found: list[Exception] = []

    def note(*, error, **kwargs):
        found.append(error)

    signals.binding_failed.connect(note)
    yield found
    signals.binding_failed.disconnect(note)


def save(keeper: Keeper) -> None:
    keeper.name = "Bea"
    keeper.save()


def bulk_update(keeper: Keeper) -> None:
    keeper.name = "Bea"
    Keeper.objects.bulk_update([keeper], ["name"])


def upsert(keeper: Keeper) -> None:
    row = Keeper(pk=keeper.pk, name="Eve")
    Keeper.objects.bulk_create([row], update_conflicts=True, unique_fields=["id"], update_fields=["name"])


WRITES: dict[str, Callable[[Keeper], object]] = {
    "create": lambda keeper: Keeper.objects.create(name="Cid"),
    "save": save,
    "save_loaded": lambda keeper: save(Keeper.objects.get(pk=keeper.pk)),
    "update": lambda keeper: Keeper.objects.update(name="Bea"),
    "bulk_update": bulk_update,
    "bulk_create": lambda keeper: Keeper.objects.bulk_create([Keeper(name="Cid"), Keeper(name="Dan")]),
    "upsert": upsert,
    "delete": lambda keeper: keeper.delete(),
    "delete_rows": lambda keeper: Keeper.objects.all().delete(),
    "raw_delete": lambda keeper: Keeper.objects.all()._raw_delete("default"),
    "touch": lambda keeper: touch([keeper]),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("is_atomic", [True, False])
def test_each_write_has_the_tenant_of_its_connection(write: Any, is_atomic: bool) -> None:
    """This holds for each way to write, in a transaction and outside of one."""
    for name in ("acme", "beta"):
        with inside(name):
            keeper = Keeper.objects.create(name="Ann")
            with override_bindings(NAMED), capture_events() as events:
                if is_atomic:
                    with transaction.atomic():
                        write(keeper)
                else:
                    write(keeper)
            Keeper.objects.all().delete()
        assert events
        assert {event.tenant for event in events} == {name}
        assert {event.kind for event in events} <= {Event.ROW, Event.GONE}


def test_a_call_of_many_rows_is_one_resync_of_the_tenant() -> None:
    """Subscribers of other tenants get nothing."""
    limit = override_settings(DECLBIND={**separate(), "BULK_LIMIT": 2})
    with limit, inside("acme"), override_bindings(NAMED), capture_events() as events:
        Keeper.objects.bulk_create([Keeper(name="Ann") for _ in range(3)])
    assert [(event.kind, event.tenant, event.changes) for event in events] == [
        (Event.BULK, "acme", [("named-Ann", "resync")])
    ]


def test_lists_children_and_related_rows_have_the_tenant() -> None:
    with inside("beta"), override_bindings({**FED, "relate": {"foods": "any"}}, TRUCKS, BY_KEEPER):
        keeper, food = Keeper.objects.create(name="Ann"), Food.objects.create(name="mice")
        animal = Animal.objects.create(name="Owl", keeper=keeper)
        with capture_events() as events:
            animal.foods.add(food)
            animal.foods.set([])
            Truck.objects.create(plate="A", load=1)
            save(keeper)
    assert {event.stream for event in events} == {"fed", "trucks", "animals"}
    assert {event.tenant for event in events} == {"beta"}


def check_that_halves_are_told_apart() -> None:
    with override_bindings(NAMED), capture_events() as events, transaction.atomic():
        with inside("acme"):
            Keeper.objects.create(name="Ann")
        with inside("beta"):
            Keeper.objects.create(name="Ann")
    assert [(event.tenant, event.changes) for event in events] == [
        ("acme", [("named-Ann", "create")]),
        ("beta", [("named-Ann", "create")]),
    ]


def test_a_transaction_that_switches_tenants_has_events_of_both() -> None:
    check_that_halves_are_told_apart()


def test_a_constant_class_would_be_caught() -> None:
    """Negative control: a class that always returns the same tenant."""
    with override_settings(DECLBIND=separate("Constant")), pytest.raises(AssertionError):
        check_that_halves_are_told_apart()


# What cannot be told -------------------------------------------------------------------------------------------------


def test_a_write_without_a_tenant_is_a_resync_for_all(faults: list[Exception]) -> None:
    with override_bindings(NAMED), capture_events() as events:
        Keeper.objects.create(name="Ann")
    assert [(event.kind, event.tenant, event.changes, event.data) for event in events] == [
        (Event.BULK, "", [("*", "resync")], {})
    ]
    assert [type(fault) for fault in faults] == [tenancy.TenantError]


@pytest.mark.parametrize("path", ["tests.tenants.classes.Lacking", "tests.no_such.Class", 3])
def test_a_class_that_cannot_be_used_sends_no_row(path: object, faults: list[Exception]) -> None:
    """The write succeeds, and the system check reports the class."""
    with override_settings(DECLBIND={"TENANT": path}), override_bindings(NAMED), capture_events() as events:
        Keeper.objects.create(name="Ann")
    assert [(event.kind, event.tenant, event.data) for event in events] == [(Event.BULK, "", {})]
    assert faults


def check_that_a_switch_inside_a_write_is_detected() -> None:
    """Check the events of a write during which a handler of ``pre_delete`` switches the tenant."""

    def switch(**kwargs: object) -> None:
        current.set("beta")

    with inside("acme"):
        keeper = Keeper.objects.create(name="Ann")
        pre_delete.connect(switch, sender=Keeper)
        try:
            with override_bindings(NAMED), capture_events() as events:
                keeper.delete()
        finally:
            pre_delete.disconnect(switch, sender=Keeper)
    assert [(event.kind, event.tenant, event.data) for event in events] == [
        (Event.BULK, "acme", {}),
        (Event.BULK, "beta", {}),
    ]


def test_a_switch_inside_a_write_is_a_resync_for_both(faults: list[Exception]) -> None:
    check_that_a_switch_inside_a_write_is_detected()
    assert [type(fault) for fault in faults] == [tenants.SwitchedTenantError]


def test_a_switch_that_is_not_detected_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the tenant at the beginning of the write is not compared."""
    address = tenants.address
    monkeypatch.setattr(tenants, "address", lambda drafts, using, began_in=None: address(drafts, using))
    with pytest.raises(AssertionError):
        check_that_a_switch_inside_a_write_is_detected()


# Tables that all tenants share ---------------------------------------------------------------------------------------


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make keepers a model that all tenants share."""
    monkeypatch.setattr(Separate, "shared", frozenset({"zoo.keeper"}))


def test_a_shared_row_is_sent_to_all_tenants(shared: None) -> None:
    with inside("acme"), override_bindings(NAMED), capture_events() as events:
        Keeper.objects.create(name="Ann")
    assert [(event.kind, event.tenant, event.data["name"]) for event in events] == [(Event.ROW, "", "Ann")]


def test_data_that_code_makes_of_a_shared_row_is_sent_to_nobody(shared: None) -> None:
    """The data may contain what only one tenant may see."""
    from tests.test_capture_values import KeeperBinding  # a binding with code

    with inside("acme"), override_bindings(KeeperBinding), capture_events() as events:
        Keeper.objects.create(name="Ann")
    assert [(event.kind, event.tenant, event.data) for event in events] == [(Event.BULK, "", {})]


def test_rows_related_to_a_shared_row_are_a_resync_for_all(shared: None) -> None:
    """The related rows of other tenants cannot be queried."""
    with inside("acme"), override_bindings(BY_KEEPER):
        keeper = Keeper.objects.create(name="Ann")
        Animal.objects.create(name="Owl", keeper=keeper)
        with capture_events() as events:
            save(keeper)
            Keeper.objects.filter(pk=keeper.pk).update(name="Cid")
    assert [(event.stream, event.kind, event.tenant) for event in events] == [("animals", Event.BULK, "")] * 2


# The class -----------------------------------------------------------------------------------------------------------


def test_activate_restores_the_previous_tenant() -> None:
    with inside("acme"):
        with tenancy.activate("beta"):
            assert current.get() == "beta"
        assert current.get() == "acme"
        with pytest.raises(ZeroDivisionError), tenancy.activate("beta"):
            raise ZeroDivisionError
        assert current.get() == "acme"


@pytest.mark.parametrize("name", ["Idle", "Constant"])
def test_a_tenant_that_is_not_activated_is_refused(name: str) -> None:
    """A faulty class must not read the rows of another tenant."""
    site, refused = override_settings(DECLBIND=separate(name)), pytest.raises(tenancy.TenantError)
    with site, inside("acme"), refused, tenancy.activate("beta"):
        pytest.fail("The block must not be entered.")


def test_a_connection_that_is_not_restored_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    with override_settings(DECLBIND=separate("Stuck")), inside("acme"), tenancy.activate("beta"):
        pass
    assert "left the connection in 'beta' instead of 'acme'" in caplog.text


@pytest.mark.parametrize("name", ["", None, 7, "x" * 64])
def test_a_tenant_is_a_nonempty_name(name: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Separate, "of_connection", lambda self, alias: name)
    with pytest.raises(tenancy.TenantError):
        tenancy.of_connection("default")
    monkeypatch.setattr(Separate, "of_scope", lambda self, scope: name)
    with pytest.raises(tenancy.TenantError):
        tenancy.of_scope({})


def test_an_empty_tenant_cannot_be_activated() -> None:
    with pytest.raises(tenancy.TenantError), tenancy.activate(""):
        pytest.fail("The block must not be entered.")


def test_the_log_stores_the_tenant() -> None:
    with inside("acme"), override_bindings(NAMED):
        Keeper.objects.create(name="Ann")
    event = Event.objects.exclude(kind=Event.CONTROL).order_by("pk").last()
    assert event is not None
    assert event.tenant == "acme"


def test_without_the_setting_no_event_has_a_tenant() -> None:
    with override_settings(DECLBIND={}), inside("acme"), override_bindings(NAMED), capture_events() as events:
        Keeper.objects.create(name="Ann")
    assert [event.tenant for event in events] == [""]
    assert log.read(0, 10, "default", tenant="acme") == log.read(0, 10, "default")
