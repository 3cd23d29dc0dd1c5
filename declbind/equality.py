"""Queries for rows whose columns equal given values, as they are compared in memory.

Groups, ``where`` and ``scope`` are decided twice: in memory for each event, and by a query for a snapshot. Both must
give the same rows. A text column may have a collation that ignores case or trailing spaces, and a field of a package or
of the project may compare by a lookup of its own. The query therefore compares the stored values exactly as well. The
plain comparison stays, because it can use an index.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from django.db import connections, models
from django.db.models import lookups

from declbind.django_types import Column, Connection
from declbind.fields import concrete_field, stored_field
from declbind.models.columns import exact_collation
from declbind.stored_values import compares_by_itself, holds_documents, is_stock, key_field

if TYPE_CHECKING:
    from django.db.models.sql.compiler import SQLCompiler

M = TypeVar("M", bound=models.Model)
#: A part of a statement, with its parameters.
Sql: TypeAlias = "tuple[str, Sequence[Any]]"


class ExactText(models.Func):
    """A text column that is compared character by character, whatever its type, character set and collation."""

    arity = 1
    template = "%(expressions)s"

    def as_mysql(self, compiler: SQLCompiler, connection: Connection, **extra: Any) -> Sql:
        """Return the SQL and its parameters."""
        template = f"CONVERT(%(expressions)s USING utf8mb4) COLLATE {exact_collation(connection)}"
        return self.as_sql(compiler, connection, template=template, **extra)

    def as_sqlite(self, compiler: SQLCompiler, connection: Connection, **extra: Any) -> Any:
        """Return the SQL and its parameters."""
        return self.as_sql(compiler, connection, template="%(expressions)s COLLATE BINARY", **extra)

    def as_postgresql(self, compiler: SQLCompiler, connection: Connection, **extra: Any) -> Sql:
        """Return the SQL and its parameters. Comparisons of ``citext`` ignore collations, so it is cast."""
        return self.as_sql(compiler, connection, template='CAST(%(expressions)s AS text) COLLATE "C"', **extra)


def only_equal(rows: models.QuerySet[M], values: Mapping[str, object]) -> models.QuerySet[M]:
    """Narrow rows to those that have all of the given values, keyed by the names or attnames of columns."""
    for name, value in values.items():
        rows = rows.filter(_has_one(rows, stored_field(rows.model, name).attname, [value]))
    return rows


def only_among(rows: models.QuerySet[M], values: Mapping[str, Sequence[object]]) -> models.QuerySet[M]:
    """Narrow rows to those that have, in each column, one of its values; ``None`` means null."""
    for field, accepted in values.items():
        name = stored_field(rows.model, field).attname
        holds = _has_one(rows, name, [value for value in accepted if value is not None])
        rows = rows.filter(holds | models.Q(**{f"{name}__isnull": True}) if None in accepted else holds)
    return rows


def _has_one(rows: models.QuerySet[M], name: str, values: Sequence[object]) -> models.Q:
    """Return the condition that a column has one of the values."""
    field = concrete_field(rows.model, name)
    target = key_field(field)
    if holds_documents(target):
        return _has_one_document(rows, name, [form for value in values for form in _json_forms(value)])
    exactly = _exactly(rows, name, values)
    if exactly and compares_by_itself(target):
        return exactly
    return exactly & (models.Q(**{name: values[0]}) if len(values) == 1 else models.Q(**{f"{name}__in": values}))


def _exactly(rows: models.QuerySet[M], name: str, values: Sequence[object]) -> models.Q:
    """Return the condition that a column stores one of the values; an empty one if Django's comparison is exact."""
    field = concrete_field(rows.model, name)
    target = key_field(field)
    connection = connections[rows.db]
    is_text = _is_text(target, connection)
    if not values or (is_stock(target) and not is_text and not compares_by_itself(target)):
        return models.Q()
    wrapper: Callable[..., models.Expression] = ExactText if is_text else models.ExpressionWrapper
    column = wrapper(models.F(field.attname), output_field=models.Field())
    condition = lookups.In(column, [target.get_db_prep_value(value, connection) for value in values])
    return models.Q(condition)


def _has_one_document(rows: models.QuerySet[M], name: str, forms: Sequence[object]) -> models.Q:
    """Return the condition that a JSON column has one of the values.

    `__in` would treat ``1`` and ``true`` as equal.
    """
    if not forms:
        return models.Q(pk__in=[])
    condition = models.Q(*(models.Q(**{name: form}) for form in forms), _connector=models.Q.OR)
    if connections[rows.db].vendor != "mysql":
        return condition
    # Django compares the result of JSON_EXTRACT, for which the number 5 equals the text "5".
    field = concrete_field(rows.model, name)
    column = ExactText(models.F(field.attname), output_field=models.Field())
    texts = [json.dumps(form, ensure_ascii=is_escaped) for form in forms for is_escaped in (True, False)]
    exactly = lookups.In(column, list(dict.fromkeys(texts)))
    return models.Q(exactly)


def _is_text(target: Column, connection: Connection) -> bool:
    if isinstance(target, models.CharField | models.TextField | models.FileField | models.FilePathField):
        return True
    # A class of the project may name a type such as citext itself.
    return not is_stock(target) and "text" in (target.db_type(connection) or "").lower()


def _json_forms(value: object) -> list[object]:
    """Return the forms of a JSON value that are equal in memory. SQLite compares their texts, which differ."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return [value]
    forms: list[object]
    forms = [value, float(value)] if isinstance(value, int) else [value, int(value)] if value.is_integer() else [value]
    return forms if forms[0] == forms[-1] else [value]
