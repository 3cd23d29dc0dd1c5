"""Judge what a client sends for a row, as a ``ModelForm`` over the writable fields would, and store it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import IntegrityError, models

from declbind.core.errors import ClientError
from declbind.core.frames import describe


def coerce(field: Any, value: Any) -> Any:
    """Return a JSON scalar as the field's Python value; raises ``ValueError`` where it is not one of them.

    Stricter than ``to_python``, which takes ``true`` for 1 and cuts 1.5 to 1.
    """
    target = getattr(field, "target_field", field)
    internal = target.get_internal_type()
    wants_integer = "Integer" in internal or internal.endswith("AutoField")
    if isinstance(value, dict | list):
        raise ValueError(f"expected one value for {field.name}, got {describe(value)}")
    if isinstance(value, bool) and internal != "BooleanField":
        raise ValueError(f"expected a {internal} for {field.name}, got {describe(value)}")
    if wants_integer and isinstance(value, float):
        raise ValueError(f"expected a whole number for {field.name}, got {value!r}")
    try:
        result = target.to_python(value)
        target.run_validators(result)
    except (ValidationError, TypeError, OverflowError) as error:
        raise ValueError(f"expected a {internal} for {field.name}, got {value!r:.60}") from error
    return result


def check_whitelist(names: Iterable[str], writable: Iterable[Any]) -> None:
    """Refuse (``ClientError`` ``invalid``) what is not writable; absent and closed fields get the same answer."""
    allowed = {field.name for field in writable}
    errors = {name: ["This field cannot be written here."] for name in names if name not in allowed}
    if errors:
        raise ClientError("invalid", f"Not accepted: {', '.join(sorted(errors))}.", errors)


def save_new(binding: Any, instance: Any, data: Mapping[str, Any]) -> Any:
    """Validate and store a new row. A field left out takes its default; one that has none and is required is an error."""
    sent = [field for field in binding.writable_fields() if field.name in data]
    missing = [
        field
        for field in binding.writable_fields()
        if field.name not in data and not field.blank and not _has_default(field) and not field.null
    ]
    form = _bind(binding, [*sent, *missing], instance, data, unknown=_unset(binding, data, instance))
    return _save(form, update_fields=None)


def save_sent(binding: Any, instance: Any, data: Mapping[str, Any]) -> Any:
    """Validate and store the sent fields of a row; other columns keep what others wrote.

    Columns that Django itself fills at every save (``auto_now``) are stored along.
    """
    sent = [field for field in binding.writable_fields() if field.name in data]
    if not sent:
        raise ClientError("invalid", "Expected at least one field to store under 'data'.")
    form = _bind(binding, sent, instance, data, unknown=frozenset())
    columns = [field.name for field in sent if not field.many_to_many]
    if columns:
        columns += [
            field.name
            for field in instance._meta.concrete_fields
            if getattr(field, "auto_now", False) and field.name not in columns
        ]
    return _save(form, update_fields=columns)


def _bind(
    binding: Any, fields: list[Any], instance: Any, data: Mapping[str, Any], unknown: frozenset[str]
) -> forms.ModelForm[Any]:
    _refuse_structures(fields, data)
    names = [field.name for field in fields]

    class RowForm(forms.ModelForm):  # type: ignore[type-arg]
        class Meta:
            model = binding.model_class()
            fields = names

        # A plain ModelForm leaves unsent fields out of the uniqueness checks, although the row has values for them.
        def validate_unique(self) -> None:
            self._collect(self.instance.validate_unique)

        def validate_constraints(self) -> None:
            self._collect(self.instance.validate_constraints)

        def _collect(self, validate: Callable[..., None]) -> None:
            try:
                validate(exclude=unknown | set(self.errors))
            except ValidationError as error:
                found = error.update_error_dict({})
                for name, errors in found.items():
                    self.add_error(name if name in self.fields else None, errors)

    form = RowForm(data=_form_values(fields, data), instance=instance)
    for field in fields:
        # A JSON null clears a nullable column; an HTML form would say "required".
        if field.name in data and data[field.name] is None and not field.many_to_many:
            form.fields[field.name].required = not field.null
    return form


def _form_values(fields: list[Any], data: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: data[field.name] for field in fields if field.name in data}


def _save(form: Any, update_fields: list[str] | None) -> Any:
    # Widgets read HTML forms: a checkbox takes an absent value for False and text for True. JSON has the values already.
    for bound in form.fields.values():
        bound.widget = _JsonValue()
    if not form.is_valid():
        raise as_client_error(form.errors.as_data())
    instance = form.instance
    try:
        if update_fields is None:
            instance.save()
        elif update_fields:
            instance.save(update_fields=update_fields)
        form._save_m2m()
    except ValidationError as error:
        raise as_client_error(error.update_error_dict({})) from error
    except IntegrityError:
        raise ClientError("invalid", "The database refuses this row: a value collides with another row.") from None
    return instance


class _JsonValue(forms.Widget):
    """Hand the JSON value to the form field as it came."""

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> Any:
        return data.get(name)

    def value_omitted_from_data(self, data: Mapping[str, Any], files: Any, name: str) -> bool:
        return name not in data


def as_client_error(errors: Mapping[str, Iterable[ValidationError]]) -> ClientError:
    """Return Django's errors as a ``ClientError`` ``invalid``, its fields the row's fields."""
    fields: dict[str, list[str]] = {}
    general: list[str] = []
    for name, found in errors.items():
        texts = [text for error in found for text in error.messages]
        if name == NON_FIELD_ERRORS:
            general += texts
        else:
            fields[name] = texts
    message = " ".join(general) or f"Not valid: {', '.join(sorted(fields))}."
    return ClientError("invalid", message, fields)


def _refuse_structures(fields: list[Any], data: Mapping[str, Any]) -> None:
    errors = {}
    for field in fields:
        value = data.get(field.name)
        if field.many_to_many:
            if not isinstance(value, list) or any(isinstance(item, dict | list | bool) for item in value):
                errors[field.name] = [f"Expected a list of keys, got {describe(value)}."]
        elif isinstance(value, dict | list) and not _holds_structures(field):
            errors[field.name] = [f"Expected one value, got {describe(value)}."]
        elif isinstance(value, bool) and field.is_relation:
            errors[field.name] = [f"Expected a key, got {describe(value)}."]
    if errors:
        raise ClientError("invalid", f"Not valid: {', '.join(sorted(errors))}.", errors)


def _holds_structures(field: Any) -> bool:
    return (
        isinstance(field, models.JSONField)
        or hasattr(field, "base_field")
        or field.get_internal_type()
        in (
            "ArrayField",
            "HStoreField",
        )
    )


def _has_default(field: Any) -> bool:
    return bool(field.has_default() or getattr(field, "db_default", models.NOT_PROVIDED) is not models.NOT_PROVIDED)


def _unset(binding: Any, data: Mapping[str, Any], instance: Any) -> frozenset[str]:
    """Return the fields of a new row that have no value yet: nothing can be said about their uniqueness."""
    return frozenset(
        field.name
        for field in instance._meta.fields
        if field.name not in data and field.value_from_object(instance) in (None, "")
    )
