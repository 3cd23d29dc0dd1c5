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
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, Final

from django import forms
from django.conf import settings
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import models
from django.forms import models as form_models
from django.forms import utils as form_utils
from django.utils import timezone

from declbind.core import course
from declbind.core.errors import ClientError
from declbind.core.frames import describe
from declbind.fields import concrete_field
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
_UNFIT: Final = "These values do not go together."

Errors = dict[str, list[ValidationError]]


def is_storable_text(text: str) -> bool:
    """Return whether every database accepts a text. PostgreSQL refuses NUL, and no driver encodes lone surrogates."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def coerce(field: Any, value: Any) -> Any:
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


def accepted_values(field: Any, value: Any) -> tuple[Any, ...]:
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


def _validate_coerced(field: Any, value: Any) -> None:
    try:
        field.run_validators(value)
    except PARSE_ERRORS:
        # Validators of a package may expect the attribute's type, such as an amount with its currency, and those of
        # Django cannot measure such a value. Nothing is stored here.
        if is_stock(field):
            raise


def check_whitelist(names: Iterable[str], writable: Iterable[Any]) -> None:
    """Refuse names that are not writable. Missing and closed fields get the same answer.

    Raises:
        ClientError: A name is not writable (``invalid``).
    """
    allowed = {field.name for field in writable}
    errors = {name: ["This field cannot be written here."] for name in names if name not in allowed}
    if errors:
        raise ClientError("invalid", f"Not accepted: {', '.join(sorted(errors))}.", errors)


def save_new(binding: Any, instance: Any, data: Mapping[str, Any]) -> Any:
    """Validate and store a new row. A field left out takes its default, or is an error if it is required.

    ``instance`` has the values that the server sets. Exceptions of ``save`` are raised as well.

    Raises:
        ClientError: The data is not valid (``invalid``).
    """
    course.enter("values", instance)
    preset = {concrete_field(type(instance), name).name for name in binding.scope_values()}
    errors: Errors = {}
    for field in binding.writable_fields():
        if field.name not in data and field.name not in preset and _is_required(field):
            errors[field.name] = [ValidationError("This field is required.", code="required")]
    # A field without a value may get one in save() or from the database, and a value made by the database cannot be
    # read before. Its uniqueness cannot be checked.
    unset = {
        field.name
        for field in instance._meta.fields
        if field.generated or (field.name not in data and field.value_from_object(instance) in (None, ""))
    }
    lists, _ = _assign(binding, instance, data, errors, unjudged=unset)
    course.enter("store", instance)
    key = instance._meta.pk
    # Without the flag, Django would first try an UPDATE of the row with this key. A create must never be an update.
    if instance.pk is not None and not _has_default(key):
        instance.save(force_insert=True)
    else:
        instance.save()
    if instance.pk in (None, ""):
        raise ClientError("invalid", "Rows of this model need a primary key, which clients cannot set.")
    _store_lists(instance, lists)
    return instance


def save_sent(binding: Any, instance: Any, data: Mapping[str, Any]) -> Any:
    """Validate and store the sent fields of a row. Other columns keep their stored values.

    Columns that their field sets at every save (``auto_now``, ``pre_save``), and those that a descriptor set along with
    a sent one, are stored too. Exceptions of ``save`` are raised as well.

    Raises:
        ClientError: The data is not valid (``invalid``).
    """
    course.enter("values", instance)
    sent = [field for field in binding.writable_fields() if field.name in data]
    if not sent:
        raise ClientError("invalid", "Expected at least one field to store under 'data'.")
    lists, moved = _assign(binding, instance, data, {}, unjudged=set())
    course.enter("store", instance)
    columns = [field.name for field in sent if not field.many_to_many]
    if columns:
        moving = [*moving_columns(instance), *sorted(moved)]
        instance.save(update_fields=list(dict.fromkeys([*columns, *moving])))
    _store_lists(instance, lists)
    return instance


def moving_columns(instance: Any) -> list[str]:
    """Return the columns that their field sets at every save: ``auto_now``, or a custom ``pre_save``."""
    return [
        field.name
        for field in instance._meta.concrete_fields
        if not (field.primary_key or field.generated)
        if getattr(field, "auto_now", False)
        or not str(getattr(type(field).pre_save, "__module__", "")).startswith("django.")
    ]


#: A function that narrows the rows of a related model to those that may be chosen.
Narrow = Callable[[models.QuerySet[Any]], models.QuerySet[Any]]


def clean_value(field: Any, value: Any, using: str | None = None, narrow: Narrow | None = None) -> Any:
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
        return [clean_value(field.base_field, item, using) for item in value]
    if hasattr(field, "range_type"):
        return _clean_range(field, value, using)
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


def as_client_error(error: ValidationError, binding: Any, data: Mapping[str, Any]) -> ClientError:
    """Return Django's errors as a ``ClientError`` ``invalid``.

    An error of a field that the binding does not send is reported without the field, which clients do not know.
    Django's texts about uniqueness and constraints may name fields that were not sent. Such a text is replaced by one
    about the sent fields.

    Args:
        data: The values that the client sent, by field.
    """
    known = {field.name for field in binding.bound_fields()}
    unfit = _default_texts(binding.model_class())
    fields: dict[str, list[str]] = {}
    general: list[str] = []
    for name, found in error.update_error_dict({}).items():
        for item in found:
            together = _unique_fields(item)
            sent = [each for each in together if each in data and each in known]
            if len(sent) < len(together):
                general.append(f"Another row has the same values{': ' if sent else ''}{', '.join(sent)}.")
            elif item.message in unfit:
                general.append(_UNFIT)
            elif name == NON_FIELD_ERRORS or name not in known:
                general += map(str, item.messages)
            else:
                fields.setdefault(name, []).extend(map(str, item.messages))
    message = " ".join(general) or f"Not valid: {', '.join(sorted(fields))}."
    return ClientError("invalid", message, fields)


def _unique_fields(error: ValidationError) -> tuple[str, ...]:
    """Return the fields of a failed uniqueness check; none for any other error."""
    params = error.params or {}
    if error.code == "unique_for_date":
        return str(params.get("field", "")), str(params.get("date_field", ""))
    if error.code in ("unique", "unique_together"):
        return tuple(params.get("unique_check", ()))
    return ()


def _default_texts(model: type[models.Model]) -> set[str]:
    """Return the texts of a model's constraints without a text of the project. They name the constraint."""
    return {
        str(constraint.get_violation_error_message())
        for owner in (model, *model._meta.all_parents)
        for constraint in owner._meta.constraints
        if constraint.violation_error_message == constraint.default_violation_error_message
    }


