"""A strict router: no table is in both databases, and no relation crosses them."""

from __future__ import annotations

from typing import Any

OTHER = {"declbind", "shop"}


def alias_of(app_label: str) -> str:
    return "other" if app_label in OTHER else "default"


class ShopRouter:
    """A router that keeps the apps of ``OTHER`` in the database ``other``, and all others out of it."""

    def db_for_read(self, model: Any, **hints: object) -> str:
        return alias_of(model._meta.app_label)

    def db_for_write(self, model: Any, **hints: object) -> str:
        return alias_of(model._meta.app_label)

    def allow_relation(self, one: Any, two: Any, **hints: object) -> bool:
        return alias_of(one._meta.app_label) == alias_of(two._meta.app_label)

    def allow_migrate(self, db: str, app_label: str, **hints: object) -> bool:
        return db == alias_of(app_label)
