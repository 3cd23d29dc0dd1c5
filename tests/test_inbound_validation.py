"""JSON values are converted to values of a row or refused with a text, and nothing else is raised."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from declbind import row_validation, validation_errors, value_validation
from declbind.core.errors import ClientError
from tests.factories import FoodFactory, KeeperFactory
from tests.zoo.clients import connect
from tests.zoo.models import Animal, Food, Profile, Sample, Truck

REFUSED = object()
UTC = dt.UTC


def refused(name: str, *values: object) -> list[tuple[str, object, object]]:
    return [(name, value, REFUSED) for value in values]


#: (field of Sample, JSON value, what the row gets or REFUSED)
VALUES: list[tuple[str, object, object]] = [
    # Booleans are true and false, and nothing that HTML would take for them.
    ("flag", True, True),
    ("flag", False, False),
    *refused("flag", None, 0, 1, "yes", "true", "", [], {}, 1.0),
    ("maybe", None, None),
    ("maybe", False, False),
    ("maybe", "on", REFUSED),
    # Whole numbers; text as a form takes it.
    ("small", 5, 5),
    ("small", "5", 5),
    ("small", None, None),
    ("small", "", None),
    *refused("small", True, 5.0, 1.5, "5.5", "x", [5], {"a": 5}, 10**30, -(10**400)),
    ("count", -1, REFUSED),
    ("big", 2**63 - 1, 2**63 - 1),
    ("big", 2**63, REFUSED),
    ("required_null", None, None),
    # Other numbers.
    ("ratio", 1.5, 1.5),
    ("ratio", 2, 2.0),
    ("ratio", "1e3", 1000.0),
    *refused("ratio", True, "NaN", "inf", 10**400, [1.5]),
    ("price", "1.50", Decimal("1.50")),
    ("price", 1.5, Decimal("1.5")),
    ("price", 3, Decimal("3")),
    *refused("price", True, "1.505", 10**9, "1e999999999", "NaN", "x", 10**400),
    # Text.
    ("text", "  word ", "word"),
    ("text", "", ""),
    ("text", None, None),
    ("text", 5, "5"),
    *refused("text", True, ["a"], {}, "x" * 21, "a\0b", "\ud800"),
    ("note", "", ""),
    ("note", None, REFUSED),
    ("code", "a-b", "a-b"),
    ("code", "a b", REFUSED),
    ("mail", "a@example.org", "a@example.org"),
    ("mail", "nobody", REFUSED),
    ("site", "https://example.org/a", "https://example.org/a"),
    ("site", "http://[", REFUSED),
    # Dates and times are ISO 8601, whatever the active language.
    ("day", "2020-02-29", dt.date(2020, 2, 29)),
    ("day", "", None),
    *refused("day", "2021-02-29", "10/11/2012", "tomorrow", 20200229, True, 1.5, ["2020"]),
    ("moment", "2020-01-01T10:00:00Z", dt.datetime(2020, 1, 1, 10, tzinfo=UTC)),
    ("moment", "2020-01-01T10:00:00.123+02:00", dt.datetime(2020, 1, 1, 8, 0, 0, 123000, tzinfo=UTC)),
    ("moment", "2020-01-01T10:00:00", dt.datetime(2020, 1, 1, 10, tzinfo=UTC)),
    *refused("moment", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"),
    *refused("moment", "2020-13-01T00:00:00Z", "x", 1577872800, 1577872800.5, True),
    ("clock", "10:30", dt.time(10, 30)),
    ("clock", "25:00", REFUSED),
    ("span", "P1DT2H", dt.timedelta(days=1, hours=2)),
    ("span", "1 02:00:00", dt.timedelta(days=1, hours=2)),
    *refused("span", "soon", 5, True, "P99999999999D"),
    # Others.
    ("key", "12345678123456781234567812345678", uuid.UUID(int=0x12345678123456781234567812345678)),
    *refused("key", "x", 5, True, []),
    ("address", "::1", "::1"),
    ("address", "1.2.3", REFUSED),
    ("level", 2, 2),
    ("level", "1", 1),
    *refused("level", 3, True, 1.0, [1], "low"),
    # JSON holds any JSON, and text is not parsed once more.
    *(
        ("info", value, value)
        for value in ({"a": [1, None, {"b": True}]}, [1], 5, 1.5, True, "abc", '{"a": 1}', "null")
    ),
    ("info", None, REFUSED),
    ("extra", None, None),
    ("blob", "AAEC", b"\0\x01\x02"),
    *refused("blob", "###", 5, ["AAEC"]),
    *refused("upload", "secrets.txt", "../../etc/passwd", None, "", {"name": "a"}),
]


def clean(name: str, value: object) -> object:
    field: Any = Sample._meta.get_field(name)
    try:
        cleaned = value_validation.clean_value(field, value)
        # The model's own validators check what the parser accepts.
        if cleaned is not None:
            field.clean(cleaned, Sample())
    except ValidationError:
        return REFUSED
    return cleaned


@pytest.mark.parametrize(("name", "value", "expected"), VALUES)
def test_json_values_become_values_of_the_row(name, value, expected):
    """Each type of column takes the JSON that stands for it, and refuses the rest."""
    cleaned = clean(name, value)
    assert cleaned is REFUSED if expected is REFUSED else (cleaned == expected and type(cleaned) is type(expected))


@pytest.mark.parametrize("name", [field.name for field in Sample._meta.get_fields() if field.name != "id"])
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
        max_leaves=5,
    )
)
def test_every_json_value_is_converted_or_refused(name, value):
    """For any JSON value, the result is a value or a ValidationError."""
    clean(name, value)


@pytest.mark.parametrize("language", ["de", "en-us"])
def test_dates_do_not_depend_on_the_language_of_the_process(language):
    """Form fields read dates and decimals in the order of the active language; a protocol must not."""
    with override_settings(LANGUAGE_CODE=language, USE_THOUSAND_SEPARATOR=True):
        assert clean("day", "2012-10-11") == dt.date(2012, 10, 11)
        assert clean("day", "11.10.2012") is REFUSED
        assert clean("price", "1,50") is REFUSED


def test_naive_moments_without_time_zones():
    """Where a project stores naive moments, an aware one is brought to its zone."""
    with override_settings(USE_TZ=False, TIME_ZONE="UTC"):
        assert clean("moment", "2020-01-01T10:00:00+02:00") == dt.datetime(2020, 1, 1, 8)  # noqa: DTZ001


@pytest.mark.django_db
def test_a_foreign_key_accepts_the_key_of_an_allowed_row():
    """Absent rows, rows outside of limit_choices_to and values of another type get one answer."""
    field = Animal._meta.get_field("keeper")
    keeper, retired = KeeperFactory.create(), KeeperFactory.create(retired=True)
    assert value_validation.clean_value(field, keeper.pk) == keeper
    assert value_validation.clean_value(field, str(keeper.pk)) == keeper
    assert value_validation.clean_value(field, None) is None
    texts = set()
    for value in (retired.pk, 999_999, 10**30, 1.0, "x"):
        with pytest.raises(ValidationError) as caught:
            value_validation.clean_value(field, value)
        texts.update(caught.value.messages)
    assert texts == {"Select a valid choice. That choice is not one of the available choices."}
    for value in ([keeper.pk], {"pk": keeper.pk}, True):
        with pytest.raises(ValidationError, match=r"Expected (one value|a key)"):
            value_validation.clean_value(field, value)


@pytest.mark.django_db
def test_a_list_accepts_the_keys_of_allowed_rows():
    """A many-to-many field takes a list of keys, each of them a row that a form would offer."""
    field = Animal._meta.get_field("foods")
    hay, bread, arsenic = FoodFactory.create(), FoodFactory.create(), FoodFactory.create(poisonous=True)
    chosen: Any = value_validation.clean_value(field, [hay.pk, str(bread.pk), hay.pk])
    assert set(chosen) == {hay, bread}
    assert value_validation.clean_value(field, []) == []
    no_lists: list[object] = [None, hay.pk, "1", {}, True]
    no_keys: list[object] = [[True], [None], [[1]], [1.0], [10**30], [999_999], [arsenic.pk], ["x"]]
    for value in no_lists + no_keys:
        with pytest.raises(ValidationError):
            value_validation.clean_value(field, value)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        (Animal._meta.pk, 5, 5),
        (Animal._meta.pk, "05", 5),
        (Animal._meta.get_field("keeper"), "7", 7),
        (Profile._meta.pk, 7, 7),
        (Truck._meta.pk, "7", 7),
        (Sample._meta.get_field("flag"), True, True),
        (Sample._meta.get_field("moment"), "2020-01-01T10:00", dt.datetime(2020, 1, 1, 10, tzinfo=UTC)),
        (Sample._meta.get_field("key"), uuid.UUID(int=5), uuid.UUID(int=5)),
        (Food._meta.get_field("name"), "hay", "hay"),
    ],
)
def test_a_scalar_becomes_the_fields_value(field, value, expected):
    """Keys, params and conditions are compared as values of their field, a relation as its target's."""
    assert value_validation.coerce(field, value) == expected


