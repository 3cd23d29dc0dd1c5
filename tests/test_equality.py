"""Text in streams, groups, `where`, `scope` and keys: case and trailing spaces matter on every database."""

from __future__ import annotations

import json

import pytest
from django.db import connection, models

from declbind import equality
from declbind.inbound import idempotency
from declbind.live.grants import check_subscriber
from declbind.live.snapshots import select_rows
from declbind.models import BindingRecord, Event
from declbind.testing import capture_events, override_bindings
from tests.factories import UserFactory
from tests.zoo.clients import OPEN, connect
from tests.zoo.models import Keeper

pytestmark = pytest.mark.django_db

#: Texts that are equal under a collation that ignores case and trailing spaces.
NAMES = ("Ann", "ann", "Ann ")
KEEPERS = {"stream": "keepers", "model": "zoo.Keeper", "fields": ["name"], "permissions": OPEN}


@pytest.fixture
def keepers():
    return {name: Keeper.objects.create(name=name) for name in NAMES}


def test_a_group_has_the_same_rows_in_a_snapshot_and_live(keepers):
    """The snapshot of each name's group is the row whose events go to that group."""
    client = connect({**KEEPERS, "groups": ["name-{name}"]})
    bound = client.binding(using="default")
    for name, row in keepers.items():
        group, params = check_subscriber(bound, {"name": name})
        assert list(select_rows(bound, params)) == [row]
        with override_bindings(client.binding), capture_events() as events:
            row.save()
        assert [event.changes for event in events] == [[(group, "update")]]


def test_where_matches_the_same_rows_in_queries_and_in_memory(keepers):
    """The values are a list, a single one, and one without rows."""
    for wanted, names in ((["Ann", "ann"], ["Ann", "ann"]), ("Ann ", ["Ann "]), (["nobody"], [])):
        bound = connect({**KEEPERS, "where": {"name": wanted}}).binding(using="default")
        rows = list(Keeper.objects.order_by("pk"))
        assert [row.name for row in rows if bound.is_inside(row)] == names
        assert list(bound.get_queryset().order_by("pk")) == [row for row in rows if row.name in names]


def test_scope_finds_own_rows_only(keepers):
    """A user whose name differs only by case does not get the row."""
    binding = {**KEEPERS, "scope": {"name": "$user.username"}, "groups": ["of-{name}"]}
    client = connect(binding, UserFactory.create(username="ann"))
    assert client.refused("delete", keepers["Ann"].pk).code == "not_found"
    assert client.send("delete", keepers["ann"].pk)
    assert set(Keeper.objects.values_list("pk", flat=True)) == {keepers["Ann"].pk, keepers["Ann "].pk}


def test_streams_and_idempotency_keys_differ_by_case():
    """Two records are stored, and two replies."""
    for stream in ("Posts", "posts"):
        BindingRecord.objects.create(stream=stream, model="zoo.Keeper", fields=["name"])
    assert BindingRecord.objects.get(stream="posts").stream == "posts"
    assert BindingRecord.objects.filter(stream__icontains="POSTS").count() == 2
    assert BindingRecord.objects.filter(stream__iexact="POSTS").count() == 2
    for key in ("k", "K", "k "):
        row, reply = idempotency.claim("user:1", "posts", key, "default")
        assert reply is None
        idempotency.keep(row, {"pk": key})
    assert idempotency.claim("user:1", "posts", "K", "default")[1] == {"pk": "K"}


def test_text_of_every_unicode_plane_is_logged():
    """The text has characters of four bytes in UTF-8, quotes, backslashes and control characters."""
    name = "\U0001f989 '\"\\\x1f\u2028 é"
    with override_bindings(KEEPERS):
        Keeper.objects.create(name=name)
    assert json.loads(Event.objects.filter(stream="keepers").get().data)["name"] == name


def test_the_usual_comparison_would_be_caught(keepers, monkeypatch):
    """Control: Django's query with a collation that ignores case."""
    if connection.vendor != "mysql":
        assert Keeper.objects.filter(name="Ann").count() == 1
        return
    monkeypatch.setattr(equality, "_exactly", lambda rows, name, values: models.Q())
    with pytest.raises(AssertionError):
        test_a_group_has_the_same_rows_in_a_snapshot_and_live(keepers)
