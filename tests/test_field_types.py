"""Every type of column in Django: sent as JSON by each kind of write, accepted from a client, stored unchanged.

The types are collected at run time, so a type that a later version adds fails here until it has values.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, models, transaction
from django.db.models import Model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from declbind.inbound.conditions import is_same_json
from declbind.live.grants import check_subscriber
from declbind.live.snapshots import select_rows
from declbind.testing import capture_events, override_bindings
from tests.field_values import (
    IS_POSTGRES,
    OUTBOUND_ONLY,
    UTC,
    VALUES,
    Case,
    all_cases,
    bounds,
    column_models,
    columns,
    each_column,
    load,
    needs_postgres,
    record,
    send,
    text,
)
from tests.json_types import JSONObject
from tests.zoo.clients import connect
from tests.zoo.columns import HAS_PILLOW, Column

pytestmark = pytest.mark.django_db

# The types ------------------------------------------------------------------------------------------------------------


#: The types that no test column has, and the reasons.
NO_COLUMN = {
    "CompositePrimaryKey": "a model that has one is refused: tests/test_keys.py",
    "ContinuousRangeField": "the base of ranges",
    "Field": "the base of all",
    "ForeignObject": "has no column: tests/test_keys.py",
    "GenericForeignKey": "has no column; its two columns are of other types: tests/test_relations.py",
    "GenericRelation": "has no column: tests/test_relations.py",
    "RangeField": "the base of ranges",
    "RelatedField": "the base of relations",
    "_Float4Field": "what a function of searches returns",
}


def defined_types(packages: Iterable[str]) -> Iterator[type]:
    """Yield the field classes that modules of these packages define, except removed ones."""
    waiting: list[Any] = [models.Field]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.__module__.startswith(tuple(packages)) and kind.system_check_removed_details is None:
            yield kind


def uncovered(packages: Iterable[str]) -> set[str]:
    """Return the names of types without a test column and without a reason."""
    used = {type(field) for model in apps.get_models() for field in model._meta.get_fields(include_hidden=True)}
    return {kind.__name__ for kind in defined_types(packages) if kind not in used} - NO_COLUMN.keys()


def test_every_type_of_django_has_a_column():
    """A type that Django adds needs a column here, with values, or a reason."""
    packages = ["django.db.models", "django.contrib.contenttypes", *(["django.contrib.postgres"] * IS_POSTGRES)]
    # Django refuses a model with an image if Pillow is not installed.
    unavailable = set() if HAS_PILLOW else {"ImageField"}
    assert uncovered(packages) == unavailable
    assert VALUES.keys() - {name for _, name in columns()} == (set() if HAS_PILLOW else {"image"})


def test_a_type_without_a_column_is_detected():
    """Negative control: a class in one of those modules that no model uses is found."""
    kind = type("TomorrowField", (models.Field,), {"__module__": "django.db.models.fields.tomorrow"})
    try:
        assert uncovered(["django.db.models"]) == {"TomorrowField"}
    finally:
        kind.__module__ = __name__


# Outbound -------------------------------------------------------------------------------------------------------------


def written(model: Any, name: str, value: Any) -> list[Any]:
    """Write a value in each way of the ORM; return what was sent for it, once for each way."""
    with override_bindings(record(model)), capture_events() as events:
        row = model.objects.create(**{name: value})
        empty = model.objects.create()
        setattr(empty, name, value)
        empty.save()
        setattr(empty, name, value)
        empty.save(update_fields=[name])
        model.objects.filter(pk=row.pk).update(**{name: value})
        setattr(empty, name, value)
        model.objects.bulk_update([empty], [name])
        model.objects.bulk_create([model(**{name: value})])
        model.objects.get(pk=row.pk).save()
        model.objects.get(pk=row.pk).delete()
    assert len(events) == 9
    return [event.data[name] for number, event in enumerate(events) if number != 1]


def assert_sent(model: type[Model], name: str, case: Case) -> None:
    for number, sent in enumerate(written(model, name, case.value)):
        assert is_same_json(sent, case.sent), f"{name} = {case.value!r} was sent as {sent!r} by write {number}"


@each_column
def test_each_write_sends_the_value(model, name):
    """Any value that the ORM accepts is sent in one form, by each kind of write."""
    for case in all_cases(name):
        if name != "generated":
            assert_sent(model, name, case)


def test_generated_values_are_those_of_the_database():
    """A value that the database generates at each write is never sent as the instance's old value."""
    # No other column, which might cause the row to be read back.
    with override_bindings({**record(Column), "fields": ["char", "generated"]}), capture_events() as events:
        row = Column.objects.create()
        row.char = "ABC"
        row.save()
        row.char = "DEF"
        row.save(update_fields=["char"])
        Column.objects.update(char="GHI")
        row.char = None
        row.save()
        Column.objects.bulk_create([Column(char="X")])
    assert [event.data["generated"] for event in events] == [None, "abc", "def", "ghi", None, "x"]


