"""Writes that a trigger or a rule of the project cancels: they leave no event and raise nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, TypeAlias

import pytest
from django.db import connection, transaction

from declbind.outbound import batch, catalog, inserts, saves, written_rows
from declbind.outbound.lists import forget_list_managers
from declbind.testing import capture_events, override_bindings
from tests.captured_events import uncaptured
from tests.json_types import JSONObject
from tests.test_strange_tables import IS_SQLITE, run
from tests.zoo.models import Animal, Country, Food, Keeper

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor == "mysql", reason="The statements are those of the other two databases."),
]

COUNTRIES = {"stream": "countries", "model": "zoo.Country", "fields": ["name"]}
KEEPERS = {"stream": "keepers", "model": "zoo.Keeper", "fields": ["name"]}
#: With and without groups that depend on the row, which must then be read before the write.
GROUPED = [{}, {"groups": ["named-{name}"]}]


@pytest.fixture(autouse=True)
def fresh_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_answers", {})
    catalog.install()


def cancel(table: str, event: str, condition: str = "") -> None:
    """Put a trigger on a table that cancels a kind of write, for all rows or for some."""
    name = f"cancel_{event}_{table}"
    if IS_SQLITE:
        when = f" WHEN {condition}" if condition else ""
        run(f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW{when} BEGIN SELECT RAISE(IGNORE); END")
        return
    row = "OLD" if event == "DELETE" else "NEW"
    run(
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN IF {condition or 'true'} THEN RETURN NULL; END IF; RETURN {row}; END $$",
        f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()",
    )


def attempt(write: Callable[[], object]) -> str:
    """Return the result or the error of a write, as a text."""
    try:
        with transaction.atomic():
            return repr(write())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


#: Kind, key, actions and data of an event.
Described: TypeAlias = tuple[str, object, list[str], JSONObject]


def write_beside_plain(write: Callable[[], object], *bindings: Mapping[str, object]) -> list[Described]:
    """Write, and check that the result is the same as without declbind; return the events."""
    with uncaptured(), transaction.atomic():
        plain = attempt(write)
        transaction.set_rollback(True)
    forget_list_managers()  # the managers that were made meanwhile have no hook
    with override_bindings(*bindings), capture_events() as events:
        ours = attempt(write)
    assert ours == plain
    return [(event.kind, event.pk, [action for _, action in event.changes], event.data) for event in events]


def two_countries() -> list[Country]:
    return [Country(code="aa", name="A"), Country(code="bb", name="B")]


def two_keepers(*keys: int) -> list[Keeper]:
    return [Keeper(pk=key, name=name) for key, name in zip(keys or (None, None), "AB", strict=True)]


def upsert(rows: list[Any]) -> Any:
    fields = {"unique_fields": ["pk"], "update_fields": ["name"]}
    return type(rows[0]).objects.bulk_create(rows, update_conflicts=True, **fields)


INSERTS: dict[str, Callable[[], object]] = {
    "save": lambda: Country(code="aa", name="A").save(),
    "force_insert": lambda: Country(code="aa", name="A").save(force_insert=True),
    "create": lambda: Country.objects.create(code="aa", name="A"),
    "bulk_create": lambda: Country.objects.bulk_create(two_countries()),
    "upsert": lambda: upsert(two_countries()),
    "ignore_conflicts": lambda: Country.objects.bulk_create(two_countries(), ignore_conflicts=True),
    "save_automatic": lambda: Keeper(name="A").save(),
    "save_automatic_key": lambda: Keeper(pk=77, name="A").save(),
    "create_automatic": lambda: Keeper.objects.create(name="A"),
    "bulk_create_automatic": lambda: Keeper.objects.bulk_create(two_keepers()),
    "bulk_create_automatic_keys": lambda: Keeper.objects.bulk_create(two_keepers(77, 78)),
    "upsert_automatic_keys": lambda: upsert(two_keepers(77, 78)),
    "ignore_conflicts_automatic_keys": lambda: Keeper.objects.bulk_create(two_keepers(77, 78), ignore_conflicts=True),
}


def created() -> list[Any]:
    """Return the events that existing rows should have."""
    rows: list[Any] = [*Country.objects.order_by("pk"), *Keeper.objects.order_by("pk")]
    return [("row", row.pk, ["create"], {"name": row.name}) for row in rows]


@pytest.mark.parametrize("keys", GROUPED, ids=["constant", "grouped"])
@pytest.mark.parametrize("condition", ["", "NEW.name = 'A'"], ids=["all", "some"])
@pytest.mark.parametrize("insert", INSERTS.values(), ids=INSERTS)
def test_a_cancelled_insert_leaves_no_event(insert: Callable[[], object], condition: str, keys: JSONObject) -> None:
    """The other rows are reported."""
    for table in ("zoo_country", "zoo_keeper"):
        cancel(table, "INSERT", condition)
    assert write_beside_plain(insert, {**COUNTRIES, **keys}, {**KEEPERS, **keys}) == created()


def test_reporting_a_cancelled_insert_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a variant that treats every table as an ordinary one."""
    names = frozenset(field.attname for field in Country._meta.concrete_fields)
    monkeypatch.setattr(catalog, "_ask", lambda model, connection: catalog.TableFacts(True, True, names))
    with pytest.raises(AssertionError):
        test_a_cancelled_insert_leaves_no_event(INSERTS["create"], "", {})


