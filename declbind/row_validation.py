"""The validation and storing of rows that clients create or update.

A row is validated as a ``ModelForm`` over the writable fields would do it: each value, then the field validators,
``clean``, uniqueness and constraints of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.fields.related import RelatedField

from declbind.binding_rows import BindingRows
from declbind.core import course
from declbind.core.errors import ClientError
from declbind.django_types import Column, Rows
from declbind.fields import concrete_field
from declbind.stored_values import is_stock
from declbind.validation_errors import Errors, as_client_error
from declbind.value_validation import PARSE_ERRORS, Narrow, clean_value


def check_whitelist(names: Iterable[str], writable: Iterable[Column]) -> None:
    """Refuse names that are not writable. Missing and closed fields get the same answer.

    Raises:
        ClientError: A name is not writable (``invalid``).
    """
    allowed = {field.name for field in writable}
    errors = {name: ["This field cannot be written here."] for name in names if name not in allowed}
    if errors:
        raise ClientError("invalid", f"Not accepted: {', '.join(sorted(errors))}.", errors)


def save_new(binding: BindingRows, instance: models.Model, data: Mapping[str, object]) -> models.Model:
    """Validate and store a new row. A field left out takes its default, or is an error if it is required.

    ``instance`` has the values that the server sets. Exceptions of ``save`` are raised as well.

    Raises:
        ClientError: The data is not valid (``invalid``).
    """
    course.enter(course.Check.VALUES, instance)
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
    lists, _ = _assign(binding, instance, data, errors, unchecked=unset)
    course.enter(course.Check.STORE, instance)
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


def save_sent(binding: BindingRows, instance: models.Model, data: Mapping[str, object]) -> models.Model:
    """Validate and store the sent fields of a row. Other columns keep their stored values.

    Columns that their field sets at every save (``auto_now``, ``pre_save``), and those that a descriptor set along with
    a sent one, are stored too. Exceptions of ``save`` are raised as well.

    Raises:
        ClientError: The data is not valid (``invalid``).
    """
    course.enter(course.Check.VALUES, instance)
    sent = [field for field in binding.writable_fields() if field.name in data]
    if not sent:
        raise ClientError("invalid", "Expected at least one field to store under 'data'.")
    lists, moved = _assign(binding, instance, data, {}, unchecked=set())
    course.enter(course.Check.STORE, instance)
    columns = [field.name for field in sent if not field.many_to_many]
    if columns:
        moving = [*moving_columns(instance), *sorted(moved)]
        instance.save(update_fields=list(dict.fromkeys([*columns, *moving])))
    _store_lists(instance, lists)
    return instance


def moving_columns(instance: models.Model) -> list[str]:
    """Return the columns that their field sets at every save: ``auto_now``, or a custom ``pre_save``."""
    return [
        field.name
        for field in instance._meta.concrete_fields
        if not (field.primary_key or field.generated)
        if getattr(field, "auto_now", False)
        or not str(getattr(type(field).pre_save, "__module__", "")).startswith("django.")
    ]


def _assign(
    binding: BindingRows, instance: models.Model, data: Mapping[str, object], errors: Errors, unchecked: set[str]
) -> tuple[dict[Column, object], set[str]]:
    """Set the sent values on the instance and validate it.

    Returns the many-to-many lists, which are stored after the row, and the columns that descriptors also set.

    ``errors`` are earlier errors. ``unchecked`` fields are left out of uniqueness and constraints. All other fields
    take part, sent or not, because the row has values for them.
    """
    lists: dict[Column, object] = {}
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
    _collect(errors, partial(instance.validate_unique, exclude=unchecked | set(errors)))
    _collect(errors, partial(instance.validate_constraints, exclude=unchecked | set(errors)))
    if errors:
        raise as_client_error(ValidationError(errors), binding, data)
    return lists, moved


def _narrow(binding: BindingRows, field: Column, instance: models.Model) -> Narrow | None:
    """Return the function that narrows the rows for a relation; ``None`` if a client may choose any."""
    if not isinstance(field, RelatedField) or isinstance(binding.resolved().spec.relate.get(field.name, "any"), str):
        return None

    def narrow(rows: Rows) -> Rows:
        chosen = binding.relatable(field, rows)
        if instance._state.adding:
            return chosen
        # The present value may be sent back, because it adds no relation.
        if field.many_to_many:
            held = models.Q(pk__in=list(getattr(instance, field.name).values_list("pk", flat=True)))
        else:
            held = models.Q(**{field.target_field.attname: getattr(instance, field.attname)})
        return rows.filter(models.Q(pk__in=chosen.values("pk")) | held)

    return narrow


def _set_value(instance: models.Model, field: Column, value: object) -> set[str]:
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


def _check_others(binding: BindingRows, names: set[str]) -> None:
    """Refuse a compound value if one part belongs to a column that the client may not write."""
    if closed := names - {field.name for field in binding.writable_fields()}:
        shown = {field.name for field in binding.bound_fields()}
        of = f" ({', '.join(sorted(closed & shown))})" if closed & shown else ""
        raise ValidationError(f"This value would change another field{of} that cannot be written here.", code="invalid")


def _clean_fields(instance: models.Model, exclude: set[str]) -> None:
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


def _run_validators(field: Column, instance: models.Model) -> None:
    try:
        field.run_validators(getattr(instance, field.attname))
    except ValidationError as error:
        raise ValidationError({field.name: error}) from None


def _store_lists(instance: models.Model, lists: Mapping[Column, object]) -> None:
    for field, rows in lists.items():
        field.save_form_data(instance, rows)


def _is_required(field: Column) -> bool:
    return not (field.blank or field.null or _has_default(field))


def _has_default(field: Column) -> bool:
    return bool(field.has_default() or getattr(field, "db_default", models.NOT_PROVIDED) is not models.NOT_PROVIDED)
