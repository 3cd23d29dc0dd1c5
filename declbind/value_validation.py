"""The validation of values that clients send for a row, similar to a ``ModelForm`` over the writable fields.

Form fields parse text from HTML: a missing checkbox means false, an empty input means null, and ``"yes"`` is true. A
JSON value has its own type. The type is checked first, and only values that need parsing go through the form field. The
model itself then validates the row: field validators, ``clean``, uniqueness and constraints.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.fields.related import RelatedField
from django.forms import models as form_models
from django.forms import utils as form_utils
from django.utils import timezone

from declbind.core.frames import describe
from declbind.django_types import Column, Rows, related_model
from declbind.serializers import encode_value
from declbind.serializers.default import json_value
from declbind.stored_values import is_stock, key_field

#: The largest exponent of a decimal number. No database stores as many digits; PostgreSQL stores 131 072 of them.
MAX_EXPONENT: Final = 150_000
#: The longest duration. Databases without a type for it store microseconds in 64 bits.
LONGEST: Final = dt.timedelta(microseconds=2**63 - 1)
#: The exceptions of form and model fields for unexpected values.
PARSE_ERRORS: Final = (TypeError, ValueError, ArithmeticError, AttributeError, LookupError, RecursionError)
_TEMPORAL: Final = ("DateField", "DateTimeField", "TimeField", "DurationField")
_NUMBERS: Final = ("FloatField", "DecimalField")
#: Fields that only the server writes. A search index is computed from other columns.
_SERVERS_OWN: Final = ("SearchVectorField", "SearchQueryField")
_BOUNDS: Final = ("[)", "[]", "(]", "()")

#: Undocumented functions of Django; ``None`` in a release without them (see ``outbound.seams``).
_limit_choices: Any = getattr(form_models, "apply_limit_choices_to_to_formfield", None)
_from_current_timezone: Any = getattr(form_utils, "from_current_timezone", None)


def is_storable_text(text: str) -> bool:
    """Return whether every database accepts a text. PostgreSQL refuses NUL, and no driver encodes lone surrogates."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def coerce(field: Column, value: object) -> object:
    """Return a JSON scalar as the field's Python value. A foreign key takes a value of its target.

    This is stricter than ``to_python``, which takes ``true`` for 1 and truncates 1.5 to 1.

    Raises:
        ValueError: The field does not accept the value.
    """
    target = key_field(field)
    internal = target.get_internal_type()
    takes_any = internal in ("BooleanField", "JSONField") and not isinstance(value, dict | list)
    fault = "" if takes_any else _type_fault(target, value)
    if fault:
        raise ValueError(f"expected {fault} for {field.name}, got {describe(value)}")
    try:
        result = _settle(target.to_python(value))
        _validate_coerced(target, result)
    except (ValidationError, *PARSE_ERRORS) as error:
        raise ValueError(f"expected a {internal} for {field.name}, got {value!r:.60}") from error
    return result


def accepted_values(field: Column, value: object) -> tuple[object, ...]:
    """Return the values that ``where`` accepts for a column, ``None`` for null.

    A fraction in a list for an integer column is left out, because no row has it.

    Raises:
        ValueError: A value does not fit the column.
    """
    is_whole = _is_whole(key_field(field).get_internal_type())
    found = []
    for item in value if isinstance(value, list | tuple) else (value,):
        if isinstance(item, float) and is_whole:
            if item.is_integer():
                found.append(coerce(field, int(item)))
        else:
            found.append(None if item is None else coerce(field, item))
    return tuple(found)


def _is_whole(internal: str) -> bool:
    return "Integer" in internal or internal.endswith("AutoField")


def _validate_coerced(field: Column, value: object) -> None:
    try:
        field.run_validators(value)
    except PARSE_ERRORS:
        # Validators of a package may expect the attribute's type, such as an amount with its currency, and those of
        # Django cannot measure such a value. Nothing is stored here.
        if is_stock(field):
            raise


#: A function that narrows the rows of a related model to those that may be chosen.
Narrow = Callable[[Rows], Rows]


