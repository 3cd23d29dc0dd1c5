"""Every type of column in Django: sent as JSON by each kind of write, accepted from a client, stored unchanged.

The types are collected at run time, so a type that a later version adds fails here until it has values.
"""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, models, transaction
from django.db.models import Value
from django.utils.functional import lazystr
from django.utils.safestring import mark_safe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from declbind.core.frames import parse_envelope, parse_request
from declbind.inbound import writes
from declbind.inbound.conditions import is_same_json
from declbind.live.grants import check_subscriber
from declbind.live.snapshots import select_rows
from declbind.testing import capture_events, override_bindings
from tests.zoo.clients import OPEN, be, connect
from tests.zoo.columns import HAS_PILLOW, SHELF, Column, Mood, Size

pytestmark = pytest.mark.django_db

IS_POSTGRES = connection.vendor == "postgresql"
needs_postgres = pytest.mark.skipif(not IS_POSTGRES, reason="the type is PostgreSQL's own")
UTC = dt.UTC
PARIS_SUMMER = dt.timezone(dt.timedelta(hours=2))


@dataclass(frozen=True)
class Case:
    """A value for the ORM, the JSON that must be sent for it, and the stored result of a client's echo."""

    value: Any
    sent: Any
    #: The stored value itself, unless JSON cannot hold all of it.
    kept: Any = ...


def same(*values: Any) -> list[Case]:
    """Return cases of values that are their own JSON."""
    return [Case(value, value) for value in values]


def cases(*triples: tuple[Any, ...]) -> list[Case]:
    return [Case(*triple) for triple in triples]


WHOLE = [0, 1, -1]
#: The values of each column; ``None`` is added to all of them.
VALUES: dict[str, list[Case]] = {
    "big_integer": [
        *same(*WHOLE, 2**53 - 1, 1 - 2**53),
        *cases(*((number, str(number)) for number in (2**53, -(2**53), 2**53 + 1, 2**63 - 1, -(2**63)))),
        Case(Size.HUGE, str(2**60)),
        Case(True, 1),
        Case("7", 7),
    ],
    "binary": cases((b"", ""), (b"\x00\xff", "AP8="), (bytearray(b"x"), "eA=="), (memoryview(b"x"), "eA==")),
    "boolean": same(True, False),
    "char": [
        *same("", "a", "é\u2028😀", '"\\/<script>', "x" * 100),
        *cases(
            (" a ", " a ", "a"), (lazystr("lazy"), "lazy"), (mark_safe("<b>"), "<b>"), (Mood.WILD, "wild"), (5, "5")
        ),
    ],
    "date": [
        *cases(*((dt.date.fromisoformat(day), day) for day in ("2024-02-29", "0001-01-01", "9999-12-31"))),
        Case("2024-02-29", "2024-02-29"),
        Case(dt.datetime(2024, 2, 29, 23, 59, tzinfo=UTC), "2024-02-29"),
    ],
    "date_time": cases(
        (dt.datetime(2024, 2, 29, 12, tzinfo=UTC), "2024-02-29T12:00:00Z"),
        (dt.datetime(2024, 2, 29, 12, tzinfo=PARIS_SUMMER), "2024-02-29T10:00:00Z"),
        (dt.datetime(2024, 2, 29, 12, 0, 0, 123000, UTC), "2024-02-29T12:00:00.123Z"),
        # Django's encoder truncates to milliseconds.
        (
            dt.datetime(2024, 2, 29, 12, 0, 0, 123456, UTC),
            "2024-02-29T12:00:00.123Z",
            dt.datetime(2024, 2, 29, 12, 0, 0, 123000, UTC),
        ),
        (dt.datetime(1, 1, 2, tzinfo=UTC), "0001-01-02T00:00:00Z"),
        (dt.datetime(9999, 12, 30, 23, 59, 59, tzinfo=UTC), "9999-12-30T23:59:59Z"),
        ("2024-02-29T12:00:00+02:00", "2024-02-29T10:00:00Z"),
    ),
    "decimal": cases(
        (Decimal("0"), "0.0000"),
        (Decimal("1.5"), "1.5000"),
        (Decimal("-0.0001"), "-0.0001"),
        (Decimal("9999999999.9999"), "9999999999.9999"),
        (Decimal("-9999999999.9999"), "-9999999999.9999"),
        (Decimal("1E+3"), "1000.0000"),
        (2, "2.0000"),
        ("1.25", "1.2500"),
    ),
    "duration": cases(
        (dt.timedelta(0), "P0DT00H00M00S"),
        (dt.timedelta(days=1, hours=2, microseconds=3), "P1DT02H00M00.000003S"),
        (dt.timedelta(days=-1, microseconds=1), "-P0DT23H59M59.999999S"),
        (dt.timedelta(days=-40, hours=-3), "-P40DT03H00M00S"),
    ),
    "email": same("", "a@example.org"),
    "file": cases(("notes/é.txt", "notes/é.txt"), ("", "")),
    "file_path": cases((str(SHELF / "models.py"), str(SHELF / "models.py"))),
    "float": [
        *same(0.0, -1.5, 1e-300, 1.7976931348623157e308, 5e-324, 0.1, float(2**53), 1e22),
        *cases((3, 3.0)),
        # MySQL and MariaDB store finite numbers only.
        *cases(*((value, None, None) for value in (math.inf, -math.inf, math.nan) if connection.vendor != "mysql")),
    ],
    "generated": [],
    "ip_address": [
        *same("127.0.0.1", "::1", "2001:db8::ff00:42:8329"),
        Case("2001:0DB8::0001", "2001:db8::1"),
    ],
    "image": cases(("faces/a.png", "faces/a.png"), ("", "")),
    "integer": same(*WHOLE, 2**31 - 1, -(2**31)),
    "json": [
        *same({}, [], "", "text", "null", 0, 1.5, True, False, {"a": [1, {"b": None}], "é": "\u2028"}),
        # Numbers in a document stay numbers, even if JavaScript rounds them.
        *same(2**60, {"id": 2**60, "list": [2**60]}, [2**60]),
        # JSON's null and the column's null are equal in a frame, and a client's null is the column's.
        Case(Value(None, models.JSONField()), None, None),
    ],
    "json_encoded": cases(
        ({"at": dt.date(2024, 2, 29), "price": Decimal("1.50")}, {"at": "2024-02-29", "price": "1.50"}),
        ({"id": uuid.UUID(int=1)}, {"id": str(uuid.UUID(int=1))}),
    ),
    "mood": [*same("calm"), Case(Mood.WILD, "wild")],
    "positive_big_integer": [*same(0, 1), Case(2**63 - 1, str(2**63 - 1))],
    "positive_integer": same(0, 1, 2**31 - 1),
    "positive_small_integer": same(0, 1, 2**15 - 1),
    "size": [*same(1), Case(Size.SMALL, 1), Case(Size.HUGE, str(2**60)), Case(2**60, str(2**60))],
    "slug": same("", "a-b_c"),
    "small_integer": same(*WHOLE, 2**15 - 1, -(2**15)),
    "text": same("", "a\nb\tc", "é\u2028😀" * 100),
    "time": cases(
        (dt.time(0), "00:00:00"),
        (dt.time(23, 59, 59), "23:59:59"),
        (dt.time(12, 30, 0, 123456), "12:30:00.123", dt.time(12, 30, 0, 123000)),
        ("12:30", "12:30:00"),
    ),
    "url": same("", "https://example.org/a?b=c"),
    "uuid": cases(
        (uuid.UUID(int=0), str(uuid.UUID(int=0))),
        (uuid.UUID(int=2**128 - 1), str(uuid.UUID(int=2**128 - 1))),
        ("12345678123456781234567812345678", "12345678-1234-5678-1234-567812345678"),
    ),
}