# --- rows ------------------------------------------------------------------------------------------------------------


def _assign(
    binding: Any, instance: Any, data: Mapping[str, Any], errors: Errors, unjudged: set[str]
) -> tuple[dict[Any, Any], set[str]]:
    """Set the sent values on the instance and validate it.

    Returns the many-to-many lists, which are stored after the row, and the columns that descriptors also set.

    ``errors`` are earlier errors. ``unjudged`` fields are left out of uniqueness and constraints. All other fields take
    part, sent or not, because the row has values for them.
    """
    lists: dict[Any, Any] = {}
    nulls: set[str] = set()
    moved: set[str] = set()
    for field in binding.writable_fields():
        if field.name not in data:
            continue
        try:
            value = clean_value(field, data[field.name], binding.using, _narrow(binding, field, instance))
        except ValidationError as error:
            errors[field.name] = error.error_list
            continue
        if field.many_to_many:
            lists[field] = value
        else:
            try:
                others = _set_value(instance, field, value)
                if isinstance(data[field.name], dict | list):
                    _check_others(binding, others)
            except ValidationError as error:
                errors[field.name] = error.error_list
                continue
            moved |= others
            if value is None:
                nulls.add(field.name)
            elif field.is_relation:
                _collect(errors, partial(_run_validators, field, instance))
    # null=True without blank=True means "required" to a form, but a null in JSON is intentional.
    unsent = {field.name for field in instance._meta.fields if field.name not in data} | nulls
    # The existence of a related row was checked in the database of the write. clean_fields would query a replica.
    related = {field.name for field in instance._meta.fields if field.is_relation}
    _collect(errors, partial(_clean_fields, instance, unsent | related | set(errors)))
    _collect(errors, instance.clean)
    _collect(errors, partial(instance.validate_unique, exclude=unjudged | set(errors)))
    _collect(errors, partial(instance.validate_constraints, exclude=unjudged | set(errors)))
    if errors:
        raise as_client_error(ValidationError(errors), binding, data)
    return lists, moved


