"""The faults of earlier data bindings in bindings, registration, processes and configuration: none may return.

Beside each test stands a variant that is broken on purpose, which the same assertions must detect.

=====  =============================================================================  ==============
fault  what went wrong                                                                test
=====  =============================================================================  ==============
4      a faulty binding broke the save and silenced the bindings after it             ``test_4_...``
7      saved instances could not be pickled                                           ``test_7_...``
8      classes were registered for ever, subclasses doubled frames                    ``test_8_...``
12     the process that writes had never imported the binding                         ``test_12_...``
14     configuration: rolled-back edits, unseen ``update()``, one bad row stops all   ``test_14_...``
=====  =============================================================================  ==============

``test_capture_faults`` has the others.
"""

import contextlib
import os
import pickle
import subprocess
import sys
from unittest.mock import patch

import pytest
from django.db import DatabaseError, connection, models, transaction

from declbind import WebsocketBinding, signals
from declbind.core.frames import EVERY_GROUP
from declbind.models import BindingRecord, Event, Traffic
from declbind.outbound import capture, drafts, saved_rows, saves
from declbind.registry import get_registry, refresh
from declbind.testing import capture_events, override_bindings
from tests.captured_events import KEEPERS
from tests.json_types import JSONObject
from tests.servers import ROOT
from tests.zoo.models import Food, Keeper, Truck

pytestmark = pytest.mark.django_db

# 4: faulty bindings ---------------------------------------------------------------------------------------------------


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
    circle: JSONObject = {}
    circle["x"] = circle
    return circle


FAULTS: dict[str, JSONObject] = {
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


# 7: pickling ----------------------------------------------------------------------------------------------------------


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


# 8: registration ------------------------------------------------------------------------------------------------------


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


def test_8_subclass_of_a_concrete_binding_is_a_separate_binding():
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


def test_8_binding_class_that_is_not_in_force_sends_nothing():
    """Neither defining a class nor having had it in force registers it."""
    with override_bindings(Faulty):
        pass
    with override_bindings(KEEPERS), capture_events() as events:
        Keeper.objects.create(name="Ann")
    assert [event.stream for event in events] == ["keepers"]


# 12: processes --------------------------------------------------------------------------------------------------------


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


# 14: configuration ----------------------------------------------------------------------------------------------------


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
def test_14_invalid_record_does_not_affect_others():
    """A record with a removed field is left out, and the others are captured."""
    for stream in ("bad", "good"):
        BindingRecord.objects.create(stream=stream, model="zoo.Keeper", fields=["name"])
    with connection.cursor() as cursor:
        cursor.execute("""UPDATE declbind_bindingrecord SET fields = '["gone"]' WHERE stream = 'bad'""")
        cursor.execute("UPDATE declbind_configuration SET version = version + 1")
    assert streams_heard() == ["good"]
    assert [entry.stream for entry, _ in get_registry().problems] == ["bad"]
