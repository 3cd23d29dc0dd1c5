"""The rows of a binding: those that exist for it, and those that belong to a user."""

from __future__ import annotations

from django.db import router

from declbind.django_types import Column, Rows, User
from declbind.equality import only_among, only_equal
from declbind.resolved_binding import ResolvedBinding
from declbind.stored_rows import AnyRow, value_of
from declbind.stored_values import comparable


class BindingRows(ResolvedBinding):
    """A binding for one user and one database, by which its rows are found."""

    def __init__(self, user: User | None = None, using: str | None = None) -> None:
        self.user = user
        self.using = using

    def get_queryset(self) -> Rows:
        """Return the rows that exist for this binding: those of the base manager that meet ``where``."""
        model = self.model_class()
        rows = model._base_manager.using(self.using or router.db_for_read(model))
        return only_among(rows, self.resolved().where)

    def scoped(self, rows: Rows) -> Rows:
        """Return the ``rows`` that belong to the user by ``scope``; none if the user lacks the value."""
        values = self.scope_values()
        if any(value is None for value in values.values()):
            return rows.none()
        return only_equal(rows, values)

    def relatable(self, field: Column, rows: Rows) -> Rows:
        """Return the ``rows`` of a related model that the user may write into the relation ``field``, by ``relate``."""
        rule = self.resolved().spec.relate.get(field.name, "any")
        if isinstance(rule, str):
            return rows
        values = {name: self._user_value(source) for name, source in rule.items()}
        if any(value is None for value in values.values()):
            return rows.none()
        return only_equal(rows, values)

    def scope_values(self) -> dict[str, object]:
        """Return ``{field: value of the user}``. The value is ``None`` for an anonymous user."""
        return {name: self._user_value(source) for name, source in self.resolved().spec.scope.items()}

    def _user_value(self, source: str) -> object:
        name = source.removeprefix("$user.")
        if self.user is None or not self.user.is_authenticated:
            return None
        return self.user.pk if name == "pk" else getattr(self.user, name)

    def is_inside(self, instance: AnyRow) -> bool:
        """Return whether ``instance``, a stored row, meets ``where``."""
        resolved = self.resolved()
        if not resolved.compared_apart:
            wanted = resolved.where_values
            return not wanted or all(value_of(instance, attname) in values for attname, values in wanted.items())
        return not self.outside_where(instance)

    def outside_where(self, instance: AnyRow) -> list[str]:
        """Return the keys of ``where`` that ``instance``, a stored row, does not meet."""
        resolved = self.resolved()
        outside = []
        for name, (attname, values) in zip(resolved.where, resolved.where_values.items(), strict=True):
            value = value_of(instance, attname)
            if attname in resolved.compared_apart:
                value = comparable(resolved.compared_apart[attname], value)
            if value not in values:
                outside.append(name)
        return outside