def _narrow(binding: Any, field: Any, instance: Any) -> Narrow | None:
    """Return the function that narrows the rows for a relation; ``None`` if a client may choose any."""
    if not field.is_relation or isinstance(binding.resolved().spec.relate.get(field.name, "any"), str):
        return None

    def narrow(rows: models.QuerySet[Any]) -> models.QuerySet[Any]:
        chosen: models.QuerySet[Any] = binding.relatable(field, rows)
        if instance._state.adding:
            return chosen
        # The present value may be sent back, because it adds no relation.
        if field.many_to_many:
            held = models.Q(pk__in=list(getattr(instance, field.name).values_list("pk", flat=True)))
        else:
            held = models.Q(**{field.target_field.attname: getattr(instance, field.attname)})
        return rows.filter(models.Q(pk__in=chosen.values("pk")) | held)

    return narrow


def _set_value(instance: Any, field: Any, value: Any) -> set[str]:
    """Set a field of a row. Return the names of other columns that its descriptor also set.

    Raises:
        ValidationError: A descriptor or a field of the project refuses the value.
    """
    before = dict(vars(instance))
    try:
        field.save_form_data(instance, value)
        if not is_stock(field):
            field.get_prep_value(getattr(instance, field.attname))
    except PARSE_ERRORS:
        raise ValidationError("Enter a valid value.", code="invalid") from None
    after = vars(instance)
    return {
        other.name
        for other in instance._meta.concrete_fields
        if other is not field
        if (value := after.get(other.attname)) is not (old := before.get(other.attname)) and value != old
    }


def _check_others(binding: Any, names: set[str]) -> None:
    """Refuse a compound value if one part belongs to a column that the client may not write."""
    if closed := names - {field.name for field in binding.writable_fields()}:
        shown = {field.name for field in binding.bound_fields()}
        of = f" ({', '.join(sorted(closed & shown))})" if closed & shown else ""
        raise ValidationError(f"This value would change another field{of} that cannot be written here.", code="invalid")


def _clean_fields(instance: Any, exclude: set[str]) -> None:
    """Call the instance's ``clean_fields``. A descriptor may refuse the cleaned value."""
    try:
        instance.clean_fields(exclude=exclude)
    except PARSE_ERRORS:
        names = {field.name for field in instance._meta.fields}
        found: Errors = {}
        for name in sorted(names - exclude):
            try:
                _collect(found, partial(instance.clean_fields, exclude=names - {name}))
            except PARSE_ERRORS:
                found[name] = [ValidationError("Enter a valid value.", code="invalid")]
        if not found:
            raise
        raise ValidationError(found) from None


def _collect(errors: Errors, validate: Callable[[], None]) -> None:
    try:
        validate()
    except ValidationError as error:
        error.update_error_dict(errors)


def _run_validators(field: Any, instance: Any) -> None:
    try:
        field.run_validators(getattr(instance, field.attname))
    except ValidationError as error:
        raise ValidationError({field.name: error}) from None


def _store_lists(instance: Any, lists: Mapping[Any, Any]) -> None:
    for field, rows in lists.items():
        field.save_form_data(instance, rows)


def _is_required(field: Any) -> bool:
    return not (field.blank or field.null or _has_default(field))


def _has_default(field: Any) -> bool:
    return bool(field.has_default() or getattr(field, "db_default", models.NOT_PROVIDED) is not models.NOT_PROVIDED)