def clean_value(field: Column, value: object, using: str | None = None, narrow: Narrow | None = None) -> object:
    """Return a JSON value as a value for the attribute of the row.

    A foreign key gives its row, a many-to-many field its rows. A row that ``narrow`` excludes is answered like a
    missing one.

    Raises:
        ValidationError: The field does not accept the value.
    """
    internal = field.get_internal_type()
    if isinstance(field, models.FileField):
        raise ValidationError("Files cannot be sent here.", code="file")
    if internal in _SERVERS_OWN:
        raise ValidationError("This field cannot be written here.", code="invalid")
    if field.many_to_many:
        return _clean_keys(field, value, using, narrow)
    # An empty text is a valid value of these fields only.
    is_text = isinstance(field, models.CharField | models.TextField | models.BinaryField) or internal == "JSONField"
    if value is None or (value == "" and not is_text):
        if not field.null:
            raise ValidationError(str(field.error_messages["null"]), code="null")
        return None
    if internal == "JSONField":
        return value
    if internal == "HStoreField":
        return _clean_texts(value)
    if internal == "ArrayField":
        if not isinstance(value, list):
            raise _unexpected("a list", value)
        return [clean_value(_base_field(field), item, using) for item in value]
    if (range_type := getattr(field, "range_type", None)) is not None:
        return _clean_range(_base_field(field), range_type, value, using)
    if isinstance(value, dict | list):
        return _clean_many(field, value)
    if fault := _type_fault(field, value):
        raise _unexpected(fault, value)
    try:
        cleaned = _parse(field, internal, value, using, narrow)
    except PARSE_ERRORS:
        raise ValidationError("Enter a valid value.", code="invalid") from None
    if cleaned is None and not field.null:
        raise ValidationError(str(field.error_messages["null"]), code="null")
    return cleaned


def _type_fault(field: Column, value: object) -> str:
    """Return the expected kind of value, or ``""`` if the value has it."""
    internal = field.get_internal_type()
    if isinstance(value, dict | list):
        return "one value"
    if internal == "BooleanField":
        return "" if isinstance(value, bool) else "true or false"
    is_whole = _is_whole(internal)
    if isinstance(value, bool):
        if field.is_relation:
            return "a key"
        return "a whole number" if is_whole else "a number" if internal in _NUMBERS else "text"
    if isinstance(value, float) and is_whole:
        return "a whole number"
    if isinstance(value, int | float) and internal in _TEMPORAL:
        return "text in ISO 8601"
    if isinstance(value, str) and not is_storable_text(value):
        return "text without NUL and surrogates"
    return ""


def _unexpected(expected: str, value: object) -> ValidationError:
    return ValidationError(f"Expected {expected}, got {describe(value)}.", code="invalid")


def _parse(field: Column, internal: str, value: object, using: str | None, narrow: Narrow | None) -> object:
    if internal == "BooleanField":
        return value
    if internal == "BinaryField":
        return _decode(value)
    if isinstance(field, RelatedField):
        return _parse_relation(field, value, using, narrow)
    options: dict[str, Any] = {}
    if internal in _TEMPORAL[:3]:
        # Only ISO 8601. A form would also accept "10/11/2012", in the order of the active language.
        value = _settle(field.to_python(value))
    elif isinstance(field, models.URLField) and not field.choices:
        options = {"assume_scheme": "https"}
    form_field = field.formfield(**options)
    if form_field is None:
        raise ValidationError("This field cannot be written here.", code="invalid")
    if _takes_many(form_field):
        # The form field expects the values of several widgets. A single value is read by the model field.
        return field.to_python(value)
    if isinstance(form_field, forms.CharField) and isinstance(field, models.CharField | models.TextField):
        # A form converts an empty text to null if the column accepts null. A client can send null itself.
        form_field.empty_value = ""
    cleaned = form_field.clean(value)
    return _settle(cleaned) if isinstance(cleaned, Decimal | dt.timedelta) else cleaned


def _parse_relation(field: Column, value: object, using: str | None, narrow: Narrow | None) -> object:
    try:
        value = coerce(field, value)
    except ValueError:
        # The same text as for a row that does not exist.
        value = None
    form_field = _choice_field(field, using)
    if narrow is not None and form_field.queryset is not None:
        form_field.queryset = narrow(form_field.queryset)
    if value is None:
        raise ValidationError(str(form_field.error_messages["invalid_choice"]), code="invalid_choice")
    return form_field.clean(value)


def _choice_field(field: Column, using: str | None) -> forms.ModelChoiceField[models.Model]:
    """Return the form field of a relation, limited by ``limit_choices_to``.

    Raises:
        ValidationError: A field of the project has no form field.
    """
    found: Any = field.formfield(using=using)
    if found is None:
        raise ValidationError("This field cannot be written here.", code="invalid")
    _limit_choices(found)
    form_field: forms.ModelChoiceField[models.Model] = found
    return form_field


def _base_field(field: Column) -> Column:
    """Return the field of the items of an array, or of the bounds of a range."""
    base: Column | None = getattr(field, "base_field", None)
    assert base is not None
    return base


