"""The cleaning of the test database: it deletes committed rows and restores the rows that tests need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.management.color import no_style
from django.db import connection

from declbind.models import Configuration, Event, Head
from example_site.example.models import IntegerValue
from tests.clean_database import CleanDatabase, _find_filled

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def state() -> Iterator[CleanDatabase]:
    state = CleanDatabase()
    yield state
    state.clean()


def test_rows_and_lists_are_deleted_whatever_refers_to_them(state):
    """Foreign keys do not matter, and no delete leaves an event."""
    user, group = User.objects.create(username="ann"), Group.objects.create(name="readers")
    user.groups.add(group)
    user.user_permissions.add(Permission.objects.get(codename="view_user"))
    IntegerValue.objects.create(name="a", value=1)
    state.clean()
    assert {"declbind_configuration", "declbind_head"} >= set(_find_filled())
    assert not Event.objects.exists()


def test_the_first_rows_are_created_again(state):
    """The log begins a new epoch, as after a flush."""
    epoch = Head.objects.get().epoch
    state.clean()
    assert Head.objects.get().epoch != epoch
    assert Configuration.objects.count() == 1


@pytest.mark.parametrize("change", [
    lambda: Permission.objects.filter(codename="view_user").delete(),
    lambda: Permission.objects.filter(codename="view_user").update(name="See"),
    lambda: ContentType.objects.filter(model="user").update(model="person"),
    lambda: ContentType.objects.create(app_label="gone", model="gone"),
])  # fmt: skip
def test_permissions_and_content_types_are_restored(state, change):
    """Each is restored with its key."""

    def read() -> list[object]:
        return [list(model.objects.order_by("pk").values_list()) for model in (Permission, ContentType)]

    before = read()
    change()
    assert read() != before
    state.clean()
    assert read() == before


def test_leftover_rows_are_detected():
    """Negative control: the search for filled tables finds them."""
    IntegerValue.objects.create(name="a", value=1)
    assert IntegerValue._meta.db_table in _find_filled()


def test_new_keys_follow_the_restored_ones(state):
    """A test may have flushed the database, which resets the sequences."""
    Permission.objects.filter(codename="view_user").delete()
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_by_name_sql(
            no_style(), [{"table": model._meta.db_table, "column": "id"} for model in (Permission, ContentType)]
        ):
            cursor.execute(statement)
    state.clean()
    assert ContentType.objects.create(app_label="new", model="new").pk > ContentType.objects.earliest("pk").pk
