"""Rows as the database stores them: the values of columns, without an instance of the model.

Making an instance runs code of the project: the model's `__init__` and `from_db`, descriptors over its fields,
receivers of `post_init`. Reading the columns runs none of it, and does not depend on the language or time zone of
the thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.db import models

from declbind.django_types import Key, RowValues

_MISSING = object()


class StoredRow:
    """The columns of one row that were read.

    `values` are by attribute name. `lists` are the keys of its many-to-many fields by field name, if they were read
    for several rows at once.
    """

    __slots__ = ("lists", "model", "pk", "using", "values")

    def __init__(self, model: type[models.Model], values: RowValues, using: str) -> None:
        self.model = model
        self.values = values
        self.using = using
        self.pk = values[model._meta.pk.attname]
        self.lists: dict[str, list[Key]] = {}

    def make_instance(self, model: type[models.Model]) -> models.Model:
        """Return the row as an instance of `model`, which is the row's model or a proxy of it.

        Each column must have been read. This runs code of the project, which may raise anything.
        """
        names = [field.attname for field in model._meta.concrete_fields]
        return model.from_db(self.using, names, [self.values[name] for name in names])


#: The input of groups and data: a row of columns, or an instance that code of the project passes on.
AnyRow = StoredRow | models.Model

# Type checkers have the stubs of typing_extensions built in. It is not a dependency, because only Python 3.13 has
# defaults at run time, and there is no use for them there.
if TYPE_CHECKING:
    from typing_extensions import TypeVar

    #: The model of a binding, as in ``WebsocketBinding[Note]``. An override of a class without it may name any model.
    BoundModel = TypeVar("BoundModel", bound=models.Model, default=Any)
else:
    from typing import TypeVar

    BoundModel = TypeVar("BoundModel", bound=models.Model)


def value_of(row: AnyRow, attname: str) -> object:
    """Return the value of a column, bypassing descriptors that a package may put over the field."""
    values: Mapping[str, object] = row.values if isinstance(row, StoredRow) else vars(row)
    value = values.get(attname, _MISSING)
    # An instance loads a column that it lacks.
    return getattr(row, attname) if value is _MISSING else value


def database_of(row: AnyRow) -> str | None:
    """Return the alias of the database that the row was read from, or `None` for an instance that was not stored."""
    return row.using if isinstance(row, StoredRow) else row._state.db


def model_of(row: AnyRow) -> type[models.Model]:
    """Return the model of the row."""
    return row.model if isinstance(row, StoredRow) else type(row)