# Inbound --------------------------------------------------------------------------------------------------------------


def stored_alike(one: object, other: object) -> bool:
    """Return whether two stored values have the same type and are equal."""
    return one == other and type(one) is type(other)


def assert_echo(client: Any, model: Any, name: str, case: Case, original: object) -> None:
    """Send a value back in a create, in an update and as a condition; check that the row holds the original value."""
    kept = original if case.kept is ... else case.kept
    created = send(client, "create", data={name: case.sent})["pk"]
    blank = model.objects.create().pk
    send(client, "update", pk=blank, data={name: case.sent})
    for pk in (created, blank):
        value = load(model, pk, name)
        assert stored_alike(value, kept), f"{name}: {case.sent!r} was stored as {value!r}, not as {kept!r}"
    if case.kept is ...:
        send(client, "update", pk=blank, data={name: case.sent}, **{"if": {name: case.sent}})


@each_column
def test_a_received_value_can_be_sent_back(model, name):
    """A client that returns a received value changes nothing, whether it creates or updates."""
    client = connect(record(model))
    for case in all_cases(name):
        if name in OUTBOUND_ONLY:
            error = client.refused("create", data={name: case.sent})
            assert (error.code, list(error.fields)) == ("invalid", [name])
        else:
            original = load(model, model.objects.create(**{name: case.value}).pk, name)
            assert_echo(client, model, name, case, original)


def test_a_type_that_is_not_returned_unchanged_is_detected():
    """Negative control: a text without a character, and a number returned as text, fail the comparison."""
    client = connect(record(Column))
    for name, case, original in (("char", Case("ab", "a"), "ab"), ("char", Case("5", "5"), 5)):
        with pytest.raises(AssertionError):
            assert_echo(client, Column, name, case, original)


@needs_postgres
def test_an_invalid_range_is_refused_with_a_message():
    """Neither a list nor a text is a range, and its bounds are validated like values of their own."""
    client = connect(record(column_models()[1]))
    faulty: Sequence[object] = [
        [1, 2], "[1,2)", 5, True, {}, {"lower": 1}, {"lower": 1, "upper": 2, "bounds": "<>"}, {"empty": False},
        {"lower": 5, "upper": 1, "bounds": "[)"}, {"lower": "x", "upper": 2, "bounds": "[)"},
        {"lower": 1, "upper": 2, "bounds": "[)", "more": 1}, {"lower": True, "upper": 2, "bounds": "[)"},
        {"lower": 1, "upper": 2**40, "bounds": "[)"}, {"lower": 1, "upper": 2, "bounds": []},
        {"empty": True, "lower": 1},
        {"lower": {}, "upper": [], "bounds": "[)"},
    ]  # fmt: skip
    for value in faulty:
        error = client.refused("create", data={"integer_range": value})
        assert (error.code, list(error.fields)) == ("invalid", ["integer_range"]), value


@needs_postgres
def test_a_large_bound_of_a_range_may_be_sent_as_a_number():
    """This holds for conditions and values: a client in another language than JavaScript need not know the rule."""
    from django.db.backends.postgresql.psycopg_any import NumericRange

    model: Any = column_models()[1]
    client = connect(record(model))
    row = model.objects.create(big_integer_range=(1, 2**60), array=[2**60])
    for large in (2**60, str(2**60)):
        value = {"big_integer_range": bounds(1, large), "array": [large]}
        send(client, "update", pk=row.pk, data=value, **{"if": value})
        stored = model.objects.get()
        assert (stored.big_integer_range, stored.array) == (NumericRange(1, 2**60), [2**60])
    assert client.refused("update", row.pk, {"array": []}, condition={"array": [2**60 + 1]}).code == "conflict"


@needs_postgres
def test_an_invalid_map_of_texts_is_refused_with_a_message():
    """A value of hstore is an object of texts and nulls."""
    client = connect(record(column_models()[1]))
    faulty: Sequence[object] = [
        [], ["a"], "a", '{"a": "b"}', 5, True, {"a": 1}, {"a": True}, {"a": []}, {"a": {"b": "c"}},
    ]  # fmt: skip
    for value in faulty:
        error = client.refused("create", data={"hstore": value})
        assert (error.code, list(error.fields)) == ("invalid", ["hstore"]), value


