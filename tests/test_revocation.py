"""Changes of permissions become control events, after the change and in its transaction."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import SESSION_KEY, get_user_model, update_session_auth_hash
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from declbind.inbound import revocation
from declbind.inbound.permissions import session_digest
from declbind.models import BindingRecord, Event
from declbind.outbound import log, observers
from declbind.testing import override_bindings
from tests.factories import PASSWORD, GroupFactory, UserFactory, find_permission, make_user

pytestmark = pytest.mark.django_db


class Log:
    """The control events since the last read."""

    def __init__(self) -> None:
        self.seen = 0
        self.read()

    def read(self) -> list[Any]:
        events = list(Event.objects.filter(kind=Event.CONTROL, id__gt=self.seen).order_by("id"))
        self.seen = events[-1].id if events else self.seen
        return [json.loads(event.data) for event in events]


def logged_in(user: Any) -> tuple[Client, str]:
    client = Client()
    client.force_login(user)
    return client, str(client.session.session_key)


def test_a_logout_names_the_session_by_its_digest():
    """The event carries the digest of the key, which is gone after the flush, and never the key."""
    user = UserFactory.create()
    client, key = logged_in(user)
    log = Log()
    client.logout()
    events = log.read()
    assert {"type": "session", "session": session_digest(key), "user": str(user.pk)} in events
    assert key not in json.dumps(events)


def test_a_logout_without_a_request_makes_an_event():
    """Channels' logout() has no request, so the deleted session makes the event."""
    client, key = logged_in(UserFactory.create())
    log = Log()
    client.session.flush()
    assert log.read() == [{"type": "session", "session": session_digest(key)}]


def test_expired_and_anonymous_sessions_make_no_event():
    """They can be deleted by the thousand."""
    _, key = logged_in(UserFactory.create())
    Session.objects.filter(session_key=key).update(expire_date=timezone.now() - timedelta(days=1))
    anonymous = Client().session
    anonymous["basket"] = 1
    anonymous.save()
    log = Log()
    Session.objects.all().delete()
    assert log.read() == []


def test_clearing_sessions_costs_one_query(django_assert_num_queries):
    """The query finds sessions that are still valid, of which there are none.

    A site clears expired ones by the million.
    """
    logged_in(UserFactory.create())
    with django_assert_num_queries(2) as captured:
        Session.objects.filter(expire_date__lt=timezone.now()).delete()
    assert [query["sql"].split()[0] for query in captured] == ["SELECT", "DELETE"]


def test_a_login_makes_no_event():
    """Only last_login is written, which does not affect permissions."""
    user = UserFactory.create(username="ann")
    log = Log()
    assert Client().login(username="ann", password=PASSWORD)
    assert log.read() == []
    user.save(update_fields=["last_login"])
    assert log.read() == []


def test_a_new_user_makes_no_event():
    """A user who did not exist cannot be connected."""
    log = Log()
    UserFactory.create()
    assert log.read() == []


def test_a_user_who_changes_the_password_ends_the_old_session():
    """The page that changes a password gives the session another key."""
    user = UserFactory.create()
    client, key = logged_in(user)
    log = Log()
    user.set_password("another")
    user.save()
    request = type("Request", (), {"session": client.session, "user": user})()
    update_session_auth_hash(request, user)
    assert log.read() == [
        {"type": "users", "users": [str(user.pk)]},
        {"type": "session", "session": session_digest(key)},
    ]


def user_saved(user, group):
    user.save()


def user_field_saved(user, group):
    user.save(update_fields=["is_active", "last_login"])


def groups_set(user, group):
    user.groups.set([group])


def group_joined_from_its_side(user, group):
    group.user_set.add(user)


def permission_added(user, group):
    user.user_permissions.add(find_permission("zoo.view_animal"))


def permission_given_from_its_side(user, group):
    find_permission("zoo.view_animal").user_set.add(user)


