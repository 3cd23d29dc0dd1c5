"""Unusual writes: generic relations, managers that hide rows, unmanaged tables, several databases."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.test.utils import override_settings

import declbind
from declbind.models import Event
from declbind.registry import database_alias
from declbind.testing import capture_events, override_bindings
from tests.settings import sqlite_database
from tests.zoo.clients import OPEN, connect
from tests.zoo.columns import Foreign, Page, Picture, Tag
from tests.zoo.models import Animal, Food, Keeper

pytestmark = pytest.mark.django_db


def record(model: Any, **keys: Any) -> dict[str, Any]:
    return {"stream": "rows", "model": model._meta.label, "fields": "__all__", "permissions": OPEN, **keys}


def told(events: Any) -> list[tuple[object, list[tuple[str, str]]]]:
    return [(event.pk, event.changes) for event in events]


# Generic relations --------------------------------------------------------------------------------------------------

OF_TARGET = {"groups": ["of-{content_type}-{object_id}"]}


@pytest.fixture
def pictures() -> list[Picture]:
    return [Picture.objects.create(title=title) for title in "ab"]


@pytest.fixture
def kind() -> int:
    return int(ContentType.objects.get_for_model(Picture).pk)


def test_a_generic_foreign_key_is_sent_as_its_two_columns(pictures, kind):
    """The model and the row are sent under the names of the columns. The pair itself has no value."""
    with override_bindings(record(Tag)), capture_events() as events:
        tag = Tag.objects.create(word="x", target=pictures[0])
        tag.target = pictures[1]
        tag.save()
        tag.target = None
        tag.save()
    ends = [(event.data["content_type"], event.data["object_id"]) for event in events]
    assert ends == [(kind, pictures[0].pk), (kind, pictures[1].pk), (None, None)]
    assert "target" not in events[0].data


def test_a_client_sets_the_two_columns(pictures, kind):
    """A client also gets the rows of one target by this pair."""
    client = connect(record(Tag, **OF_TARGET))
    with override_bindings(client.binding), capture_events() as events:
        pk = client.send("create", data={"word": "x", "content_type": kind, "object_id": pictures[0].pk})["pk"]
        client.send("update", pk, {"object_id": pictures[1].pk})
        assert client.refused("update", pk, {"content_type": 10**6}).fields.keys() == {"content_type"}
        assert client.refused("update", pk, {"target": pictures[0].pk}).fields.keys() == {"target"}
    first, second = (f"of-{kind}-{picture.pk}" for picture in pictures)
    assert told(events) == [(pk, [(first, "create")]), (pk, [(first, "delete"), (second, "create")])]
    assert Tag.objects.get().target == pictures[1]


def test_a_generic_relation_moves_and_removes_rows(pictures, kind):
    """Its manager's bulk writes are reported row by row, with the groups before and after."""
    one, two = pictures
    tags = [Tag.objects.create(word=word) for word in "abc"]
    first, second = (f"of-{kind}-{picture.pk}" for picture in pictures)
    with override_bindings(record(Tag, **OF_TARGET)), capture_events() as events:
        one.tags.add(*tags[:2])
        one.tags.add(tags[2], bulk=False)
        two.tags.add(tags[1])
        made = two.tags.create(word="d")
        one.tags.remove(tags[0])
        two.tags.set([made])
        one.tags.clear()
        two.delete()
    a, b, c = (tag.pk for tag in tags)
    assert told(events) == [
        (a, [(first, "create")]),
        (b, [(first, "create")]),
        (c, [(first, "create")]),
        (b, [(first, "delete"), (second, "create")]),
        (events[4].pk, [(second, "create")]),
        (a, [(first, "delete")]),
        (b, [(second, "delete")]),
        (c, [(first, "delete")]),
        (events[4].pk, [(second, "delete")]),
    ]
    assert [event.kind for event in events] == ["row"] * 5 + ["gone"] * 4
    assert {event.data["word"] for event in events if event.kind == "gone"} == set("abcd")
    assert not Tag.objects.exists()


@pytest.mark.parametrize("bulk", [True, False])
def test_a_generic_relation_without_bulk_reports_the_same(pictures, kind, bulk):
    """Both variants of ``remove``, ``set`` and ``clear`` delete the rows."""
    tags = [Tag.objects.create(word=word, target=pictures[0]) for word in "abc"]
    group = f"of-{kind}-{pictures[0].pk}"
    with override_bindings(record(Tag, **OF_TARGET)), capture_events() as events:
        pictures[0].tags.remove(tags[0], bulk=bulk)
        pictures[0].tags.set([tags[1]], bulk=bulk)
        pictures[0].tags.clear(bulk=bulk)
    assert told(events) == [(tag.pk, [(group, "delete")]) for tag in (tags[0], tags[2], tags[1])]


