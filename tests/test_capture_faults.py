"""The faults of earlier data bindings that touch outgoing changes, each shown to be gone.

Each test that something cannot happen comes with a deliberately broken variant, which the same assertion must catch.

=====  =============================================================================  ==============
fault  what went wrong                                                                test
=====  =============================================================================  ==============
1      old groups were taken from the changed instance, or at every load              ``test_1_...``
3      a hiding delete carried new values; frames for rolled-back work                ``test_3_...``
4      a faulty binding broke the save and silenced the bindings after it             ``test_4_...``
5      ``Model(pk=existing).save()`` was a create, a ``pk=None`` copy an update       ``test_5_...``
7      saved instances could not be pickled                                           ``test_7_...``
8      classes were registered for ever, subclasses doubled frames                    ``test_8_...``
9      ``F()``, text in date fields, infinity; a query per deferred field             ``test_9_...``
10     children without their parent's fields, parents missed writes of children      ``test_10_...``
12     the process that writes had never imported the binding                         ``test_12_...``
14     configuration: rolled-back edits, unseen ``update()``, one bad row stops all   ``test_14_...``
=====  =============================================================================  ==============

Faults 2, 6, 11 and 13 are about incoming requests and rights.
"""

import contextlib
import os
import pickle
import subprocess
import sys
from typing import Any
from unittest.mock import patch

import pytest
from django.db import DatabaseError, connection, models, transaction
from django.db.models import F
from django.db.models.signals import post_init, post_save
from django.test.utils import CaptureQueriesContext

from declbind import WebsocketBinding, signals
from declbind.core.frames import EVERY_GROUP
from declbind.core.groups import diff
from declbind.models import BindingRecord, Event, Traffic
from declbind.outbound import capture, drafts, entries, joint_update, known_values, log, saved_rows, saves
from declbind.registry import get_registry, refresh
from declbind.testing import capture_events, override_bindings
from tests.servers import ROOT
from tests.zoo.models import Animal, Crate, Food, Keeper, Sample, Tractor, Truck, Vehicle

pytestmark = pytest.mark.django_db

KEEPERS = {"stream": "keepers", "model": "zoo.Keeper", "fields": ["name", "retired"]}
BY_KEEPER = {"stream": "animals", "model": "zoo.Animal", "fields": ["name"], "groups": ["keeper-{keeper_id}"]}


# 1: the old groups --------------------------------------------------------------------------------------------------


def check_that_a_row_moves():
    old, new = Keeper.objects.create(name="old"), Keeper.objects.create(name="new")
    animal = Animal.objects.create(name="Owl", keeper=old)
    with override_bindings(BY_KEEPER), capture_events() as events:
        animal.keeper = new
        animal.save()
    assert [event.changes for event in events] == [[(f"keeper-{old.pk}", "delete"), (f"keeper-{new.pk}", "create")]]


def test_1_changed_attribute_moves_the_row():
    """The old groups are those of the stored row."""
    check_that_a_row_moves()


def test_1_groups_of_the_changed_instance_would_be_caught():
    """The original asked the instance before and after, both times after it was changed."""
    groups_now = {}

    def remember(instance, **kwargs):
        groups_now["all"] = [f"keeper-{instance.keeper_id}"]

    def old_groups(plan, pk, using):
        return dict.fromkeys(plan.outlets, groups_now["all"])

    models.signals.pre_save.connect(remember, sender=Animal)
    try:
        with (
            patch.object(saves, "old_groups", old_groups),
            patch.object(joint_update, "old_groups", old_groups),
            pytest.raises(AssertionError),
        ):
            check_that_a_row_moves()
    finally:
        models.signals.pre_save.disconnect(remember, sender=Animal)


def test_1_stale_instance_moves_the_row_from_where_it_is():
    """The stored row decides, not the instance's values since it was loaded."""
    one, two, three = (Keeper.objects.create(name=name) for name in "abc")
    stale = Animal.objects.create(name="Owl", keeper=one)
    Animal.objects.filter(pk=stale.pk).update(keeper=two)
    with override_bindings(BY_KEEPER), capture_events() as events:
        stale.keeper = three
        stale.save()
    assert events[0].changes == [(f"keeper-{two.pk}", "delete"), (f"keeper-{three.pk}", "create")]