#: Values that clients cannot send, and the reasons.
OUTBOUND_ONLY = {
    "file": "files are not sent in frames",
    "image": "files are not sent in frames",
    "generated": "the database makes it",
    "search_query": "a search is the server's own",
    "search_vector": "an index is the server's own",
}

if IS_POSTGRES:
    from django.db.backends.postgresql.psycopg_any import DateRange, DateTimeTZRange, NumericRange

    def bounds(lower: Any, upper: Any, kind: str = "[)") -> dict[str, Any]:
        """Return the JSON of a range."""
        return {"lower": lower, "upper": upper, "bounds": kind}

    NOON = dt.datetime(2024, 2, 29, 12, tzinfo=UTC)
    EMPTY = {"empty": True}
    WHOLE_RANGES = [
        Case(NumericRange(1, 5), bounds(1, 5)),
        Case(NumericRange(1, 5, "[]"), bounds(1, 6)),
        Case(NumericRange(None, 5), bounds(None, 5, "()")),
        Case(NumericRange(-5, None), bounds(-5, None)),
        Case(NumericRange(None, None), bounds(None, None, "()")),
        Case(NumericRange(empty=True), EMPTY),
        Case((1, 5), bounds(1, 5)),
    ]
    VALUES |= {
        "array": [*same([], [1, 2], [-1]), Case([1, 2**60], [1, str(2**60)]), Case((1, 2), [1, 2])],
        "array_of_arrays": same([], [["a", "é"], ["", '"{},\\']]),
        "array_of_moments": [
            Case([NOON, None], ["2024-02-29T12:00:00Z", None]),
            Case([NOON.replace(tzinfo=PARIS_SUMMER)], ["2024-02-29T10:00:00Z"]),
        ],
        "array_of_decimals": [
            Case([Decimal("1.5"), Decimal("12345678901234567890.0123456789")],
                 ["1.5000000000", "12345678901234567890.0123456789"]),
        ],
        "array_of_documents": same([{"a": [1, None]}, 2**60, "x"], []),
        "big_integer_range": [*WHOLE_RANGES, Case(NumericRange(1, 2**60), bounds(1, str(2**60)))],
        "integer_range": WHOLE_RANGES,
        "date_range": [
            Case(DateRange(dt.date(2024, 2, 28), dt.date(2024, 3, 1)), bounds("2024-02-28", "2024-03-01")),
            Case(DateRange(None, dt.date(2024, 3, 1)), bounds(None, "2024-03-01", "()")),
            Case(DateRange(empty=True), EMPTY),
        ],
        "date_time_range": [
            Case(DateTimeTZRange(NOON, None), bounds("2024-02-29T12:00:00Z", None)),
            Case(
                DateTimeTZRange(NOON, NOON + dt.timedelta(milliseconds=1), "()"),
                bounds("2024-02-29T12:00:00Z", "2024-02-29T12:00:00.001Z", "()"),
            ),
        ],
        "decimal_range": [
            Case(NumericRange(Decimal("1.5"), Decimal("2.5"), kind), bounds("1.5", "2.5", kind))
            for kind in ("[]", "()", "[)", "(]")
        ],
        "hstore": same({}, {"a": "b", "": "", "é\"'=>": None}),
        "long_decimal": [
            Case(Decimal("1" * 997 + ".25"), "1" * 997 + ".25"),
        ],
        "search_query": [Case(Value("cat", models.TextField()), "'cat'")],
        "search_vector": [Case(Value("a cat", models.TextField()), "'a' 'cat'")],
    }  # fmt: skip


