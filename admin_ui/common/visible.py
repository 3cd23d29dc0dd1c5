"""The rows of the bound models that a viewer may see, according to the admin pages of these models.

Apart from the permission to view a model, ``ModelAdmin.get_queryset`` may hide rows from a user, and
``has_view_permission`` may refuse single ones. The console shows the values of a row only to users who would find it
on the admin page of its own model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from django.contrib.admin import AdminSite, ModelAdmin
from django.db import transaction
from django.db.models import Model
from django.http import HttpRequest
from django.utils.translation import gettext as _

from declbind import value_validation
from declbind.django_types import concrete_model
from declbind.fields import find_model


def find_admin(admin_site: AdminSite, model: type[Model]) -> ModelAdmin[Model] | None:
    """Return the page of a model on a site, else that of a model with the same rows; None if there is none."""
    options = model._meta
    for owner in (model, concrete_model(model), *options.get_parent_list()):
        found = admin_site._registry.get(owner)
        if found is not None:
            return found
    return None


def is_limited(registered: ModelAdmin[Model]) -> bool:
    """Return whether a page has code by which it may show fewer rows to some users than to others."""
    return any(
        getattr(type(registered), name, None) is not getattr(ModelAdmin, name)
        for name in ("get_queryset", "has_view_permission")
    )


class VisibleRows:
    """The rows that one viewer may see, queried once per model and page of rows.

    Models without an admin page, and those whose page has no code of its own for this, are not limited. A deleted
    row cannot be found on a limited page, so it is hidden. So is every row of a page whose code fails.
    """

    def __init__(self, admin_site: AdminSite, request: HttpRequest) -> None:
        self._site, self._request = admin_site, request
        #: By model, the page that limits its rows; None for a model that is not limited.
        self._pages: dict[str, ModelAdmin[Model] | None] = {}
        self._seen: dict[str, set[str]] = {}
        self._asked: dict[str, set[str]] = {}
        #: By model, the error of its page's code.
        self.faults: dict[str, str] = {}

    def limits(self, label: str) -> bool:
        """Return whether rows of a model are limited for some viewers. Makes no query."""
        if label not in self._pages:
            model = find_model(label)
            registered = find_admin(self._site, model) if model is not None else None
            self._pages[label] = registered if registered is not None and is_limited(registered) else None
        return self._pages[label] is not None

    def unlimited(self, labels: Iterable[str]) -> frozenset[str]:
        """Return the models whose rows are not limited, which may be searched by values."""
        return frozenset(label for label in labels if not self.limits(label))

    def load(self, rows: Iterable[tuple[str, object]]) -> None:
        """Query for rows, each a model and a key as JSON value. Takes one query for each limited model."""
        wanted: dict[str, dict[str, object]] = {}
        for label, key in rows:
            text = _text(key)
            if key is not None and self.limits(label) and text not in self._asked.setdefault(label, set()):
                wanted.setdefault(label, {})[text] = key
        for label, keys in wanted.items():
            self._asked[label].update(keys)
            if label in self.faults:
                continue
            try:
                self._seen.setdefault(label, set()).update(self._find(label, keys))
            except Exception as error:  # code of the project; the rows that it would have shown are unknown
                self.faults[label] = f"{type(error).__name__}"

    def sees(self, label: str, key: object) -> bool:
        """Return whether a row may be seen; queries if ``load`` has not. Without a key nothing is known of the row."""
        if not self.limits(label):
            return True
        if key is None:
            return False
        self.load([(label, key)])
        return label not in self.faults and _text(key) in self._seen.get(label, ())

    @property
    def notes(self) -> list[str]:
        """Return messages about admin pages whose code failed."""
        return [
            _(
                "The admin page of {label} failed with {fault}, so the values of its rows are hidden here. Its "
                "get_queryset() or has_view_permission() has to be corrected."
            ).format(label=label, fault=fault)
            for label, fault in sorted(self.faults.items())
        ]

    def _find(self, label: str, keys: dict[str, object]) -> set[str]:
        registered, model = self._pages[label], find_model(label)
        assert registered is not None
        assert model is not None
        by_key: dict[object, str] = {}
        for text, key in keys.items():
            try:
                by_key[value_validation.coerce(model._meta.pk, key)] = text
            except ValueError:
                continue
        rows = registered.get_queryset(self._request).filter(pk__in=list(by_key))
        # On PostgreSQL a failed query would break the transaction of the page.
        with transaction.atomic(using=rows.db):
            if type(registered).has_view_permission is ModelAdmin.has_view_permission:
                found = list(rows.values_list("pk", flat=True))
            elif registered.has_view_permission(self._request):
                found = [row.pk for row in rows if registered.has_view_permission(self._request, row)]
            else:
                found = []
        return {by_key[pk] for pk in found if pk in by_key}


def _text(key: object) -> str:
    return json.dumps(key, sort_keys=True, default=str)


def parse_key(text: str) -> object:
    """Return the key that the log stores as JSON text, or None for an event without a row."""
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None