def test_1_loading_costs_nothing():
    """No receiver is connected to ``post_init``, so loading a bound model costs nothing extra."""
    with override_bindings(BY_KEEPER):
        assert not post_init.has_listeners(Animal)


# 3: data of a delete, and rolled-back work --------------------------------------------------------------------------


def check_that_a_hiding_delete_is_silent():
    keeper = Keeper.objects.create(name="Ann")
    with override_bindings({**KEEPERS, "where": {"retired": False}}), capture_events() as events:
        keeper.name, keeper.retired = "secret", True
        keeper.save()
    assert [(event.changes, event.data) for event in events] == [([("keepers", "delete")], {})]


def test_3_hiding_delete_carries_no_values():
    """Clients that may no longer see the row do not get its new values."""
    check_that_a_hiding_delete_is_silent()


def test_3_hiding_delete_with_values_would_be_caught():
    """Negative control: a variant that serializes everything that it announces."""
    original = drafts._draft

    def telling(plan, outlet, row, pk, before, after, using, gone=False):
        draft = original(plan, outlet, row, pk, before, after or before, using, gone)
        return draft._replace(changes=diff(before, after))

    with patch.object(drafts, "_draft", telling), pytest.raises(AssertionError):
        check_that_a_hiding_delete_is_silent()


def check_that_rolled_back_work_is_not_sent(load_sent):
    with override_bindings(KEEPERS), contextlib.suppress(LookupError), transaction.atomic():
        Keeper.objects.create(name="Ann")
        with contextlib.suppress(LookupError), transaction.atomic():
            Keeper.objects.create(name="Bob")
            raise LookupError
        raise LookupError
    assert load_sent() == []


def test_3_rolled_back_work_leaves_nothing():
    """The event is rolled back with the transaction or the savepoint."""
    check_that_rolled_back_work_is_not_sent(lambda: list(Event.objects.filter(stream="keepers")))


def test_3_sending_in_post_save_would_be_caught():
    """The original sent a frame when the signal was received."""
    sent: list[str] = []

    def send(instance, **kwargs):
        sent.append(instance.name)

    post_save.connect(send, sender=Keeper)
    try:
        with pytest.raises(AssertionError):
            check_that_rolled_back_work_is_not_sent(lambda: sent)
    finally:
        post_save.disconnect(send, sender=Keeper)


def check_that_write_and_event_stand_or_fall_together():
    full = patch.object(entries, "row_of", side_effect=DatabaseError("the log is full"))
    with override_bindings(KEEPERS), full, contextlib.suppress(DatabaseError):
        Keeper.objects.create(name="Ann")
    assert Keeper.objects.count() == Event.objects.filter(stream="keepers").count() == 0


@pytest.mark.django_db(transaction=True)
def test_3_event_is_in_the_transaction_of_the_write():
    """In autocommit too: if the event cannot be stored the row is not, so that no change is ever lost."""
    check_that_write_and_event_stand_or_fall_together()


@pytest.mark.django_db(transaction=True)
def test_3_event_after_the_commit_would_be_caught():
    """Negative control: a variant that appends in ``on_commit``: a crash in between loses the event."""
    append = log.append

    def append_later(found, using, began_in=None):
        transaction.on_commit(lambda: append(found, using), using=using)

    with patch.object(log, "append", append_later), pytest.raises(AssertionError):
        check_that_write_and_event_stand_or_fall_together()


# 4: faulty bindings -------------------------------------------------------------------------------------------------


class Faulty(WebsocketBinding):
    """A binding with no fault of its own."""

    model = Keeper
    stream = "faulty"
    fields = ["name"]


def fail(*args, **kwargs):
    raise ZeroDivisionError("no frame for you")


def run_broken_sql(*args, **kwargs):
    with connection.cursor() as cursor:
        cursor.execute("SELECT nothing FROM nowhere")


