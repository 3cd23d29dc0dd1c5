"""Capture of models with multi-table inheritance and of proxies."""

from unittest.mock import patch

import pytest
from django.db import IntegrityError, connections, transaction

from declbind.outbound import writes
from tests.captured_events import TRUCKS, VEHICLES, actions, changes, watching
from tests.zoo.models import Lorry, Tractor, Truck, Vehicle

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("cls", [Truck, Lorry])
def test_parents_binding_reports_children(cls):
    """A binding of the parent reports saves and deletes of a child, with the parent's name and fields."""
    with watching(VEHICLES) as events:
        child = cls.objects.create(plate="A", load=1)
        pk = child.pk
        child.plate = "B"
        child.save()
        child.delete()
    assert actions(events) == [("vehicles", pk, [action]) for action in ("create", "update", "delete")]
    assert [(event.model, event.data) for event in events] == [
        ("zoo.vehicle", {"plate": plate}) for plate in ("A", "B", "B")
    ]


@pytest.mark.parametrize("cls", [Truck, Lorry])
def test_child_sends_its_parents_fields(cls):
    """The columns of the parent's table are fields of the child, in every action."""
    with watching(TRUCKS) as events:
        child = cls.objects.create(plate="A", load=1)
        child.plate = "B"
        child.save()
        child.delete()
    assert [event.data for event in events] == [
        {"plate": "A", "load": 1}, {"plate": "B", "load": 1}, {"plate": "B", "load": 1},
    ]  # fmt: skip


@pytest.mark.parametrize("update_fields", [None, ["plate"]])
def test_child_moves_by_a_group_on_its_parents_column(update_fields):
    """The old group depends on a table that Django writes before the child's own."""
    truck = Truck.objects.create(plate="A")
    with watching({**TRUCKS, "groups": ["p-{plate}"]}) as events:
        truck.plate = "B"
        truck.save(update_fields=update_fields)
    assert changes(events) == [("trucks", truck.pk, [("p-A", "delete"), ("p-B", "create")])]


@pytest.mark.parametrize("update_fields", [None, ["plate"]])
def test_middle_of_a_chain_moves_by_a_group_on_its_parents_column(update_fields):
    """The bound model is in the middle: the top's table, which holds its group's column, is written before its own."""
    lorry = Lorry.objects.create(plate="A")
    with watching({**TRUCKS, "groups": ["p-{plate}"]}) as events:
        lorry.plate = "B"
        lorry.save(update_fields=update_fields)
        lorry.save(update_fields=["trailers"])
    assert changes(events) == [("trucks", lorry.pk, [("p-A", "delete"), ("p-B", "create")])]


def test_middle_of_a_chain_is_found_by_the_childs_link():
    """Django copies the key up from link to link, which happens too late for capture."""
    lorry = Lorry.objects.create(plate="A")
    with watching({**TRUCKS, "groups": ["p-{plate}"]}) as events:
        Lorry(truck_ptr_id=lorry.pk, plate="B").save()
    assert changes(events) == [("trucks", lorry.pk, [("p-A", "delete"), ("p-B", "create")])]


def test_saving_only_a_childs_field_leaves_no_event_of_the_parent():
    """With ``update_fields`` the parent's table is not written."""
    truck = Truck.objects.create(plate="A")
    with watching(VEHICLES, TRUCKS) as events:
        truck.save(update_fields=["load"])
    assert [event.stream for event in events] == ["trucks"]


def test_failed_save_of_a_child_leaves_no_state():
    """Values read for one row must never be used for another row at the same address in memory."""
    Truck.objects.create(plate="A")
    other = Truck.objects.create(plate="B")
    with watching({**TRUCKS, "groups": ["p-{plate}"]}):
        other.plate = "A"
        with pytest.raises(IntegrityError), transaction.atomic():
            other.save()
        assert writes._under_way(connections["default"]) == []


def check_that_an_interrupted_save_leaves_no_state():
    truck = Truck.objects.create(plate="A")

    def fail_at_the_childs_table(self, *args, cls=None, **kwargs):
        if cls is not Vehicle:
            raise LookupError("The child's table is not written.")
        return super(Truck, self)._save_table(*args, cls=cls, **kwargs)

    with watching({**TRUCKS, "groups": ["p-{plate}"]}) as events:
        with (
            patch.object(Truck, "_save_table", fail_at_the_childs_table, create=True),
            pytest.raises(LookupError),
            transaction.atomic(),
        ):
            truck.save()
        Truck.objects.filter(pk=truck.pk).update(plate="B")
        truck.save_base(raw=True)
    assert changes(events)[1:] == [("trucks", truck.pk, [("p-B", "update")])]


def test_interrupted_save_leaves_no_state():
    """The values read before the parents' tables were written are dropped at the end of the save's transaction block.

    No call of capture follows the error, and a raw save writes only the child's table.
    """
    check_that_an_interrupted_save_leaves_no_state()


def test_state_kept_after_its_block_is_detected(monkeypatch):
    """Negative control: the state of a write is not dropped at the end of the block in which it began."""
    monkeypatch.setattr(writes.CapturedWrite, "_is_begun", True)
    with pytest.raises(AssertionError):
        check_that_an_interrupted_save_leaves_no_state()
    writes._under_way(connections["default"]).clear()


def test_child_made_of_an_existing_parent_is_created():
    """The parent's row existed, the child's did not."""
    vehicle = Vehicle.objects.create(plate="A")
    with watching(VEHICLES, TRUCKS) as events:
        Truck(vehicle_ptr=vehicle, plate="B", load=2).save()
    assert actions(events) == [("vehicles", vehicle.pk, ["update"]), ("trucks", vehicle.pk, ["create"])]


def test_deleting_a_parent_is_reported_by_the_childs_binding():
    """The child's row is deleted too."""
    truck = Truck.objects.create(plate="A", load=1)
    with watching(TRUCKS) as events:
        Vehicle.objects.get(pk=truck.pk).delete()
    assert (actions(events), events[0].data) == ([("trucks", truck.pk, ["delete"])], {"plate": "A", "load": 1})


@pytest.mark.parametrize("bound", ["zoo.Vehicle", "zoo.Tractor"])
def test_proxy_and_model_report_each_others_writes(bound):
    """A proxy is the same row under another name; the frame has the binding's model."""
    with watching({**VEHICLES, "model": bound}) as events:
        Tractor.objects.create(plate="A")
        Vehicle.objects.create(plate="B").delete()
    assert [[action for _, action in event.changes] for event in events] == [["create"], ["create"], ["delete"]]
    assert {event.model for event in events} == {bound.lower()}