def _takes_many(form_field: forms.Field) -> bool:
    """Return whether a form field expects a list: an amount with its currency, or several choices."""
    is_many = isinstance(form_field, forms.MultiValueField | forms.MultipleChoiceField)
    return is_many or bool(getattr(form_field.widget, "allow_multiple_selected", False))


def _clean_many(field: Column, value: object) -> object:
    """Return a list or an object as the value of a field that is not Django's own.

    A form field with several values accepts a list. Otherwise the field itself must read the value, and must send it in
    the same form. A text column would store a list as its Python representation.
    """
    if is_stock(field) or field.is_relation:
        raise _unexpected("one value", value)
    try:
        form_field = field.formfield()
        if isinstance(value, list) and form_field is not None and _takes_many(form_field):
            return form_field.clean(value)
        cleaned = field.to_python(value)
        if isinstance(field.get_prep_value(cleaned), dict | list):
            raise TypeError("no column accepts this")
        sent = json.loads(encode_value(json_value(field, cleaned)))
    except PARSE_ERRORS:
        raise ValidationError("Enter a valid value.", code="invalid") from None
    if sent != json.loads(encode_value(value)):
        raise _unexpected("one value", value)
    return cleaned


def _clean_keys(field: Column, value: object, using: str | None, narrow: Narrow | None) -> object:
    if not isinstance(value, list):
        raise _unexpected("a list of keys", value)
    target = related_model(field)._meta.pk
    form_field = _choice_field(field, using)
    keys = []
    for item in value:
        try:
            keys.append(coerce(target, item))
        except ValueError:
            shown = item if isinstance(item, str | int | float) else describe(item)
            text = form_field.error_messages["invalid_choice"]
            raise ValidationError(text, code="invalid_choice", params={"value": shown}) from None
        if item is None:
            raise _unexpected("a list of keys", item)
    if not keys and not field.blank:
        raise ValidationError(form_field.error_messages["required"], code="required")
    # The form field's own check makes a query for each key, and a client may send thousands.
    choices = form_field.queryset
    assert choices is not None
    if narrow is not None:
        choices = narrow(choices)
    rows = list(choices.filter(pk__in=set(keys)))
    missing = sorted(map(str, set(keys) - {row.pk for row in rows}))
    if missing:
        text = form_field.error_messages["invalid_choice"]
        raise ValidationError(text, code="invalid_choice", params={"value": ", ".join(missing[:5])})
    return rows


def _clean_texts(value: object) -> object:
    if not isinstance(value, dict) or not all(item is None or isinstance(item, str) for item in value.values()):
        raise _unexpected("an object of texts and nulls", value)
    return value


def _clean_range(base: Column, range_type: Callable[..., object], value: object, using: str | None) -> object:
    """Return a range from its bounds, in the form in which it is sent."""
    if value == {"empty": True} and value["empty"] is True:
        return range_type(empty=True)
    if not isinstance(value, dict) or value.keys() != {"lower", "upper", "bounds"} or value["bounds"] not in _BOUNDS:
        raise _unexpected("an object of lower, upper and bounds, or of empty", value)
    ends = (value["lower"], value["upper"])
    bounds: list[Any] = [None if end is None else clean_value(base, end, using) for end in ends]
    for bound in bounds:
        base.run_validators(bound)
    lower, upper = bounds
    if lower is not None and upper is not None and lower > upper:
        raise ValidationError("The start of the range must not exceed its end.", code="bound_ordering")
    return range_type(lower, upper, value["bounds"])


def _settle(value: object) -> object:
    """Return a time as the database expects it, aware or naive, and any other value unchanged.

    Raises:
        ValueError: A time is out of range in UTC; a duration does not fit into the integer of databases without a type
            for it; or a decimal number would take megabytes to write out. A column without ``max_digits`` accepts such
            a number, and ``0E+999999999`` is a zero to all columns.
    """
    if isinstance(value, dt.timedelta) and abs(value) > LONGEST:
        raise ValueError("the duration is too large")
    if isinstance(value, Decimal) and abs(value.adjusted()) > MAX_EXPONENT:
        raise ValueError("the exponent is too large")
    if not isinstance(value, dt.datetime):
        return value
    if not settings.USE_TZ:
        return timezone.make_naive(value) if timezone.is_aware(value) else value
    aware = _from_current_timezone(value)
    try:
        aware.astimezone(dt.UTC)
    except OverflowError:
        raise ValueError("the time is out of range") from None
    return aware


def _decode(value: object) -> bytes:
    if not isinstance(value, str):
        raise _unexpected("base64", value)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise _unexpected("base64", value) from None
