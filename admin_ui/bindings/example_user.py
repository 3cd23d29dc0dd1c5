"""Code that makes a user of the project's own user model, for a generated test.

It assumes only what Django guarantees about the model: neither a field ``username`` nor a manager of a certain kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth import get_user_model
from django.db import models
from django.db.models import Model

#: The maximum number of rows that are made for each other because a user must refer to them.
MAX_DEPTH = 3
_CODE = (
    (models.EmailField, '"reader@example.com"'),
    (models.URLField, '"https://example.com/"'),
    (models.UUIDField, "uuid.uuid4()"),
    (models.BooleanField, "False"),
    (models.DateTimeField, "datetime.datetime(2000, 1, 31, tzinfo=datetime.UTC)"),
    (models.DateField, "datetime.date(2000, 1, 31)"),
    (models.TimeField, "datetime.time(12)"),
    (models.DurationField, "datetime.timedelta(minutes=1)"),
    (models.DecimalField, 'decimal.Decimal("1")'),
    (models.FloatField, "1.5"),
    (models.IntegerField, "1"),
    (models.GenericIPAddressField, '"192.0.2.1"'),
    (models.BinaryField, 'b"x"'),
    (models.JSONField, "{}"),
)
_MODULES = ("datetime", "decimal", "uuid")


@dataclass
class ExampleUser:
    """The code: ``imports`` of the standard library, ``model_imports`` of the project, and ``lines`` that make it."""

    imports: list[str] = field(default_factory=list)
    model_imports: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def build_user() -> ExampleUser:
    """Return code that stores a user under the name ``user``, from the fixture ``django_user_model``."""
    code = ExampleUser()
    model = get_user_model()
    needed = {model.USERNAME_FIELD, *model.REQUIRED_FIELDS}
    active = next((column for column in model._meta.concrete_fields if column.name == "is_active"), None)
    extra = {} if active is None or active.get_default() is True else {"is_active": "True"}
    _store(code, model, "user", "django_user_model", needed, extra, depth=0)
    text = "\n".join(code.lines)
    code.imports = [f"import {module}" for module in _MODULES if f"{module}." in text]
    return code


def _store(
    code: ExampleUser, model: type[Model], name: str, made_by: str, needed: set[str], extra: dict[str, str], depth: int
) -> None:
    values = dict(extra)
    for column in _needed_columns(model, needed):
        if column.name in values:
            continue
        if column.is_relation:
            target = column.related_model
            if depth >= MAX_DEPTH or target is model:
                continue
            values[column.name] = column.name
            imported = f"from {target.__module__} import {target.__name__}"
            if imported not in code.model_imports:
                code.model_imports.append(imported)
            _store(code, target, column.name, target.__name__, set(), {}, depth + 1)
        else:
            values[column.name] = _code_of(column)
    given = ", ".join(f"{key}={value}" for key, value in values.items())
    code.lines += [f"{name} = {made_by}({given})", f"await {name}.asave()"]


def _needed_columns(model: type[Model], needed: set[str]) -> Iterator[Any]:
    """Yield the required columns: those requested, and those that may be neither empty nor left out."""
    for column in model._meta.concrete_fields:
        is_left_out = (
            isinstance(column, models.AutoField)
            or getattr(column.remote_field, "parent_link", False)
            or column.generated
            or column.has_default()
            or getattr(column, "auto_now", False)
            or getattr(column, "auto_now_add", False)
            or getattr(column, "db_default", models.NOT_PROVIDED) is not models.NOT_PROVIDED
        )
        is_needed = column.name in needed or not (is_left_out or column.null or column.blank)
        if is_needed and not (column.primary_key and is_left_out):
            yield column


def _code_of(column: Any) -> str:
    """Return Python code of a value that the column accepts."""
    if column.choices:
        return repr(next(value for value, _ in column.flatchoices))
    found = next((code for kind, code in _CODE if isinstance(column, kind)), None)
    if found is not None:
        return found
    if "Array" in type(column).__name__:
        return "[]"
    return f'"{"reader"[: column.max_length or None]}"'
