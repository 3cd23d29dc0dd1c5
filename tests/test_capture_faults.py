"""The faults of earlier data bindings in groups, data and transactions: none of them may return.

Beside each test stands a variant that is broken on purpose, which the same assertions must detect.

=====  =============================================================================  ==============
fault  what went wrong                                                                test
=====  =============================================================================  ==============
1      old groups were taken from the changed instance, or at every load              ``test_1_...``
3      a delete that hides a row carried new values; frames for rolled-back work      ``test_3_...``
5      ``Model(pk=existing).save()`` was a create, a ``pk=None`` copy an update       ``test_5_...``
9      ``F()``, text in date fields, infinity; a query per deferred field             ``test_9_...``
10     children without their parent's fields, parents missed writes of children      ``test_10_...``
=====  =============================================================================  ==============

Faults 4, 7, 8, 12 and 14 have their tests in ``test_binding_faults``. Faults 2, 6, 11 and 13 concern incoming requests
and permissions.
"""

import contextlib
from unittest.mock import patch

import pytest
from django.db import DatabaseError, connection, models, transaction
from django.db.models import F
from django.db.models.signals import post_init, post_save
from django.test.utils import CaptureQueriesContext

from declbind.core.groups import diff
from declbind.models import Event
from declbind.outbound import drafts, entries, joint_update, known_values, log, saved_rows, saves
from declbind.testing import capture_events, override_bindings
from tests.captured_events import KEEPERS
from tests.zoo.models import Animal, Crate, Keeper, Sample, Tractor, Truck, Vehicle

pytestmark = pytest.mark.django_db
BY_KEEPER = {"stream": "animals", "model": "zoo.Animal", "fields": ["name"], "groups": ["keeper-{keeper_id}"]}

# 1: the old groups ----------------------------------------------------------------------------------------------------


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


# 3: data of a delete, and rolled-back work ----------------------------------------------------------------------------


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


# 5: create or update --------------------------------------------------------------------------------------------------


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


# 9: values ------------------------------------------------------------------------------------------------------------


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


# 10: inheritance ------------------------------------------------------------------------------------------------------


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