# Inserts that may conflict --------------------------------------------------------------------------------------------


def ignore(*rows: Any) -> Callable[[], object]:
    return lambda: type(rows[0]).objects.bulk_create([copy(row) for row in rows], ignore_conflicts=True)


def put_harmless_trigger(table: str) -> None:
    """Put a trigger on a table that runs after an insert, such as one that keeps a record."""
    if IS_SQLITE:
        run(f"CREATE TRIGGER harmless AFTER INSERT ON {table} BEGIN SELECT 1; END")
    else:
        run(
            "CREATE FUNCTION harmless() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
            f"CREATE TRIGGER harmless AFTER INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION harmless()",
        )


def test_new_rows_are_distinguished_from_conflicting_ones() -> None:
    """In a table with a trigger that runs afterwards, for keys of both kinds."""
    for table in ("zoo_country",):
        put_harmless_trigger(table)
    Country.objects.create(code="aa", name="old")
    told = write_beside_plain(ignore(*two_countries()), COUNTRIES)
    assert told == [("row", "bb", ["create"], {"name": "B"})]


def test_keys_from_the_database_are_known() -> None:
    """The statement returns them."""
    put_harmless_trigger("zoo_food")
    Food.objects.create(name="A")
    binding = {"stream": "foods", "model": "zoo.Food", "fields": ["name"]}
    told = write_beside_plain(ignore(Food(name="A"), Food(name="B")), binding)
    assert told == [("row", Food.objects.get(name="B").pk, ["create"], {"name": "B"})]


def test_lists_report_the_rows_that_were_added() -> None:
    """``add`` of a list is such an insert.

    PostgreSQL does not report which through rows a trigger has inserted itself.
    """
    owls = [Animal.objects.create(name=name) for name in ("Owl", "Elk")]
    food = Food.objects.create(name="mice")
    cancel("zoo_animal_foods", "INSERT", f"NEW.animal_id = {owls[0].pk}")
    binding = {"stream": "fed", "model": "zoo.Animal", "fields": ["name", "foods"]}

    def add() -> None:
        for owl in owls:
            owl.foods.add(food)

    told = write_beside_plain(add, binding)
    expected = [(owls[0].pk, []), (owls[1].pk, [food.pk])]
    assert [(pk, data["foods"]) for _, pk, _, data in told] == expected[1 if IS_SQLITE else 0 :]


def divert() -> None:
    """Put a trigger on a table that inserts each row by a statement of its own, with another name."""
    if IS_SQLITE:
        run(
            "CREATE TRIGGER divert BEFORE INSERT ON zoo_country FOR EACH ROW WHEN NEW.name NOT LIKE 'own %'"
            " BEGIN INSERT INTO zoo_country VALUES (NEW.code, 'own ' || NEW.name); SELECT RAISE(IGNORE); END"
        )
    else:
        run(
            "CREATE FUNCTION divert() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN IF NEW.name LIKE 'own %' THEN RETURN NEW; END IF;"
            " INSERT INTO zoo_country VALUES (NEW.code, 'own ' || NEW.name); RETURN NULL; END $$",
            "CREATE TRIGGER divert BEFORE INSERT ON zoo_country FOR EACH ROW EXECUTE FUNCTION divert()",
        )


def test_rows_that_a_trigger_inserts_by_itself_are_not_lost() -> None:
    """They are reported row by row, or by a resync if the statement does not return them."""
    divert()
    told = write_beside_plain(ignore(*two_countries()), COUNTRIES)
    assert [row.name for row in Country.objects.order_by("pk")] == ["own A", "own B"]
    assert told == (created() if IS_SQLITE else [("bulk", None, ["resync"], {})])


