"""Text columns that compare as Python does, and indexes that are partial where the database supports it.

MySQL and MariaDB compare text by a collation, and the usual one ignores case and trailing spaces. Streams, groups
and keys that differ only there are different, so the columns that hold them have a binary collation of their own. It
also makes them `utf8mb4`, whatever the character set of the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import lookups

from declbind.django_types import Connection

#: The collation of case-insensitive searches; both servers have it.
FOLDING = "utf8mb4_general_ci"

if TYPE_CHECKING:
    from django.db.backends.base.schema import BaseDatabaseSchemaEditor
    from django.db.backends.ddl_references import Statement
    from django.db.models.expressions import Expression
    from django.db.models.sql.compiler import SQLCompiler

    _CharField = models.CharField[str, str]
    _TextField = models.TextField[str, str]
else:
    _CharField, _TextField = models.CharField, models.TextField


def exact_collation(connection: Connection) -> str | None:
    """Return the collation that compares text character by character, or ``None`` if the default one does."""
    if connection.vendor != "mysql":
        return None
    # Not utf8mb4_bin, which pads with spaces: 'a' equals 'a ' there.
    return "utf8mb4_nopad_bin" if getattr(connection, "mysql_is_mariadb", False) else "utf8mb4_0900_bin"


class ExactCharField(_CharField):
    """A bounded text column that distinguishes case and trailing spaces on every database."""

    def db_parameters(self, connection: Connection) -> dict[str, str | None]:
        """Return the parameters of a ``CharField``, with the exact collation."""
        return {**super().db_parameters(connection), "collation": exact_collation(connection)}


class ExactTextField(_TextField):
    """An unbounded text column that distinguishes case and trailing spaces on every database."""

    def db_parameters(self, connection: Connection) -> dict[str, str | None]:
        """Return the parameters of a ``TextField``, with the exact collation."""
        return {**super().db_parameters(connection), "collation": exact_collation(connection)}


class _Folded:
    """A lookup whose left side is compared without regard to case, although its column is exact."""

    def process_lhs(
        self, compiler: SQLCompiler, connection: Connection, lhs: Expression | None = None
    ) -> tuple[str, Sequence[object]]:
        sql, params = super().process_lhs(compiler, connection, lhs)  # type: ignore[misc]
        return (f"{sql} COLLATE {FOLDING}" if connection.vendor == "mysql" else sql), params


for _lookup in (lookups.IExact, lookups.IContains, lookups.IStartsWith, lookups.IEndsWith):
    _folded = type(f"Exact{_lookup.__name__}", (_Folded, _lookup), {})
    ExactCharField.register_lookup(_folded)
    ExactTextField.register_lookup(_folded)


class PartialIndex(models.Index):
    """An index on ``fields`` of the rows that meet ``where``, or of all rows without partial indexes.

    MySQL and MariaDB have none. There the index is on ``whole``, which must serve the same queries. Django's own
    ``condition`` would leave the index out on those databases and warn about it at every ``migrate``.
    """

    def __init__(self, *, where: models.Q, whole: Sequence[str], fields: Sequence[str], name: str) -> None:
        super().__init__(fields=tuple(fields), name=name)
        self.where, self.whole = where, tuple(whole)

    def create_sql(
        self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor, using: str = "", **kwargs: Any
    ) -> Statement:
        """Return the statement for the schema editor's database."""
        if schema_editor.connection.features.supports_partial_indexes:
            index = models.Index(fields=self.fields, name=self.name, condition=self.where)
        else:
            index = models.Index(fields=self.whole, name=self.name)
        return index.create_sql(model, schema_editor, using, **kwargs)

    def deconstruct(self) -> tuple[str, Sequence[object], dict[str, Any]]:
        """Return path and arguments, for migrations."""
        path, args, kwargs = super().deconstruct()
        return path, args, {**kwargs, "where": self.where, "whole": self.whole}


class PartialUnique(models.UniqueConstraint):
    """A unique constraint over ``fields`` of the rows that meet ``where``; none without partial indexes.

    The check of a unique index makes InnoDB lock the gap into which others insert. A constraint that only guards
    against internal errors is not worth making writers wait.
    """

    def __init__(self, *, where: models.Q, fields: Sequence[str], name: str) -> None:
        super().__init__(fields=tuple(fields), name=name)
        self.where = where

    def constraint_sql(self, model: type[models.Model] | None, schema_editor: BaseDatabaseSchemaEditor | None) -> str:
        """Return the part of ``CREATE TABLE``, if the database takes it there."""
        plain = self._plain(schema_editor)
        return plain.constraint_sql(model, schema_editor) if plain is not None else ""

    def create_sql(self, model: type[models.Model] | None, schema_editor: BaseDatabaseSchemaEditor | None) -> str:
        """Return the statement that adds the constraint."""
        plain = self._plain(schema_editor)
        return plain.create_sql(model, schema_editor) if plain is not None else ""

    def remove_sql(self, model: type[models.Model] | None, schema_editor: BaseDatabaseSchemaEditor | None) -> str:
        """Return the statement that removes the constraint."""
        plain = self._plain(schema_editor)
        return plain.remove_sql(model, schema_editor) if plain is not None else ""

    def deconstruct(self) -> tuple[str, Sequence[object], dict[str, Any]]:
        """Return path and arguments, for migrations."""
        path, args, kwargs = super().deconstruct()
        return path, args, {**kwargs, "where": self.where}

    def _plain(self, schema_editor: BaseDatabaseSchemaEditor | None) -> models.UniqueConstraint | None:
        if schema_editor is None or not schema_editor.connection.features.supports_partial_indexes:
            return None
        return models.UniqueConstraint(fields=self.fields, name=self.name, condition=self.where)