# Managers that hide rows --------------------------------------------------------------------------------------------


def test_rows_that_only_a_default_manager_hides_are_sent():
    """A model's *base* manager hides rows. Rows that other managers leave out are written and bound."""
    client = connect(record(Page))
    with override_bindings(client.binding), capture_events() as events:
        page = Page.everything.create(title="a", draft=True)
        page.title = "b"
        page.save()
        Page.published.update(title="nobody")
        Page.everything.update(title="c")
        Page.published.bulk_create([Page(title="d", draft=True)])
        client.send("update", page.pk, {"title": "e"})
        client.send("update", page.pk, {"draft": False})
        Page.published.all().delete()
        client.send("delete", Page.everything.get().pk)
    assert [(event.data["title"], event.changes[0][1]) for event in events] == [
        ("a", "create"), ("b", "update"), ("c", "update"), ("d", "create"), ("e", "update"), ("e", "update"),
        ("e", "delete"), ("d", "delete"),
    ]  # fmt: skip


def test_hidden_rows_move_between_groups():
    """Old groups are read without the manager."""
    with override_bindings(record(Page, groups=["draft-{draft}"])), capture_events() as events:
        page = Page.everything.create(title="a", draft=True)
        Page.everything.filter(pk=page.pk).update(draft=False)
        page.refresh_from_db()
        page.draft = True
        page.save()
        Page.everything.bulk_update([page], ["draft"])
    moves = [event.changes for event in events]
    assert moves == [
        [("draft-true", "create")],
        [("draft-true", "delete"), ("draft-false", "create")],
        [("draft-false", "delete"), ("draft-true", "create")],
        [("draft-true", "update")],
    ]


# Tables that somebody else makes ------------------------------------------------------------------------------------


@pytest.fixture
def foreign_table(db: None) -> None:
    key = {"postgresql": "BIGSERIAL", "mysql": "BIGINT AUTO_INCREMENT"}.get(connection.vendor, "INTEGER")
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TABLE somebody_elses (id {key} PRIMARY KEY, name VARCHAR(20) NOT NULL, amount INTEGER NOT NULL)"
        )


@pytest.mark.usefixtures("foreign_table")
def test_an_unmanaged_model_can_be_bound():
    """Its table is created elsewhere, which makes no difference to writes or clients."""
    client = connect(record(Foreign, groups=["amount-{amount}"]))
    with override_bindings(client.binding), capture_events() as events:
        pk = client.send("create", data={"name": "a", "amount": 1})["pk"]
        row = Foreign.objects.get(pk=pk)
        row.amount = 2
        row.save()
        Foreign.objects.update(name="b")
        client.send("update", pk, {"name": "c"})
        Foreign.objects.bulk_create([Foreign(name="d", amount=2)])
        Foreign.objects.all().delete()
    other = events[4].pk
    assert told(events) == [
        (pk, [("amount-1", "create")]),
        (pk, [("amount-1", "delete"), ("amount-2", "create")]),
        (pk, [("amount-2", "update")]),
        (pk, [("amount-2", "update")]),
        (other, [("amount-2", "create")]),
        (pk, [("amount-2", "delete")]),
        (other, [("amount-2", "delete")]),
    ]
    assert [event.data["name"] for event in events] == ["a", "a", "b", "c", "d", "c", "d"]


# Several databases --------------------------------------------------------------------------------------------------


class OnSQLite:
    """A router that leaves out, for a further database, what only PostgreSQL supports."""

    def allow_migrate(self, db: str, app_label: str, **hints: object) -> bool:
        return app_label != "postgres_zoo"


class ReplicaRouter(OnSQLite):
    """A router that reads from a copy and writes to the original."""

    def db_for_read(self, model: object, **hints: object) -> str:
        return "replica"

    def db_for_write(self, model: object, **hints: object) -> str:
        return "default"

    def allow_relation(self, one: object, other: object, **hints: object) -> bool:
        return True


class SecondRouter(OnSQLite):
    """A router that keeps the zoo and the log in a second database, and all else in the first."""

    def _route(self, model: Any, **hints: object) -> str | None:
        return "second" if model._meta.app_label in ("zoo", "declbind") else None

    db_for_read = db_for_write = _route


@contextlib.contextmanager
def added_database(alias: str, folder: Any) -> Iterator[None]:
    """Add a database with all tables for the duration of the block."""
    path = str(folder / f"{alias}.sqlite3")
    settings = connections.configure_settings({"default": {}, alias: sqlite_database(path)})[alias]
    added = DatabaseWrapper(settings, alias)
    # Done early: a test may connect only to the databases that existed when it began.
    added.connect()
    connections.settings[alias] = settings
    connections[alias] = added
    try:
        call_command("migrate", database=alias, run_syncdb=True, verbosity=0)
        yield
    finally:
        added.close()
        del connections[alias], connections.settings[alias]