def test_losing_rows_of_a_trigger_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a variant that relies on the rows that the statement returns."""
    monkeypatch.setattr(inserts._KeysBefore, "has_others", lambda self, keys: False)
    monkeypatch.setattr(inserts._KeysBefore, "find_keys", lambda self: [])
    with pytest.raises(AssertionError):
        test_rows_that_a_trigger_inserts_by_itself_are_not_lost()


@pytest.mark.skipif(IS_SQLITE, reason="SQLite has no rules.")
def test_a_table_with_a_rule_costs_a_resync() -> None:
    """It may have no rows to return, and an insert that has to return its rows would fail."""
    run("CREATE RULE strange AS ON INSERT TO zoo_country DO INSTEAD NOTHING")
    assert write_beside_plain(ignore(*two_countries()), COUNTRIES) == [("bulk", None, ["resync"], {})]


def test_unsearchable_keys_cost_a_resync() -> None:
    """On PostgreSQL, if fewer rows are returned than were given and a trigger may have inserted the others."""
    cancel("zoo_keeper", "INSERT", "NEW.name = 'A'")
    told = write_beside_plain(ignore(*two_keepers()), KEEPERS)
    assert told == (created() if IS_SQLITE else [("bulk", None, ["resync"], {})])


# Updates and deletes -------------------------------------------------------------------------------------------------


def bulk_update(rows: list[Any]) -> Any:
    for row in rows:
        row.name = "Z"
    return Country.objects.bulk_update(rows, ["name"])


UPDATES: dict[str, Callable[[], object]] = {
    "update": lambda: Country.objects.update(name="Z"),
    "update_of_one": lambda: [Country.objects.filter(pk=key).update(name="Z") for key in ("aa", "bb")],
    "bulk_update": lambda: bulk_update(two_countries()),
}
DELETES: dict[str, Callable[[], object]] = {
    "delete": lambda: [row.delete() for row in two_countries()],
    "delete_rows": lambda: Country.objects.all().delete(),
    "raw_delete": lambda: Country.objects.all()._raw_delete("default"),
}
GROUPS_OF_UPDATES = {"": ["update"], "groups": ["delete", "create"]}


@pytest.mark.parametrize("keys", GROUPED, ids=["constant", "grouped"])
@pytest.mark.parametrize("condition", ["", "OLD.code = 'aa'"], ids=["all", "some"])
@pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
def test_a_cancelled_update_leaves_no_event(update: Callable[[], object], condition: str, keys: JSONObject) -> None:
    """The other rows are reported."""
    Country.objects.bulk_create(two_countries())
    cancel("zoo_country", "UPDATE", condition)
    told = write_beside_plain(update, {**COUNTRIES, **keys})
    moved = ["delete", "create"] if keys else ["update"]
    assert told == ([("row", "bb", moved, {"name": "Z"})] if condition else [])


@pytest.mark.parametrize("keys", GROUPED, ids=["constant", "grouped"])
@pytest.mark.parametrize("condition", ["", "OLD.code = 'aa'"], ids=["all", "some"])
@pytest.mark.parametrize("delete", DELETES.values(), ids=DELETES)
def test_a_cancelled_delete_leaves_no_event(delete: Callable[[], object], condition: str, keys: JSONObject) -> None:
    """The other rows are reported."""
    Country.objects.bulk_create(two_countries())
    cancel("zoo_country", "DELETE", condition)
    told = write_beside_plain(delete, {**COUNTRIES, **keys})
    assert told == ([("gone", "bb", ["delete"], {"name": "B"})] if condition else [])


@pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
def test_an_update_that_changes_nothing_is_reported(update: Callable[[], object]) -> None:
    """It was carried out, like a save that stores unchanged values."""
    Country.objects.bulk_create([Country(code="aa", name="Z"), Country(code="bb", name="Z")])
    cancel("zoo_country", "UPDATE", "OLD.code = 'aa'")
    assert write_beside_plain(update, COUNTRIES) == [("row", "bb", ["update"], {"name": "Z"})]


def test_a_row_that_a_trigger_changes_instead_is_reported() -> None:
    """The statement returns nothing, and the row has changed."""
    Country.objects.bulk_create(two_countries())
    if IS_SQLITE:
        run(
            "CREATE TRIGGER instead BEFORE UPDATE ON zoo_country FOR EACH ROW WHEN NEW.name NOT LIKE 'own %'"
            " BEGIN UPDATE zoo_country SET name = 'own ' || NEW.name WHERE code = OLD.code; SELECT RAISE(IGNORE); END"
        )
    else:
        run(
            "CREATE FUNCTION instead() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN IF NEW.name LIKE 'own %' THEN RETURN NEW; END IF;"
            " UPDATE zoo_country SET name = 'own ' || NEW.name WHERE code = OLD.code; RETURN NULL; END $$",
            "CREATE TRIGGER instead BEFORE UPDATE ON zoo_country FOR EACH ROW EXECUTE FUNCTION instead()",
        )
    told = write_beside_plain(lambda: Country.objects.filter(pk="aa").update(name="Z"), COUNTRIES)
    assert told == [("row", "aa", ["update"], {"name": "own Z"})]


@pytest.mark.skipif(IS_SQLITE, reason="SQLite has no rules.")
@pytest.mark.parametrize("write", [*UPDATES.values(), *DELETES.values()], ids=[*UPDATES, *DELETES])
def test_a_rule_that_does_nothing_instead_leaves_no_event(write: Callable[[], object]) -> None:
    Country.objects.bulk_create(two_countries())
    for event in ("UPDATE", "DELETE"):
        run(f"CREATE RULE no_{event} AS ON {event} TO zoo_country DO INSTEAD NOTHING")
    assert write_beside_plain(write, COUNTRIES) == []


def save_again() -> None:
    row = Country.objects.get(pk="aa")
    row.name = "Z"
    row.save()


def test_a_save_with_a_cancelled_update_behaves_as_without_declbind() -> None:
    """Django then tries to insert the row, which exists."""
    Country.objects.bulk_create(two_countries())
    cancel("zoo_country", "UPDATE")
    assert write_beside_plain(save_again, COUNTRIES) == []


def check_that_selected_saves_are_told(condition: str, expected: Sequence[object]) -> None:
    Country.objects.bulk_create(two_countries())
    cancel("zoo_country", "UPDATE", condition)
    told = write_beside_plain(save_again, COUNTRIES)
    assert told == expected
    assert write_beside_plain(lambda: Country(code="cc", name="C").save(), COUNTRIES) == [
        ("row", "cc", ["create"], {"name": "C"})
    ]


@pytest.fixture
def selects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make Django look for the row before it saves one, and accept an existing row as saved."""
    monkeypatch.setattr(Country._meta, "select_on_save", True)


