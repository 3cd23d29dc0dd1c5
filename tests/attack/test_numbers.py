"""Values of a client never exhaust the process's time or memory, whatever their field."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, models

from declbind import value_validation
from declbind.core.frames import RequestError, parse_envelope
from declbind.serializers import encode_value
from declbind.testing import Client, override_bindings
from tests.zoo.models import Sample

#: More than any of these values needs; an expanded exponent takes a hundred times as much.
MAX_BYTES = 4_000_000

DIGITS = "9" * 60_000
HOSTILE: dict[str, object] = {
    "an exponent": "1E+999999999",
    "a negative exponent": "1E-999999999",
    "an exponent that fits into memory": "1E+20000000",
    "the exponent of a zero": "0E+999999999",
    "the largest exponent": "1e999999999999999999",
    "a float's exponent": "1e400",
    "a number": 1e308,
    "a whole number": int("9" * 1000),
    "digits": DIGITS,
    "negative digits": "-" + DIGITS,
    "a fraction": "0." + DIGITS,
    "digits and an exponent": "1." + DIGITS + "E-999999999",
    "underscores": "1_" * 30_000 + "1",
    "other scripts' digits": "\u0669" * 20_000,
    "infinity": "Infinity",
    "a signalling NaN": "sNaN" + "1" * 5000,
    "a year": "99999-01-01",
    "a date of digits": DIGITS + "-01-01",
    "a time of digits": "10:" + DIGITS,
    "a moment with a far offset": "0001-01-01T00:00:00+23:59",
    "a last moment": "9999-12-31T23:59:59-23:59",
    "days": "P999999999999D",
    "the longest time": "P999999999D",
    "a duration of digits": "P" + DIGITS + "D",
    "a duration with colons": "9" * 4000 + ":00:00",
    "days in words": "9" * 5000 + " days",
    "a UUID": "f" * 60_000,
    "braces": "{" * 30_000,
    "an address": "::ffff:" + "1." * 20_000,
    "colons": ":" * 60_000,
    "an address of digits": "1" * 60_000,
    "a NUL": "a\0b",
    "NULs": "\0" * 60_000,
    "spaces": " " * 60_000 + "x",
    "an e-mail address": "a@" + "b." * 30_000,
    "at signs": "@" * 60_000,
    "a URL": "http://" + "a" * 60_000,
    "a URL of brackets": "http://[" + ":" * 60_000,
    "dots": "http://" + "a." * 30_000 + "com",
    "commas": "," * 60_000,
    "a list": [[[]]],
    "an object": {"a": {"b": {}}},
    "true": True,
}


def make_fields() -> list[Any]:
    """Return the fields of a model with each type, and a column of decimal numbers without a bound."""
    unbounded = models.DecimalField(null=True)
    unbounded.set_attributes_from_name("unbounded")
    unbounded.model = Sample
    return [field for field in Sample._meta.get_fields() if isinstance(field, models.Field)] + [unbounded]


FIELDS = {field.name: field for field in make_fields()}


def pass_on(field: models.Field[Any, Any], value: object) -> None:
    """Parse a value as a write, as params and as a condition, and encode the result."""
    for read in (value_validation.clean_value, value_validation.coerce):
        try:
            found = read(field, value)
        except (ValidationError, ValueError):
            continue
        if isinstance(found, Decimal):
            # Drivers and templates of a project may do this.
            format(found, "f")
        if not isinstance(field, models.BinaryField):
            encode_value({"x": found})


def measure(field: models.Field[Any, Any], value: object) -> int:
    """Return the memory in bytes that it takes to process a value."""
    tracemalloc.start()
    try:
        pass_on(field, value)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.django_db
@pytest.mark.parametrize("name", FIELDS)
def test_no_value_takes_memory_or_raises(name):
    """Each value is accepted, or refused with ``ValidationError`` or ``ValueError``, within a few megabytes."""
    taken = {kind: measure(FIELDS[name], value) for kind, value in HOSTILE.items()}
    assert {kind: size for kind, size in taken.items() if size > MAX_BYTES} == {}


def test_an_expanded_number_is_detected(monkeypatch):
    """Control: without the bound on the exponent, one value of ten characters takes twenty megabytes."""
    monkeypatch.setattr(value_validation, "MAX_EXPONENT", 10**9)
    assert measure(FIELDS["unbounded"], HOSTILE["an exponent that fits into memory"]) > MAX_BYTES


ROWS = {
    "stream": "samples",
    "model": "zoo.Sample",
    "exclude": ["upload"],
    "permissions": {"view": True, "create": True, "update": True},
}


async def find_faults(names: Iterable[str]) -> list[tuple[str, str, str]]:
    """Write each hostile value to each field and in a condition; return the answers with code ``internal``."""
    faults = []
    with override_bindings(ROWS):
        async with Client() as client:
            pk = (await client.request("samples", "create", data={"required_null": 1}))["pk"]
            for name in names:
                for kind, value in HOSTILE.items():
                    for action, payload in (
                        ("create", {"data": {name: value, "required_null": 1}}),
                        ("update", {"pk": pk, "data": {"count": 1}, "if": {name: value}}),
                    ):
                        if len(json.dumps(payload)) > 65_000:
                            continue
                        reply = await client.request("samples", action, **payload)
                        if not reply["ok"] and reply["error"]["code"] == "internal":
                            faults.append((name, kind, action))
    return faults


@pytest.mark.timeout(180)
@pytest.mark.django_db(transaction=True)
async def test_no_value_causes_an_internal_error(settings):
    """A client's value is stored or refused; the server does not fail, whatever the column."""
    settings.DECLBIND = {"MESSAGES_PER_SECOND": 1_000_000, "MESSAGE_BURST": 1_000_000}
    one_of_each = {type(field): field.name for field in Sample._meta.fields if field.name not in ("id", "upload")}
    assert await find_faults(one_of_each.values()) == []