def leave_a_mess(*args, **kwargs):
    Food.objects.create(name="left behind")
    raise ZeroDivisionError("and half of it done")


def make_circle():
    circle: dict[str, Any] = {}
    circle["x"] = circle
    return circle


FAULTS: dict[str, dict[str, Any]] = {
    "group_names raises": {"group_names": classmethod(fail)},
    "group_names runs broken SQL": {"group_names": classmethod(run_broken_sql)},
    "group_names writes and raises": {"group_names": classmethod(leave_a_mess)},
    "group_names is one text": {"group_names": classmethod(lambda cls, row: "all")},
    "group_names is nothing": {"group_names": classmethod(lambda cls, row: None)},
    "group name with a quote": {"group_names": classmethod(lambda cls, row: ['"'])},
    "group name too long": {"group_names": classmethod(lambda cls, row: ["x" * 100])},
    "group name no text": {"group_names": classmethod(lambda cls, row: [5])},
    "serialize_data raises": {"serialize_data": fail},
    "serialize_data runs broken SQL": {"serialize_data": run_broken_sql},
    "serialize_data is no JSON": {"serialize_data": lambda self, row: {"x": object()}},
    "serialize_data is a circle": {"serialize_data": lambda self, row: make_circle()},
    "serialize raises": {"serialize": fail},
    "no such member": {"send_members": ["colour"]},
}


def check_that_the_write_goes_through(faulty):
    failures = []

    def note(stream, error, **kwargs):
        failures.append(stream)

    Traffic.objects.all().delete()
    keeper = Keeper.objects.create(name="before")
    signals.binding_failed.connect(note)
    try:
        good = {**KEEPERS, "stream": "good"}
        with override_bindings(faulty, good), capture_events() as events, transaction.atomic():
            keeper.name = "after"
            keeper.save()
            Keeper.objects.create(name="new")
            keeper.delete()
            Keeper.objects.filter(name="new").delete()
    finally:
        signals.binding_failed.disconnect(note)
    assert [event.kind for event in events if event.stream == "good"] == ["row", "row", "gone", "gone"]
    # Each change that cannot be reported is a resync of the known groups, or of all.
    told = [event.changes for event in events if event.stream == "faulty"]
    known = "faulty" if not faulty.overrides("group_names") else EVERY_GROUP
    assert told == [[(known, "resync")]] * 4
    assert set(failures) == {"faulty"}
    assert {(row.stream, row.kind) for row in Traffic.objects.all()} == {("faulty", Traffic.ERROR)}
    assert not Food.objects.filter(name="left behind").exists()


@pytest.mark.parametrize("attributes", FAULTS.values(), ids=FAULTS)
def test_4_faulty_binding_neither_breaks_the_write_nor_silences_others(attributes):
    """Its fault is logged, stored as traffic and sent as a signal; the host's transaction commits."""
    check_that_the_write_goes_through(type("FaultyOne", (Faulty,), attributes))


def test_4_guard_without_a_savepoint_would_be_caught():
    """Swallowing the exception alone leaves half of the binding's work done, and the transaction broken."""

    def no_savepoint(outlet, using):
        return contextlib.nullcontext()

    faulty = type("FaultyOne", (Faulty,), FAULTS["group_names writes and raises"])
    with patch.object(drafts, "_savepoint", no_savepoint), pytest.raises((AssertionError, DatabaseError)):
        check_that_the_write_goes_through(faulty)


def test_4_exception_that_is_let_through_would_be_caught():
    """The original let the exception through."""

    def let_through(outlet, row, using, error):
        raise error

    faulty = type("FaultyOne", (Faulty,), FAULTS["serialize_data raises"])
    with patch.object(drafts, "_record", let_through), pytest.raises(ZeroDivisionError):
        check_that_the_write_goes_through(faulty)


def test_4_fault_on_the_stored_row_is_recorded_once():
    """A binding that failed on the old row is not called for the new one: half a diff would mislead."""
    keeper = Keeper.objects.create(name="before")
    faulty = type("FaultyOne", (Faulty,), FAULTS["group_names raises"])
    with override_bindings(faulty):
        keeper.save()
    assert Traffic.objects.filter(stream="faulty").count() == 1
    assert [event.kind for event in Event.objects.filter(stream="faulty")] == [Event.BULK]