def test_a_cancelled_save_that_selects_first_leaves_no_event(selects: None) -> None:
    """Django considers the row saved."""
    check_that_selected_saves_are_told("", [])


def test_a_save_that_selects_first_is_reported_if_it_is_carried_out(selects: None) -> None:
    check_that_selected_saves_are_told("OLD.code = 'bb'", [("row", "aa", ["update"], {"name": "Z"})])


def test_a_save_that_selects_first_and_changes_nothing_is_reported(selects: None) -> None:
    Country.objects.create(code="aa", name="Z")
    cancel("zoo_country", "UPDATE", "OLD.code = 'bb'")
    assert write_beside_plain(save_again, COUNTRIES) == [("row", "aa", ["update"], {"name": "Z"})]


def test_trusting_a_save_that_selects_first_is_detected(selects: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a variant that does not count the updated rows."""
    monkeypatch.setattr(saves._TableSave, "_count_updates", lambda *args: None)
    with pytest.raises(AssertionError):
        check_that_selected_saves_are_told("", [])


@pytest.mark.parametrize("write", [UPDATES["update"], DELETES["delete_rows"]], ids=["update", "delete"])
def test_reporting_unwritten_rows_is_detected(write: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a variant that reports each row that was read before the write."""
    monkeypatch.setattr(written_rows.WrittenRows, "_cancelled", lambda self: set())
    check = (
        test_a_cancelled_update_leaves_no_event
        if write is UPDATES["update"]
        else test_a_cancelled_delete_leaves_no_event
    )
    with pytest.raises(AssertionError):
        check(write, "OLD.code = 'aa'", {})


def test_treating_unchanged_rows_as_cancelled_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a variant that ignores which rows the statement wrote."""
    monkeypatch.setattr(batch.Batch, "note_written", lambda self, plan, keys: setattr(self._part(plan), "written", ()))
    with pytest.raises(AssertionError):
        test_an_update_that_changes_nothing_is_reported(UPDATES["update"])
