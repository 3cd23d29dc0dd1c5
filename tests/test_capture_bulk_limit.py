"""Bulk calls above `BULK_LIMIT`: the groups get a resync instead of an event for each row."""

import pytest
from asgiref.sync import sync_to_async

import declbind
from declbind.core.frames import EVERY_GROUP
from declbind.testing import Client, override_bindings
from tests.captured_events import ANIMALS, BY_KEEPER, BY_NAME, FED, KEEPERS, changes, takes_target, watching
from tests.live import since_of
from tests.zoo.models import Animal, Food, Keeper

pytestmark = pytest.mark.django_db


@pytest.fixture
def keepers():
    return Keeper.objects.bulk_create([Keeper(name=name) for name in ("Ann", "Bob", "Cy")])


@pytest.fixture
def _low_limit(settings):
    settings.DECLBIND = {"BULK_LIMIT": 2}


@pytest.mark.usefixtures("_low_limit")
class TestAboveTheLimit:
    """Each affected group gets one resync: those that held a row, and those that hold one now."""

    def test_update(self, keepers):
        """An update, in a binding with one group and in one whose rows move."""
        with watching(KEEPERS) as events:
            assert Keeper.objects.update(name="x") == 3
        assert [(event.kind, event.pk, event.changes) for event in events] == [("bulk", None, [("keepers", "resync")])]
        with watching(BY_NAME) as events:
            Keeper.objects.update(retired=True)
            Keeper.objects.update(name="y")
        both = [("retired-false", "resync"), ("retired-true", "resync")]
        assert [event.changes for event in events] == [both, [("retired-true", "resync")]]

    def test_bulk_update(self, keepers):
        """A bulk update, with the same result."""
        for keeper in keepers:
            keeper.retired = True
        with watching(BY_NAME) as events:
            Keeper.objects.bulk_update(keepers, ["retired"])
        assert [event.changes for event in events] == [[("retired-false", "resync"), ("retired-true", "resync")]]

    def test_bulk_create(self):
        """An insert of rows, which have no old groups."""
        with watching(BY_NAME) as events:
            Keeper.objects.bulk_create([Keeper(name="x", retired=number > 1) for number in range(4)])
        assert [event.changes for event in events] == [[("retired-false", "resync"), ("retired-true", "resync")]]

    @takes_target
    def test_upsert(self):
        """An upsert: the conflicting rows' groups are read beforehand, so that no other group is resynced."""
        Food.objects.bulk_create([Food(name=name) for name in "abc"])
        by_poison = {"stream": "foods", "model": "zoo.Food", "fields": ["name"], "groups": ["p-{poisonous}"]}
        for binding, told in ((by_poison, ["p-false"]), ({**by_poison, "groups": ["all"]}, ["all"])):
            with watching(binding) as events:
                Food.objects.bulk_create(
                    [Food(name=name) for name in "abcd"],
                    update_conflicts=True,
                    unique_fields=["name"],
                    update_fields=["poisonous"],
                )
            assert [event.changes for event in events] == [[(group, "resync") for group in told]]

    def test_delete(self, keepers):
        """A delete: deleted rows, and rows whose foreign key is set to null."""
        Animal.objects.bulk_create([Animal(name=f"a{n}", slug=f"a{n}", keeper=keepers[n % 2]) for n in range(4)])
        with watching(KEEPERS, BY_KEEPER) as events:
            Keeper.objects.all().delete()
        assert [(event.stream, event.changes) for event in events] == [
            ("keepers", [("keepers", "resync")]),
            ("animals", [(f"keeper-{keeper.pk}", "resync") for keeper in keepers[:2]]),
        ]

    def test_a_list(self, keepers):
        """A list: one row added to many lists."""
        animals = [Animal.objects.create(name=f"a{number}", keeper=keepers[number % 2]) for number in range(4)]
        hay = Food.objects.create(name="hay")
        with watching({**FED, "groups": ["keeper-{keeper_id}"]}) as events:
            hay.animal_set.set(animals)
        assert [event.changes for event in events] == [[(f"keeper-{keeper.pk}", "resync") for keeper in keepers[:2]]]

    def test_a_list_that_a_binding_does_not_send(self, keepers):
        """A binding that does not send the list gets no resync, with one group or many."""
        animals = [Animal.objects.create(name=f"a{number}", keeper=keepers[0]) for number in range(4)]
        hay = Food.objects.create(name="hay")
        for bindings in ([ANIMALS, FED], [BY_KEEPER, FED]):
            with watching(*bindings) as events:
                hay.animal_set.set(animals)
                hay.animal_set.clear()
            assert changes(events) == [("fed", None, [("fed", "resync")])] * 2
        with watching(ANIMALS, FED, KEEPERS) as events:
            hay.animal_set.set(animals)
            Animal.objects.all().delete()
        assert [event.stream for event in events] == ["fed", "animals", "fed"]

    def test_touch(self, keepers):
        """Rows announced by hand are limited too."""
        with watching(BY_NAME) as events:
            assert declbind.touch(Keeper.objects.all()) == 3
        assert [event.changes for event in events] == [[("retired-false", "resync")]]

    def test_a_call_at_the_limit_is_reported_row_by_row(self, keepers):
        """A call with exactly the limit has an event for each row."""
        with watching(KEEPERS) as events:
            Keeper.objects.exclude(name="Cy").update(retired=True)
        assert [event.kind for event in events] == ["row", "row"]

    def test_too_many_groups_are_reported_as_all(self, keepers, monkeypatch):
        """An event does not grow without a bound."""
        monkeypatch.setattr("declbind.outbound.drafts.MAX_GROUPS", 2)
        with watching({**KEEPERS, "groups": ["n-{name}"]}) as events:
            Keeper.objects.update(retired=True)
        assert [event.changes for event in events] == [[(EVERY_GROUP, "resync")]]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("groups", [["everyone"], ["retired-{retired}"]])
async def test_a_client_gets_a_resync(settings, groups, admin_user):
    """A subscriber gets it once, with an offset; a client that resumes gets it from the log."""
    settings.DECLBIND = {"BULK_LIMIT": 2}
    params = {} if groups == ["everyone"] else {"retired": False}
    await sync_to_async(Keeper.objects.bulk_create)([Keeper(name=f"k{number}") for number in range(3)])
    with override_bindings({**KEEPERS, "groups": groups}):
        async with Client(user=admin_user) as client, Client(user=admin_user) as late:
            reply = await client.request("keepers", "subscribe", params=params)
            await Keeper.objects.aupdate(name="x")
            frame = await client.receive()
            assert frame["payload"] == {"action": "resync", "reason": "bulk"}
            assert frame["offset"] > reply["offset"]
            await Keeper.objects.filter(name="x").aupdate(name="y")
            assert (await client.receive())["offset"] > frame["offset"]
            since = since_of(reply)
            await late.request("keepers", "subscribe", params=params, since=since)
            assert (await late.receive())["payload"]["reason"] == "bulk"