@pytest.mark.django_db(transaction=True)
async def test_a_value_that_no_column_holds_is_detected(settings, monkeypatch):
    """Control: without its bound, a duration is too large for the integer that some databases store."""
    settings.DECLBIND = {"MESSAGES_PER_SECOND": 1_000_000, "MESSAGE_BURST": 1_000_000}
    monkeypatch.setattr(value_validation, "LONGEST", timedelta.max)
    has_own_type = connection.features.has_native_duration_field
    faults = await find_faults(["span"])
    assert (("span", "the longest time", "create") in faults) is not has_own_type


class Counting(int):
    """A stand-in for ``int`` in the parser that records the lengths of converted texts."""

    longest = 0

    def __new__(cls, text: str) -> Any:
        cls.longest = max(cls.longest, len(text))
        return int(text)


@pytest.mark.parametrize("number", [DIGITS, "-" + DIGITS, "1" * 4301, "0." + DIGITS, DIGITS + "e1", "1" * 1001])
def test_a_long_number_is_refused_before_it_is_converted(number, monkeypatch):
    """The length of its text decides, not its value, nor Python's own limit for digits."""
    monkeypatch.setattr("declbind.core.frames.int", Counting, raising=False)
    monkeypatch.setattr("declbind.core.frames._finite", Counting)
    Counting.longest = 0
    text = f'{{"stream": "s", "payload": {{"action": "delete", "pk": {number}, "ref": 5}}}}'
    with pytest.raises(RequestError, match="Expected numbers of at most 1000 digits") as caught:
        parse_envelope(text, max_bytes=200_000, max_depth=16)
    assert (caught.value.code, caught.value.stream, caught.value.ref) == ("malformed", "s", 5)
    # The reference was converted, and nothing longer.
    assert Counting.longest == 1


@pytest.mark.parametrize("number", ["1" * 1000, "-" + "1" * 1000, "0." + "1" * 990])
def test_a_number_of_the_widest_column_is_accepted(number):
    """PostgreSQL declares up to 1000 digits."""
    text = f'{{"stream": "s", "payload": {{"pk": {number}}}}}'
    assert parse_envelope(text, max_bytes=200_000, max_depth=16).payload["pk"] == json.loads(number)


def test_digits_in_a_text_are_not_limited():
    """A text may contain a long run of digits."""
    text = f'{{"stream": "s", "payload": {{"data": {{"note": "{DIGITS}"}}, "n": [1, 2.5]}}}}'
    payload = parse_envelope(text, max_bytes=200_000, max_depth=16).payload
    assert payload == {"data": {"note": DIGITS}, "n": [1, 2.5]}


def test_a_long_number_is_not_converted_by_the_parser_itself():
    """Control: Python's own parser converts any number up to its limit."""
    assert json.loads("1" * 4300) > 10**4299
    with pytest.raises(ValueError, match="4300 digits"):
        json.loads("1" * 4301)
