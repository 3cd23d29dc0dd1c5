"""The record key `also`: rows are sent again when a row that they are related to changes."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from declbind.models import Event
from declbind.outbound.triggers import upkeep
from declbind.record_validation import validate_document
from declbind.testing import capture_events, override_bindings
from tests.captured_events import actions, uncaptured, watching
from tests.zoo.models import Animal, Feather, Food, Herd, Keeper, Lorry, Membership, Truck, Vehicle

pytestmark = pytest.mark.django_db

ANIMALS = {"stream": "animals", "model": "zoo.Animal", "fields": ["name"], "groups": ["kind-{kind}"]}
BY_KEEPER = {**ANIMALS, "also": ["keeper"]}
BY_FEATHER = {**ANIMALS, "also": ["feather"]}
BY_FOOD = {**ANIMALS, "also": ["foods"]}
FEATHERS = {"stream": "feathers", "model": "zoo.Feather", "fields": ["colour"], "also": ["animal__keeper"]}


@pytest.fixture
def ann():
    return Keeper.objects.create(name="Ann")


@pytest.fixture
def owls(ann):
    return [Animal.objects.create(name=f"Owl {number}", keeper=ann) for number in range(2)]


def sent_keys(events):
    """Return the keys of the rows that each write sent, all of them as updates."""
    assert all(action == "update" for event in events for _, action in event.changes)
    return [event.pk for event in events]


def test_rows_are_sent_when_a_row_they_refer_to_changes(ann, owls):
    """This holds for save, update and bulk_update. A change of another keeper sends nothing."""
    other = Keeper.objects.create(name="Bob")
    with watching(BY_KEEPER) as events:
        ann.name = "Anne"
        ann.save()
        Keeper.objects.update(retired=True)
        Keeper.objects.bulk_update([ann, other], ["name"])
        other.save()
    assert sent_keys(events) == [owl.pk for owl in owls] * 3


@pytest.mark.needs_triggers
@pytest.mark.parametrize("by_sql", [False, True])
def test_only_the_binding_with_the_key_sends_rows(ann, owls, by_sql):
    """Another binding of the same rows sends nothing."""
    beside = {**ANIMALS, "stream": "beside", "capture": "triggers"}
    with override_bindings({**BY_KEEPER, "capture": "triggers"}, beside):
        upkeep.install("default")
        with capture_events() as events:
            if by_sql:
                with connection.cursor() as cursor:
                    cursor.execute("UPDATE zoo_keeper SET name = 'x' WHERE id = %s", [ann.pk])
            else:
                ann.save()
        upkeep.remove("default")
    assert [(event.stream, event.pk) for event in events] == [("animals", owl.pk) for owl in owls]


def test_without_the_key_nothing_is_sent(ann, owls):
    """Control: without the key, nothing is sent."""
    with watching(ANIMALS) as events:
        ann.save()
        Keeper.objects.update(retired=True)
    assert events == []


def test_rows_are_sent_when_referring_rows_are_created_moved_or_deleted(owls):
    """Both the row that it referred to and the row that it refers to now are sent."""
    first, second = owls
    with watching(BY_FEATHER) as events:
        feather = Feather.objects.create(animal=first, colour="red")
        feather.animal = second
        feather.save()
        Feather.objects.update(animal=first)
        Feather.objects.bulk_create([Feather(animal=second, colour="blue")])
        Feather.objects.filter(animal=first).delete()
        Feather.objects.all()._raw_delete("default")
    assert sent_keys(events) == [
        first.pk,
        first.pk, second.pk,
        second.pk, first.pk,
        second.pk,
        first.pk,
        second.pk,
    ]  # fmt: skip


def test_rows_are_sent_when_listed_rows_change(owls):
    """Changes of listed rows and of the list itself both count."""
    owl = owls[0]
    hay = Food.objects.create(name="hay")
    with watching(BY_FOOD) as events:
        owl.foods.add(hay)
        hay.name = "oats"
        hay.save()
        owl.foods.clear()
        hay.save()
    assert sent_keys(events) == [owl.pk] * 3


def test_a_change_at_any_step_of_a_path_sends_the_row(ann, owls):
    """A feather is sent when the keeper of its animal changes, and when the animal gets another keeper."""
    feather = Feather.objects.create(animal=owls[0], colour="red")
    with watching(FEATHERS) as events:
        ann.save()
        owls[0].keeper = None
        owls[0].save()
        ann.save()
    assert sent_keys(events) == [feather.pk] * 2


def test_rows_are_sent_when_a_parents_table_is_written(owls):
    """A write to a parent's table changes the child's row that is referred to."""
    lorry = Lorry.objects.create(plate="A")
    herds = {"stream": "trucks", "model": "zoo.Truck", "fields": ["load"], "also": ["vehicle_ptr"]}
    with watching(herds) as events:
        Vehicle.objects.filter(pk=lorry.pk).update(plate="B")
    assert set(sent_keys(events)) == {lorry.pk}
    assert Truck.objects.get(pk=lorry.pk).plate == "B"


def test_a_cascaded_row_is_reported_once(owls):
    """The row is reported as deleted, not as changed too."""
    feather = Feather.objects.create(animal=owls[0], colour="red")
    with watching({**FEATHERS, "also": ["animal"]}) as events:
        owls[0].delete()
    assert actions(events) == [("feathers", feather.pk, ["delete"])]


def test_lists_are_followed_from_both_sides_and_through_own_models(owls):
    """The path uses the name that a query uses from the other side."""
    herd = Herd.objects.create(name="one")
    with watching({**ANIMALS, "also": ["herd"]}) as events:
        member = Membership.objects.create(herd=herd, animal=owls[0])
        herd.name = "two"
        herd.save()
        member.delete()
        herd.save()
    assert sent_keys(events) == [owls[0].pk] * 3


def test_the_number_of_statements_is_bounded(ann):
    """A hundred rows take as many statements as one."""

    def cost(count):
        Animal.objects.all().delete()
        Animal.objects.bulk_create([Animal(name=f"o{n}", slug=f"o{n}", keeper=ann) for n in range(count)])
        with CaptureQueriesContext(connection) as captured:
            ann.save()
        return len(captured)

    with override_bindings(BY_KEEPER):
        few = cost(1)
        assert cost(100) == few
    with uncaptured():
        assert few <= cost(1) + 6


def test_too_many_rows_are_reported_by_group(ann, settings):
    """Too many rows are reported by group, as in any write of many rows."""
    settings.DECLBIND = {"BULK_LIMIT": 3}
    kinds = ["bird", "fish"]
    Animal.objects.bulk_create([Animal(name=f"o{n}", slug=f"o{n}", keeper=ann, kind=kinds[n % 2]) for n in range(4)])
    with watching(BY_KEEPER) as events:
        ann.save()
    assert [event.changes for event in events] == [[("kind-bird", "resync"), ("kind-fish", "resync")]]


@pytest.mark.needs_triggers
def test_triggers_watch_the_relations_too(ann, owls):
    """Raw SQL on the keeper's table and on the tables that refer to the row is captured."""
    both = {**ANIMALS, "also": ["keeper", "feather"], "capture": "triggers"}
    feather = Feather.objects.create(animal=owls[0], colour="red")
    with override_bindings(both):
        upkeep.install("default")
        assert {state.table for state in upkeep.load_states("default")} == {"zoo_animal", "zoo_keeper", "zoo_feather"}
        with capture_events() as events, connection.cursor() as cursor:
            cursor.execute("UPDATE zoo_keeper SET name = 'x' WHERE id = %s", [ann.pk])
            cursor.execute("UPDATE zoo_feather SET animal_id = %s WHERE id = %s", [owls[1].pk, feather.pk])
            ann.save()
        upkeep.remove("default")
    assert sorted(sent_keys(events)) == sorted([owl.pk for owl in owls] * 3)