@pytest.fixture
def replica(db: None, tmp_path: object) -> Iterator[None]:
    """Read from a copy of the tables that lags behind: it has none of the writes made here."""
    with override_settings(DATABASE_ROUTERS=[f"{__name__}.ReplicaRouter"]), added_database("replica", tmp_path):
        yield


@pytest.fixture
def second(db: None, tmp_path: Path) -> Iterator[None]:
    with override_settings(DATABASE_ROUTERS=[f"{__name__}.SecondRouter"]), added_database("second", tmp_path):
        yield


ANIMALS = {**record(Animal), "fields": ["name", "legs", "keeper", "foods"], "groups": ["legs-{legs}"]}


def write_all(using: str) -> list[str]:
    """Write animals in every way, and return the expected result of each event."""
    keeper, hay = Keeper.objects.create(name="Ann"), Food.objects.create(name="hay")
    owl = Animal.objects.create(name="Owl", keeper=keeper)
    owl.legs = 3
    owl.save()
    owl.foods.add(hay)
    Animal.objects.filter(legs=3).update(legs=4)
    Animal.objects.bulk_create([Animal(name="Cat", slug="cat", legs=4)])
    cat = Animal.objects.using(using).get(name="Cat")
    Animal.objects.bulk_update([cat], ["legs"])
    keeper.animal_set.add(cat)
    owl.foods.clear()
    keeper.delete()
    declbind.touch(Animal.objects.filter(name="Cat"))
    declbind.touch([owl])
    cat.delete()
    Animal.objects.all().delete()
    return [
        "Owl legs-2 create", "Owl legs-2 delete legs-3 create", "Owl legs-3 update", "Owl legs-3 delete legs-4 create",
        "Cat legs-4 create", "Cat legs-4 update", "Cat legs-4 update", "Owl legs-4 update",
        "Owl legs-4 update", "Cat legs-4 update", "Cat legs-4 update", "Owl legs-4 update",
        "Cat legs-4 delete", "Owl legs-4 delete",
    ]  # fmt: skip


def in_words(events: Any) -> list[str]:
    return [" ".join([event.data["name"], *(word for change in event.changes for word in change)]) for event in events]


@pytest.mark.usefixtures("replica")
def test_writes_beside_a_replica_that_lags():
    """Capture reads all that it needs of a row from the database to which the row is written."""
    with override_bindings(ANIMALS), capture_events() as events:
        expected = write_all("default")
    assert in_words(events) == expected


@pytest.mark.usefixtures("replica")
def test_a_row_that_was_loaded_from_a_replica_can_be_saved():
    """It is saved to the original, and its event is written there."""
    copy = Keeper(name="Ann")
    copy.save(using="replica")
    Keeper.objects.using("default").create(pk=copy.pk, name="Ann")
    loaded = Keeper.objects.get()
    assert loaded._state.db == "replica"
    with override_bindings(record(Keeper)), capture_events() as events:
        assert declbind.touch([loaded]) == 1
        loaded.name = "Bea"
        loaded.save()
        Keeper.objects.get().delete()
    assert [(event.data["name"], event.changes) for event in events] == [
        ("Ann", [("rows", "update")]),
        ("Bea", [("rows", "update")]),
        ("Bea", [("rows", "delete")]),
    ]


@pytest.mark.usefixtures("replica")
def test_a_client_beside_a_replica_that_lags():
    """A client's write is visible to its next request, lists and relations included."""
    client = connect(ANIMALS)
    keeper = Keeper.objects.create(name="Ann")
    hay = Food.objects.create(name="hay")
    with override_bindings(client.binding), capture_events() as events:
        pk = client.send("create", data={"name": "Owl", "keeper": keeper.pk, "foods": [hay.pk]})["pk"]
        client.send("update", pk, {"foods": []}, condition={"foods": [hay.pk], "keeper": keeper.pk})
        client.send("delete", pk)
    assert [event.data["foods"] for event in events][-2:] == [[], []]


@pytest.mark.usefixtures("second")
def test_the_log_is_in_the_database_of_the_bound_models():
    """Events are in the transactions of the writes."""
    assert database_alias() == "second"
    with override_bindings(ANIMALS), capture_events() as events:
        expected = write_all("second")
        with transaction.atomic(using="second"):
            Animal.objects.create(name="Nobody")
            transaction.set_rollback(True, using="second")
    assert in_words(events) == expected
    assert not Event.objects.using("default").filter(stream="rows").exists()
    client = connect(ANIMALS)
    with override_bindings(client.binding), capture_events() as events:
        pk = client.send("create", data={"name": "Owl"})["pk"]
        client.send("update", pk, {"legs": 5})
    assert in_words(events) == ["Owl legs-2 create", "Owl legs-2 delete legs-5 create"]
