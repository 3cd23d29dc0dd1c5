"""Short names for types of Django and of its values, and accessors where Django's stubs allow for ``None``."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AbstractUser, AnonymousUser
    from django.db import models
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.backends.utils import CursorWrapper
    from django.db.models.expressions import Expression
    from django.db.models.sql.query import Query as DjangoQuery

#: A method of Django or of another package, whose arguments and result are passed on unchanged.
Method: TypeAlias = Callable[..., Any]

Connection: TypeAlias = "BaseDatabaseWrapper"
Cursor: TypeAlias = "CursorWrapper"
Query: TypeAlias = "DjangoQuery"
Rows: TypeAlias = "models.QuerySet[models.Model]"
#: A query for rows, or for some of their values.
Selection: TypeAlias = "models.QuerySet[models.Model, object]"
#: A field with a column, whatever the type of its values.
Column: TypeAlias = "models.Field[Any, Any]"
ListField: TypeAlias = "models.ManyToManyField[models.Model, models.Model]"

#: The user of a request. Another user model of the project may lack the methods of ``PermissionsMixin``.
User: TypeAlias = "AbstractBaseUser | AnonymousUser"
#: The user of a page of the admin, which needs the methods of ``PermissionsMixin``.
Operator: TypeAlias = "AbstractUser | AnonymousUser"

#: The value of a primary key, or of a column by which rows are found. Only passed on and compared.
Key: TypeAlias = object
#: The values of a row's columns, by the attributes of their fields or by the columns' names.
RowValues: TypeAlias = dict[str, object]
#: A value that statements accept as a parameter.
SqlValue: TypeAlias = "bool | int | float | decimal.Decimal | str | bytes | dt.date | dt.datetime | uuid.UUID | None"
SqlValues: TypeAlias = Sequence[SqlValue]
#: Converts a value from the driver to a Python value.
Converter: TypeAlias = "Callable[[object, Expression, Connection], object]"
#: The context that Django passes to an execute wrapper: the connection and the cursor of a statement.
ExecuteContext: TypeAlias = dict[str, Any]


def column_name(field: Column) -> str:
    """Return the name of a field's column. Only many-to-many fields have none."""
    assert field.column is not None
    return field.column


def concrete_model(model: type[models.Model]) -> type[models.Model]:
    """Return a model's concrete model: the model itself, unless it is a proxy."""
    return model._meta.concrete_model or model


def related_model(field: Column) -> type[models.Model]:
    """Return the model that a relation leads to."""
    model = field.related_model
    assert isinstance(model, type)
    return model


def through_of(field: ListField) -> type[models.Model]:
    """Return the through model of a many-to-many field."""
    assert field.remote_field.through is not None
    return field.remote_field.through