@pytest.mark.parametrize(
    "change",
    [
        user_saved,
        user_field_saved,
        groups_set,
        group_joined_from_its_side,
        permission_added,
        permission_given_from_its_side,
    ],
)
def test_a_change_of_one_user_names_the_user(change):
    """Each way of changing a user's rights names that user, once."""
    user, group = UserFactory.create(), GroupFactory.create()
    log = Log()
    change(user, group)
    assert log.read() == [{"type": "users", "users": [str(user.pk)]}]


@pytest.mark.parametrize("clear", ["groups", "user_permissions"])
def test_clearing_a_users_list_names_the_user(clear):
    """A cleared list is a change like any other."""
    user = make_user("zoo.view_animal")
    user.groups.add(GroupFactory.create())
    log = Log()
    getattr(user, clear).clear()
    assert log.read() == [{"type": "users", "users": [str(user.pk)]}]


def test_a_deleted_user_is_named():
    """The key is still known when the event is written."""
    user = UserFactory.create()
    pk = str(user.pk)
    log = Log()
    get_user_model().objects.filter(pk=pk).delete()
    assert log.read() == [{"type": "users", "users": [pk]}]


def group_permission_added(group):
    group.permissions.add(find_permission("zoo.view_animal"))


def group_deleted(group):
    Group.objects.filter(pk=group.pk).delete()


def permission_deleted(group):
    find_permission("zoo.view_animal").delete()


def permission_renamed(group):
    permission = find_permission("zoo.view_animal")
    permission.codename = "look_at_animal"
    permission.save()


def members_cleared(group):
    group.user_set.clear()


@pytest.mark.parametrize(
    "change", [group_permission_added, group_deleted, permission_deleted, permission_renamed, members_cleared]
)
def test_a_change_that_may_concern_anybody_concerns_all_users(change):
    """The members of a group are not looked up, so every connection is checked again."""
    group = GroupFactory.create()
    UserFactory.create().groups.add(group)
    log = Log()
    change(group)
    assert {"type": "users", "users": None} in log.read()


def test_a_new_permission_makes_no_event():
    """Each migrate creates some, and no user has them yet."""
    existing = find_permission("zoo.view_animal")
    log = Log()
    Permission.objects.create(content_type=existing.content_type, codename="pet_animal", name="Can pet")
    assert log.read() == []


@pytest.mark.django_db(transaction=True)
def test_a_change_that_is_rolled_back_leaves_no_event():
    """The event is in the transaction of the change."""
    user = UserFactory.create()
    log = Log()
    with transaction.atomic():
        user.is_active = False
        user.save()
        assert log.read() != []
        transaction.set_rollback(True)
    log.seen = 0
    assert log.read() == []


def test_a_kick_names_a_connection_or_a_user():
    """Both forms have the reason. A kick without either is a programming error and raises."""
    user = UserFactory.create()
    log = Log()
    revocation.kick(connection="c1", reason="Too loud")
    revocation.kick(user=user)
    revocation.kick(user=7)
    assert log.read() == [
        {"type": "kick", "connection": "c1", "user": None, "reason": "Too loud"},
        {"type": "kick", "connection": None, "user": str(user.pk), "reason": ""},
        {"type": "kick", "connection": None, "user": "7", "reason": ""},
    ]
    with pytest.raises(ValueError, match="expected a connection or a user"):
        revocation.kick()


def test_an_edit_of_a_record_carries_both_definitions():
    """A hub learns from the event what was narrowed. A new record has no old definition, and a removed one no new."""
    log = Log()
    record = BindingRecord.objects.create(stream="animals", model="zoo.Animal", fields=["name"])
    record.fields = ["name", "kind"]
    record.save()
    record.delete()
    first, second, third = log.read()
    narrow = {"stream": "animals", "model": "zoo.Animal", "fields": ["name"]}
    wide = {**narrow, "fields": ["name", "kind"]}
    assert [event["type"] for event in (first, second, third)] == ["config"] * 3
    assert first["changes"] == {"animals": [None, narrow]}
    assert second["changes"] == {"animals": [narrow, wide]}
    assert third["changes"] == {"animals": [wide, None]}
    assert first["version"] < second["version"] < third["version"]