def test_reading_only_after_the_write_is_detected(owls, monkeypatch):
    """Control: the row that a moved one belonged to would have no event."""
    monkeypatch.setattr("declbind.outbound.saves.both_ways", lambda watches: [])
    with pytest.raises(AssertionError):
        test_rows_are_sent_when_referring_rows_are_created_moved_or_deleted(owls)


FAULTS = [
    (["nobody"], "zoo.Animal has no relation 'nobody'."),
    (["name"], "'name' of zoo.Animal is a CharField, which cannot be followed."),
    (["keeper__nobody"], "zoo.Keeper has no relation 'nobody' in 'keeper__nobody'."),
    (["keeper__animal__keeper__animal__keeper"], "expected at most 4 relations in a row, got 5"),
]


@pytest.mark.parametrize(("paths", "text"), FAULTS, ids=[paths[0] for paths, _ in FAULTS])
def test_a_path_without_a_relation_is_a_problem_with_its_place(paths, text):
    """The message lists the possible relations."""
    _, problems = validate_document({**ANIMALS, "also": paths})
    assert [problem.path for problem in problems] == ["$.also[0]"]
    assert text in str(problems[0])


def test_events_of_related_rows_are_stored_with_the_write(ann, owls):
    """The events are committed with the write, in autocommit too."""
    with override_bindings(BY_KEEPER):
        ann.save()
    assert Event.objects.filter(stream="animals").count() == 2
