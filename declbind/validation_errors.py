"""Django's validation errors in the form in which clients get them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import models

from declbind.core.errors import ClientError
from declbind.resolved_binding import ResolvedBinding

_UNFIT: Final = "These values do not go together."

#: Validation errors by field name.
Errors = dict[str, list[ValidationError]]


def as_client_error(
    error: ValidationError, binding: ResolvedBinding | type[ResolvedBinding], data: Mapping[str, object]
) -> ClientError:
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