def test_4_interrupt_is_not_swallowed():
    """Only faults are recorded; an interrupt ends the process."""

    def interrupt(cls, row):
        raise KeyboardInterrupt

    faulty = type("FaultyOne", (Faulty,), {"group_names": classmethod(interrupt)})
    with override_bindings(faulty), pytest.raises(KeyboardInterrupt), transaction.atomic():
        Keeper.objects.create(name="Ann")
    assert not Keeper.objects.exists()


# 5: create or update ------------------------------------------------------------------------------------------------


def check_that_the_row_decides():
    existing = Keeper.objects.create(name="Ann")
    with override_bindings(KEEPERS), capture_events() as events:
        Keeper(pk=existing.pk, name="Bob").save()
        existing.pk = None
        existing.save()
    assert [[action for _, action in event.changes] for event in events] == [["update"], ["create"]]
    assert events[0].pk != events[1].pk


def test_5_instance_made_by_key_updates_and_copy_creates():
    """The database decides whether a row is new, not the instance."""
    check_that_the_row_decides()


@pytest.mark.parametrize("guess", [lambda instance: instance._state.adding, lambda instance: instance.pk is None])
def test_5_guessing_by_the_instance_would_be_caught(guess):
    """The usual guesses: a new instance creates; one without a key creates."""
    original = saved_rows.draft_saved

    def guessing(plan, instance, cls, old, as_given, using):
        return original(plan, instance, cls, None if guess(instance) else {}, as_given, using)

    with patch.object(saves, "draft_saved", guessing), pytest.raises(AssertionError):
        check_that_the_row_decides()


def test_5_copy_under_a_key_with_a_default_creates():
    """A model that makes its own keys is copied the same way."""
    crate = Crate.objects.create(label="a")
    with override_bindings({"stream": "c", "model": "zoo.Crate", "fields": ["label"]}), capture_events() as events:
        crate.pk, crate._state.adding = None, True
        crate.save()
    assert [[action for _, action in event.changes] for event in events] == [["create"]]


# 7: pickling --------------------------------------------------------------------------------------------------------


def check_that_saved_rows_can_be_cached():
    truck = Truck.objects.create(plate="A")
    before = set(vars(truck))
    with override_bindings({"stream": "t", "model": "zoo.Truck", "fields": ["plate"], "groups": ["p-{plate}"]}):
        truck.plate = "B"
        truck.save()
    assert set(vars(truck)) == before
    assert pickle.loads(pickle.dumps(truck)) == truck


def test_7_saved_instance_can_be_pickled():
    """Capture leaves nothing on the instance."""
    check_that_saved_rows_can_be_cached()


def test_7_class_on_the_instance_would_be_caught():
    """The original stored old groups on the instance, by binding class."""
    original = saved_rows.draft_saved

    def leaving(plan, instance, *args):
        instance._groups = {outlet.binding: [] for outlet in plan.outlets}
        return original(plan, instance, *args)

    with patch.object(saves, "draft_saved", leaving), pytest.raises(AssertionError):
        check_that_saved_rows_can_be_cached()


# 8: registration ----------------------------------------------------------------------------------------------------


def check_that_a_save_is_heard_once():
    with override_bindings(KEEPERS), capture_events() as events:
        Keeper.objects.create(name="Ann")
    assert len(events) == 1


def test_8_reloads_do_not_double_frames():
    """A registry is replaced, and installing the hooks again adds none."""
    for _ in range(3):
        refresh(force=True)
        capture.install()
    check_that_a_save_is_heard_once()


def test_8_second_set_of_hooks_would_be_caught():
    """Negative control: a variant that wraps again at each load."""
    hooked = models.Model._save_table  # type: ignore[attr-defined]
    with patch.object(models.Model, "_save_table", saves.capture_save_table(hooked)), pytest.raises(AssertionError):
        check_that_a_save_is_heard_once()


