"""Binding records that tests store, spoil and roll back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction

from declbind.models import BindingRecord, BindingRevision, Configuration
from declbind.registry import refresh

#: The definition of a binding record.
Document = dict[str, Any]

GROUPS: Document = {"stream": "groups", "model": "auth.Group", "fields": ["name"], "permissions": {"view": True}}
BAD_SHAPE: Document = {"stream": "groups", "model": "auth.Group", "fields": ["name"], "direction": "sideways"}
BAD_NAME: Document = {"stream": "groups", "model": "auth.Group", "fields": ["naem"]}
SHAPE_TEXT = """$.direction: Expected "both", "outbound" or "inbound", got 'sideways'."""
NAME_TEXT = "$.fields[0]: Binding 'groups': field 'naem' does not exist on auth.Group. Did you mean 'name'?"


def record(**changes: Any) -> BindingRecord:
    return BindingRecord().assign({**GROUPS, **changes})


def stored(**changes: Any) -> BindingRecord:
    saved = record(**changes)
    saved.save()
    return saved


def spoil(pk: Any) -> None:
    """Make a stored record invalid without validation, as a migration that renames a field would."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE declbind_bindingrecord SET fields = %s WHERE id = %s", ['["naem"]', pk])


def version() -> int:
    found = Configuration.objects.first()
    return found.version if found else 0


def revisions() -> list[tuple[str, Any]]:
    return list(BindingRevision.objects.order_by("id").values_list("stream", "definition"))


@contextlib.contextmanager
def undone() -> Iterator[None]:
    """Run the block in a transaction (in a savepoint, inside another one) and roll it back."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.fixture
def fresh_registry() -> Iterator[None]:
    """Start from the state of the database, and leave no registry of this test behind."""
    refresh(force=True)
    yield
    refresh(force=True)