def test_a_user_model_without_groups_and_permissions_is_supported(monkeypatch):
    """The process starts, and changes of its users make events."""
    from tests.zoo.models import Keeper

    connected = []
    monkeypatch.setattr(observers, "bulk_observers", {})
    for signal in ("post_save", "post_delete", "m2m_changed"):
        monkeypatch.setattr(
            getattr(revocation, signal), "connect", lambda *args, name=signal, **kwargs: connected.append(name)
        )
    revocation._watch_users(Keeper)
    assert connected == ["post_save", "post_delete"]


@pytest.mark.django_db(transaction=True)
def test_users_in_another_database_are_announced_after_their_commit(monkeypatch):
    """No transaction includes two databases, and the event must not be read before the change can be."""
    appended: list[tuple[object, str]] = []
    monkeypatch.setattr(revocation, "database_alias", lambda: "log")
    monkeypatch.setattr(log, "is_here", lambda using: True)
    monkeypatch.setattr(log, "append_control", lambda content, using, tenant: appended.append((content, using)))
    user = UserFactory.create()
    with transaction.atomic():
        user.save()
        assert appended == []
    assert appended == [({"type": "users", "users": [str(user.pk)]}, "log")]


# Written by query sets ----------------------------------------------------------------------------------------------


def test_users_that_a_query_set_changes_are_named():
    """This covers `update` and `bulk_update`. A change of `last_login` makes no event."""
    ann, bob = UserFactory.create(), UserFactory.create()
    log = Log()
    User.objects.filter(pk=ann.pk).update(is_active=False)
    User.objects.filter(pk=ann.pk).update(last_login=timezone.now())
    User.objects.bulk_update([ann, bob], ["password"])
    assert log.read() == [
        {"type": "users", "users": [str(ann.pk)]},
        {"type": "users", "users": [str(ann.pk), str(bob.pk)]},
    ]


def test_users_of_a_bound_model_are_named_as_well():
    """Capture of rows and the detection of permission changes do not interfere."""
    ann = UserFactory.create()
    log = Log()
    with override_bindings({"stream": "people", "model": "auth.User", "fields": ["username"]}):
        User.objects.filter(pk=ann.pk).update(is_active=False)
    assert {"type": "users", "users": [str(ann.pk)]} in log.read()


def test_many_users_are_reported_as_all_users(monkeypatch):
    """The number of names in an event is limited."""
    monkeypatch.setattr(revocation, "MAX_NAMED", 1)
    UserFactory.create_batch(2)
    log = Log()
    User.objects.update(is_active=False)
    assert log.read() == [{"type": "users", "users": None}]


def test_sessions_that_a_query_set_deletes_are_named():
    """Only sessions that were still valid are named."""
    store = SessionStore()
    store[SESSION_KEY] = "1"
    store.save()
    old = SessionStore()
    old[SESSION_KEY] = "1"
    old.set_expiry(-10)
    old.save()
    log = Log()
    Session.objects.filter(expire_date__lt=timezone.now()).delete()
    assert log.read() == []
    Session.objects.all().delete()
    assert log.read() == [{"type": "session", "session": session_digest(store.session_key)}]


def test_a_changed_codename_concerns_all_users():
    """The holders of the codename are not known."""
    log = Log()
    Permission.objects.filter(codename="view_user").update(codename="look_at_user")
    assert log.read() == [{"type": "users", "users": None}]


def test_a_failed_update_makes_no_event():
    """The control event is in the transaction of the change."""
    UserFactory.create(username="ann")
    UserFactory.create(username="bob")
    log = Log()
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.update(username="same")
    assert log.read() == []