def test_8_subclass_of_a_concrete_binding_is_a_binding_of_its_own():
    """Each of the two sends once, with its own fields."""

    class Narrow(Faulty):
        stream = "narrow"

    class Wide(Narrow):
        stream = "wide"
        fields = ["name", "retired"]

    with override_bindings(Narrow, Wide), capture_events() as events:
        Keeper.objects.create(name="Ann")
    assert [(event.stream, sorted(event.data)) for event in events] == [
        ("narrow", ["name"]), ("wide", ["name", "retired"]),
    ]  # fmt: skip


def test_8_binding_class_that_is_not_in_force_is_silent():
    """Defining a class, or having had it in force, registers nothing."""
    with override_bindings(Faulty):
        pass
    with override_bindings(KEEPERS), capture_events() as events:
        Keeper.objects.create(name="Ann")
    assert [event.stream for event in events] == ["keepers"]


# 9: values ----------------------------------------------------------------------------------------------------------

SAMPLES = {"stream": "s", "model": "zoo.Sample", "fields": ["count", "day", "ratio"]}


def check_that_stored_values_are_sent():
    sample = Sample.objects.create(count=1)
    with override_bindings(SAMPLES), capture_events() as events:
        # MySQL and MariaDB store finite numbers only.
        ratio = None if connection.vendor == "mysql" else float("inf")
        sample.count, sample.day, sample.ratio = F("count") + 1, "2024-2-29", ratio
        sample.save()
    assert [event.data for event in events] == [{"count": 2, "day": "2024-02-29", "ratio": None}]


def test_9_expressions_texts_and_infinity():
    """An expression is sent as its result, a text as the date, infinity as null."""
    check_that_stored_values_are_sent()


def test_9_sending_what_the_instance_holds_would_be_caught():
    """The original sent the instance's values."""
    with patch.object(known_values, "is_as_stored", lambda *args: True), pytest.raises(AssertionError):
        check_that_stored_values_are_sent()


def check_that_deferred_fields_cost_one_query():
    pk = Sample.objects.create(count=1).pk
    sample = Sample.objects.only("note").get(pk=pk)
    with override_bindings(SAMPLES), CaptureQueriesContext(connection) as captured:
        sample.save()
    assert [query["sql"].split()[0] for query in captured] == ["UPDATE", "SELECT", "INSERT"]


def test_9_deferred_fields_cost_one_query():
    """The fields that ``only()`` left out are read in one query, however many are sent."""
    check_that_deferred_fields_cost_one_query()


def test_9_query_per_deferred_field_would_be_caught():
    """Negative control: a variant that reads each field from the instance."""

    def load_deferred(plan, pk, fields, using):
        return plan.model._base_manager.only("pk").get(pk=pk)

    with patch.object(saved_rows, "load_row", load_deferred), pytest.raises(AssertionError):
        check_that_deferred_fields_cost_one_query()


# 10: inheritance ----------------------------------------------------------------------------------------------------


def check_that_a_child_moves_by_its_parents_column():
    truck = Truck.objects.create(plate="A", load=1)
    binding = {"stream": "t", "model": "zoo.Truck", "fields": ["plate", "load"], "groups": ["p-{plate}"]}
    with override_bindings(binding), capture_events() as events:
        truck.plate = "B"
        truck.save()
    assert [(event.changes, event.data) for event in events] == [
        ([("p-A", "delete"), ("p-B", "create")], {"plate": "B", "load": 1})
    ]


def test_10_child_has_its_parents_fields_and_groups():
    """The parent's columns are columns of the child, for data and for groups."""
    check_that_a_child_moves_by_its_parents_column()


def test_10_reading_old_groups_after_the_parents_table_would_be_caught():
    """Django writes the parent's table first; a variant that reads at the child's table sees the new value."""
    unhooked = models.Model._save_parents.__wrapped__  # type: ignore[attr-defined]
    with patch.object(models.Model, "_save_parents", unhooked), pytest.raises(AssertionError):
        check_that_a_child_moves_by_its_parents_column()