@needs_postgres
def test_an_invalid_list_is_refused_with_a_message():
    """Each item is validated as a value of its own; sizes and shapes are up to the model and the database."""
    client = connect(record(column_models()[1]))
    faulty: list[tuple[str, Any]] = [
        ("array", {}), ("array", "1,2"), ("array", [True]), ("array", [None]), ("array", [1.5]), ("array", [[1]]),
        ("array", [2**63]), ("array_of_arrays", [["a"], ["b", "c"]]), ("array_of_arrays", ["ab"]),
        ("array_of_arrays", [["a", "b", "c"]]), ("array_of_arrays", [["x" * 21]]),
        ("array_of_decimals", ["1", "2", "3", "4"]), ("array_of_moments", ["tomorrow"]),
    ]  # fmt: skip
    for name, value in faulty:
        error = client.refused("create", data={name: value})
        assert (error.code, list(error.fields)) == ("invalid", [name]), value


# Groups ---------------------------------------------------------------------------------------------------------------


@each_column
def test_a_received_value_selects_the_group(model, name):
    """A client that subscribes with a received value gets the rows that have it, live and in the snapshot.

    Documents are excluded, because JSON's scalars in params could not be distinguished from text.
    """
    client = connect({**record(model), "groups": [f"of-{{{name}}}"]})
    bound = client.binding(using="default")
    for case in VALUES[name]:
        model.objects.all().delete()
        with override_bindings(client.binding), capture_events() as events:
            model.objects.create(**{name: case.value})
            row = model.objects.get()
            row.save()
        is_whole = case.sent is not None and case.kept is ... and not isinstance(case.sent, list | dict)
        if not is_whole or name.startswith("json"):
            continue
        group, params = check_subscriber(bound, {name: case.sent})
        assert [event.changes for event in events] == [[(group, "create")], [(group, "update")]], case
        assert list(select_rows(bound, params)) == [row], case


# Random values --------------------------------------------------------------------------------------------------------


aware = st.datetimes(timezones=st.just(UTC))
DRAWN: JSONObject = {
    "big_integer": st.integers(-(2**63), 2**63 - 1),
    "binary": st.binary(max_size=50),
    "char": text.map(str.strip),
    "date": st.dates(),
    "date_time": aware.map(lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)),
    "decimal": st.decimals(-(10**10) + 1, 10**10 - 1, places=4, allow_nan=False),
    "duration": st.timedeltas(dt.timedelta(days=-100_000), dt.timedelta(days=100_000)),
    "float": st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False),
    "ip_address": st.ip_addresses().map(str),
    "json": st.recursive(
        st.booleans() | st.integers(-(2**70), 2**70) | st.floats(-1e15, 1e15) | text,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
        max_leaves=6,
    ),
    "time": st.times().map(lambda time: time.replace(microsecond=time.microsecond // 1000 * 1000)),
    # MariaDB accepts valid UUIDs only.
    "uuid": st.uuids(version=4 if connection.vendor == "mysql" else None),
}
FEWER = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("name", DRAWN)
@FEWER
@given(data=st.data())
def test_random_values_are_returned_unchanged(name, data):
    """Random values are sent by a save, returned by a client, and unchanged in the row."""
    value = data.draw(DRAWN[name])
    client = connect(record(Column))
    with transaction.atomic():
        with override_bindings(client.binding), capture_events() as events:
            row = Column.objects.create(**{name: value})
        sent = events[0].data[name]
        assert_echo(client, Column, name, Case(value, sent), load(Column, row.pk, name))
        transaction.set_rollback(True)


@pytest.mark.parametrize("model", column_models(), ids=lambda model: model.__name__)
@FEWER
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["lower", "upper", "bounds", "empty", "a"]) | text, inner, max_size=3)
        ),
        max_leaves=6,
    )
)
def test_no_json_value_causes_an_internal_error(model, value):
    """Whatever a client sends for any column, the row is stored or the client gets an error message."""
    client = connect(record(model))
    for name in [field.name for field in client.binding.writable_fields()]:
        with transaction.atomic():
            try:
                client.send("create", data={name: value})
            except Exception as error:
                assert getattr(error, "code", None) == "invalid", f"{name}: {value!r}: {error!r}"  # noqa: PT017
            transaction.set_rollback(True)


# Values without JSON --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [math.nan, decimal.Decimal("sNaN"), dt.time(12, tzinfo=UTC), object()],
    ids=lambda value: type(value).__name__,
)
def test_values_without_json_do_not_prevent_a_save(value):
    """A save that Django accepts succeeds, whatever types the values of an instance have."""
    with override_bindings(record(Column)):
        row = Column.objects.create(char="a")
        row.text = str(value)
        vars(row)["generated"] = value
        row.save()
    assert Column.objects.get().text == str(value)