# --- values ----------------------------------------------------------------------------------------------------------


def _type_fault(field: Any, value: Any) -> str:
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


def _unexpected(expected: str, value: Any) -> ValidationError:
    return ValidationError(f"Expected {expected}, got {describe(value)}.", code="invalid")


def _parse(field: Any, internal: str, value: Any, using: str | None, narrow: Narrow | None) -> Any:
    if internal == "BooleanField":
        return value
    if internal == "BinaryField":
        return _decode(value)
    options: dict[str, Any] = {}
    if field.is_relation:
        try:
            value = coerce(field, value)
        except ValueError:
            # The same text as for a row that does not exist.
            value = None
        options = {"using": using}
    elif internal in _TEMPORAL[:3]:
        # Only ISO 8601. A form would also accept "10/11/2012", in the order of the active language.
        value = _settle(field.to_python(value))
    elif isinstance(field, models.URLField) and not field.choices:
        options = {"assume_scheme": "https"}
    form_field = field.formfield(**options)
    if form_field is None:
        raise ValidationError("This field cannot be written here.", code="invalid")
    if not field.is_relation and _takes_many(form_field):
        # The form field expects the values of several widgets. A single value is read by the model field.
        return field.to_python(value)
    if field.is_relation:
        _limit_choices(form_field)
        if narrow is not None:
            form_field.queryset = narrow(form_field.queryset)
        if value is None:
            raise ValidationError(str(form_field.error_messages["invalid_choice"]), code="invalid_choice")
    elif isinstance(form_field, forms.CharField) and isinstance(field, models.CharField | models.TextField):
        # A form converts an empty text to null if the column accepts null. A client can send null itself.
        form_field.empty_value = ""
    cleaned = form_field.clean(value)
    return _settle(cleaned) if isinstance(cleaned, Decimal | dt.timedelta) else cleaned


def _takes_many(form_field: Any) -> bool:
    """Return whether a form field expects a list: an amount with its currency, or several choices."""
    is_many = isinstance(form_field, forms.MultiValueField | forms.MultipleChoiceField)
    return is_many or bool(getattr(form_field.widget, "allow_multiple_selected", False))


def _clean_many(field: Any, value: Any) -> Any:
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


def _clean_keys(field: Any, value: Any, using: str | None, narrow: Narrow | None) -> Any:
    if not isinstance(value, list):
        raise _unexpected("a list of keys", value)
    target = field.remote_field.model._meta.pk
    form_field = field.formfield(using=using)
    _limit_choices(form_field)
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
    choices = form_field.queryset if narrow is None else narrow(form_field.queryset)
    rows = list(choices.filter(pk__in=set(keys)))
    missing = sorted(map(str, set(keys) - {row.pk for row in rows}))
    if missing:
        text = form_field.error_messages["invalid_choice"]
        raise ValidationError(text, code="invalid_choice", params={"value": ", ".join(missing[:5])})
    return rows


def _clean_texts(value: Any) -> Any:
    if not isinstance(value, dict) or not all(item is None or isinstance(item, str) for item in value.values()):
        raise _unexpected("an object of texts and nulls", value)
    return value


def _clean_range(field: Any, value: Any, using: str | None) -> Any:
    """Return a range from its bounds, in the form in which it is sent."""
    if value == {"empty": True} and value["empty"] is True:
        return field.range_type(empty=True)
    if not isinstance(value, dict) or value.keys() != {"lower", "upper", "bounds"} or value["bounds"] not in _BOUNDS:
        raise _unexpected("an object of lower, upper and bounds, or of empty", value)
    lower, upper = (
        None if value[end] is None else clean_value(field.base_field, value[end], using) for end in ("lower", "upper")
    )
    for bound in (lower, upper):
        field.base_field.run_validators(bound)
    if lower is not None and upper is not None and lower > upper:
        raise ValidationError("The start of the range must not exceed its end.", code="bound_ordering")
    return field.range_type(lower, upper, value["bounds"])


def _settle(value: Any) -> Any:
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


def _decode(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise _unexpected("base64", value) from None