@pytest.mark.parametrize("writer", [Truck, Tractor])
def test_10_parents_binding_reports_every_write_of_child_and_proxy(writer):
    """Both saves and deletes."""
    with override_bindings({"stream": "v", "model": "zoo.Vehicle", "fields": ["plate"]}), capture_events() as events:
        row = writer.objects.create(plate="A")
        row.save()
        row.delete()
    assert [[action for _, action in event.changes] for event in events] == [["create"], ["update"], ["delete"]]
    assert not Vehicle.objects.exists()


# 12: processes ------------------------------------------------------------------------------------------------------

WRITER = """
import django
django.setup()
{first}
from tests.zoo.models import Keeper
Keeper.objects.create(name="written elsewhere")
"""
UNHOOK = "from django.db.models import Model; Model._save_table = Model._save_table.__wrapped__"


def check_that_another_process_is_heard(environment, first=""):
    BindingRecord.objects.create(stream="keepers", model="zoo.Keeper", fields=["name"])
    code = WRITER.format(first=first)
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, check=True, timeout=60)
    assert Keeper.objects.count() == 1
    assert [event.stream for event in Event.objects.filter(kind=Event.ROW)] == ["keepers"]


@pytest.fixture
def environment(server_env, monkeypatch):
    """Return the environment of a process that works on the database of this test."""
    for name, value in server_env.items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    return dict(os.environ)


@pytest.mark.django_db(transaction=True)
def test_12_writes_of_any_process_are_captured(environment):
    """A script that only sets Django up and saves knows the bindings of the database."""
    check_that_another_process_is_heard(environment)


@pytest.mark.django_db(transaction=True)
def test_12_process_without_capture_would_be_caught(environment):
    """In the original, no process had imported the binding there."""
    with pytest.raises(AssertionError):
        check_that_another_process_is_heard(environment, UNHOOK)


# 14: configuration --------------------------------------------------------------------------------------------------


@pytest.fixture
def at_once(settings):
    """Compare versions at every write; the process's registry is reset before and after."""
    settings.DECLBIND = {"VERSION_CHECK_SECONDS": 0}


def streams_heard():
    with capture_events() as events:
        Keeper.objects.create(name="Ann")
    return [event.stream for event in events]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("at_once")
def test_14_rolled_back_edit_is_in_force_nowhere():
    """Inside its transaction an edit is in force; after a rollback it never was."""
    with contextlib.suppress(LookupError), transaction.atomic():
        BindingRecord.objects.create(stream="keepers", model="zoo.Keeper", fields=["name"])
        assert streams_heard() == ["keepers"]
        raise LookupError
    assert streams_heard() == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("at_once")
def test_14_rolled_back_edit_after_committed_ones_is_in_force_nowhere():
    """The registry of the transaction is not that of the process, also if the version was increased before."""
    BindingRecord.objects.create(stream="foods", model="zoo.Food", fields=["name"])
    assert streams_heard() == []
    test_14_rolled_back_edit_is_in_force_nowhere()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("at_once")
def test_14_edits_by_query_sets_are_seen():
    """``update()``, ``bulk_create`` and ``delete()`` of records change what is captured, like saves."""
    BindingRecord.objects.bulk_create([BindingRecord(stream="keepers", model="zoo.Keeper", fields=["name"])])
    assert streams_heard() == ["keepers"]
    BindingRecord.objects.update(enabled=False)
    assert streams_heard() == []
    BindingRecord.objects.update(enabled=True)
    assert streams_heard() == ["keepers"]
    BindingRecord.objects.all().delete()
    assert streams_heard() == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("at_once")
def test_14_record_that_went_bad_stops_no_other():
    """A record with a removed field is left out; the others are captured."""
    for stream in ("bad", "good"):
        BindingRecord.objects.create(stream=stream, model="zoo.Keeper", fields=["name"])
    with connection.cursor() as cursor:
        cursor.execute("""UPDATE declbind_bindingrecord SET fields = '["gone"]' WHERE stream = 'bad'""")
        cursor.execute("UPDATE declbind_configuration SET version = version + 1")
    assert streams_heard() == ["good"]
    assert [entry.stream for entry, _ in get_registry().problems] == ["bad"]