def column_models() -> list[Any]:
    """Return the models that have the columns."""
    return [Column, *(apps.get_app_config("postgres_zoo").get_models() if IS_POSTGRES else [])]


def columns() -> list[tuple[Any, str]]:
    return [
        (model, field.name)
        for model in column_models()
        for field in model._meta.concrete_fields
        if not field.primary_key
    ]


def all_cases(name: str) -> list[Case]:
    # For a file without a name Django stores different values; in a frame they are equal.
    return [*VALUES[name], Case(None, "" if name in ("file", "image") else None)]


each_column = pytest.mark.parametrize(
    ("model", "name"), [pytest.param(model, name, id=name) for model, name in columns()]
)


def record(model: Any) -> dict[str, Any]:
    return {"stream": "columns", "model": model._meta.label, "fields": "__all__", "permissions": OPEN}


def load(model: Any, pk: Any, name: str) -> Any:
    """Return a stored value; each database's kind of bytes is returned as bytes."""
    value = getattr(model.objects.get(pk=pk), name)
    return bytes(value) if isinstance(value, memoryview) else value


def send(client: Any, action: str, **keys: Any) -> dict[str, Any]:
    """Send a request as text, and return the reply."""
    text = json.dumps({"stream": "columns", "payload": {"action": action, "ref": 1, **keys}}, allow_nan=False)
    request = parse_request(parse_envelope(text, max_bytes=65_536, max_depth=16))
    return writes.handle(request, client.binding, be())


# Which types there are ----------------------------------------------------------------------------------------------

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


def test_a_new_type_would_be_missed():
    """Negative control: a class in one of those modules that no model uses is found."""
    kind = type("TomorrowField", (models.Field,), {"__module__": "django.db.models.fields.tomorrow"})
    try:
        assert uncovered(["django.db.models"]) == {"TomorrowField"}
    finally:
        kind.__module__ = __name__


# Out ----------------------------------------------------------------------------------------------------------------


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


def assert_sent(model: Any, name: str, case: Case) -> None:
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


# In -----------------------------------------------------------------------------------------------------------------


def stored_alike(one: Any, other: Any) -> bool:
    """Return whether two stored values have the same type and are equal."""
    return one == other and type(one) is type(other)


def assert_echo(client: Any, model: Any, name: str, case: Case, original: Any) -> None:
    """Send a sent value back, in a create, in an update and as a condition: the row holds the original value."""
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
    faulty: list[Any] = [
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
def test_a_large_end_of_a_range_may_be_a_number_in_a_condition():
    """A value may too: a client in another language than JavaScript need not know the rule."""
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
    faulty: list[Any] = [
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


# Groups -------------------------------------------------------------------------------------------------------------


@each_column
def test_a_received_value_names_the_group(model, name):
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


# Drawn values -------------------------------------------------------------------------------------------------------

aware = st.datetimes(timezones=st.just(UTC))
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
DRAWN: dict[str, Any] = {
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


# What breaks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [math.nan, decimal.Decimal("sNaN"), dt.time(12, tzinfo=UTC), object()],
    ids=lambda value: type(value).__name__,
)
def test_values_without_json_never_break_the_writer(value):
    """A save that Django would do succeeds, whatever values an instance has beside its columns' types."""
    with override_bindings(record(Column)):
        row = Column.objects.create(char="a")
        row.text = str(value)
        vars(row)["generated"] = value
        row.save()
    assert Column.objects.get().text == str(value)
