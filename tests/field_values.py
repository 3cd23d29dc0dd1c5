"""Values of every type of column, with the JSON that is sent for each."""

from __future__ import annotations

import datetime as dt
import json
import math
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, models
from django.db.models import Value
from django.utils.functional import lazystr
from django.utils.safestring import mark_safe
from hypothesis import strategies as st

from declbind.core.frames import parse_envelope, parse_request
from declbind.inbound import writes
from tests.json_types import JSONObject
from tests.zoo.clients import OPEN, be
from tests.zoo.columns import SHELF, Column, Mood, Size

IS_POSTGRES = connection.vendor == "postgresql"
needs_postgres = pytest.mark.skipif(not IS_POSTGRES, reason="the type is PostgreSQL's own")
UTC = dt.UTC
PARIS_SUMMER = dt.timezone(dt.timedelta(hours=2))


@dataclass(frozen=True)
class Case:
    """A value for the ORM, the JSON that must be sent for it, and the stored result of a client's echo."""

    value: object
    sent: Any
    #: The stored value itself, unless JSON cannot hold all of it.
    kept: Any = ...


def same(*values: object) -> list[Case]:
    """Return cases of values that are their own JSON."""
    return [Case(value, value) for value in values]


def cases(*triples: tuple[Any, ...]) -> list[Case]:
    return [Case(*triple) for triple in triples]


def bounds(lower: object, upper: object, kind: str = "[)") -> dict[str, object]:
    """Return the JSON of a range."""
    return {"lower": lower, "upper": upper, "bounds": kind}


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


def record(model: Any) -> JSONObject:
    return {"stream": "columns", "model": model._meta.label, "fields": "__all__", "permissions": OPEN}


def load(model: Any, pk: Any, name: str) -> Any:
    """Return a stored value; each database's kind of bytes is returned as bytes."""
    value = getattr(model.objects.get(pk=pk), name)
    return bytes(value) if isinstance(value, memoryview) else value


def send(client: Any, action: str, **keys: object) -> JSONObject:
    """Send a request as text, and return the reply."""
    text = json.dumps({"stream": "columns", "payload": {"action": action, "ref": 1, **keys}}, allow_nan=False)
    request = parse_request(parse_envelope(text, max_bytes=65_536, max_depth=16))
    return writes.handle(request, client.binding, be())


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