@pytest.mark.parametrize("value", [True, 1.5, [1], {}, "x", 2**63, 10**400, "1e400", "a\0"])
@pytest.mark.parametrize("field", [Animal._meta.pk, Animal._meta.get_field("keeper"), Profile._meta.pk, Truck._meta.pk])
def test_an_invalid_key_is_a_value_error(field, value):
    """Neither ``true`` nor 1.5 is the key of row 1, and no other exception is raised."""
    with pytest.raises(ValueError, match="expected"):
        value_validation.coerce(field, value)


def check_whitelist_holds(check: Callable[..., object]) -> None:
    """Assert that `check` accepts only writable names, and reports the others."""
    writable = [Animal._meta.get_field("name"), Animal._meta.get_field("foods")]
    check({"name": 1, "foods": []}, writable)
    for name in ("secret_token", "nonsense", "id", "pk", "owner_id", "__class__", "name "):
        with pytest.raises(ClientError) as caught:
            check({"name": 1, name: 1}, writable)
        assert caught.value.code == "invalid"
        assert list(caught.value.fields) == [name]


def test_a_name_that_is_not_writable_is_refused_by_name():
    """Closed, absent and misspelt fields get the same answer, under their name."""
    check_whitelist_holds(row_validation.check_whitelist)


def lets_prefixes_through(names, writable):
    allowed = tuple(field.name for field in writable)
    row_validation.check_whitelist([name for name in names if not name.startswith(allowed)], writable)


def drops_silently(names, writable):
    return [name for name in names if name in {field.name for field in writable}]


@pytest.mark.parametrize("broken", [lets_prefixes_through, drops_silently, lambda names, writable: None])
def test_a_leaking_whitelist_is_detected(broken):
    """Negative control: a check by prefix, a silent check, and no check at all fail the previous test."""
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_whitelist_holds(broken)


def test_errors_of_fields_that_are_not_sent_have_no_name():
    """A rule may concern a field that clients do not know. They get its text without the field."""
    binding = connect(fields=["name"]).binding
    error = validation_errors.as_client_error(
        ValidationError({"name": "Too short.", "secret_token": "Bad."}), binding, {}
    )
    assert (error.fields, error.message) == ({"name": ["Too short."]}, "Bad.")
