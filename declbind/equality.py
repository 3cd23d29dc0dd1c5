"""Queries for rows whose columns equal given values, as Python compares them.

Groups, ``where`` and ``scope`` are decided twice: in memory for each event, and by a query for a snapshot. Both must
give the same rows. MySQL and MariaDB compare text by the collation of the column, which usually ignores case and
trailing spaces, so the query compares it exactly as well. The plain comparison stays, for the sake of indexes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connections, models
from django.db.models import lookups

from declbind.fields import concrete_field
from declbind.models.columns import exact_collation


class ExactText(models.Func):
    """A text column that is compared exactly on MySQL and MariaDB, whatever its character set and collation."""

    arity = 1
    template = "%(expressions)s"

    def as_mysql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        """Return the SQL and its parameters."""
        template = f"CONVERT(%(expressions)s USING utf8mb4) COLLATE {exact_collation(connection)}"
        return self.as_sql(compiler, connection, template=template, **extra)


def only_equal(rows: models.QuerySet[Any], values: Mapping[str, Any]) -> models.QuerySet[Any]:
    """Narrow rows to those that have all of the values, by the names or attnames of columns."""
    rows = rows.filter(**values)
    return rows.filter(*(_exactly(rows, name, [value]) for name, value in values.items()))


def only_among(rows: models.QuerySet[Any], values: Mapping[str, Sequence[Any]]) -> models.QuerySet[Any]:
    """Narrow rows to those that have, in each column, one of its values; ``None`` stands for null."""
    for name, accepted in values.items():
        known = [value for value in accepted if value is not None]
        holds = models.Q(**{f"{name}__in": known}) & _exactly(rows, name, known)
        rows = rows.filter(holds | models.Q(**{f"{name}__isnull": True}) if None in accepted else holds)
    return rows


def _exactly(rows: models.QuerySet[Any], name: str, values: Sequence[Any]) -> models.Q:
    """Return the condition that a text column has one of the values; an empty one where none is needed."""
    field = concrete_field(rows.model, name)
    target = getattr(field, "target_field", field)
    is_text = isinstance(target, models.CharField | models.TextField | models.FileField | models.FilePathField)
    if not is_text or connections[rows.db].vendor != "mysql":
        return models.Q()
    column = ExactText(models.F(field.attname), output_field=target)
    condition: Any = lookups.In(column, values)
    return models.Q(condition) if values else models.Q()
