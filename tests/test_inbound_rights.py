"""Permissions of client requests on rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser, User
from django.test import override_settings

from declbind import WebsocketBinding
from declbind.bindings import Binding
from declbind.core.errors import ClientError
from declbind.core.frames import Request
from declbind.inbound import permissions, writes
from declbind.inbound.permissions import Identity
from tests.factories import AnimalFactory, UserFactory, make_user
from tests.json_types import JSONObject
from tests.zoo.clients import ANIMALS, OPEN, Client, be, connect
from tests.zoo.models import Animal, Profile

pytestmark = pytest.mark.django_db


NEEDED = {"create": "zoo.add_animal", "update": "zoo.change_animal", "delete": "zoo.delete_animal"}


def check_that_permissions_are_required(send: Callable[..., object]) -> None:
    """Assert that each action needs its own codename, held now; `send` gets a user and makes a full request."""
    everything = list(NEEDED.values())
    for action, codename in NEEDED.items():
        for codenames in ([], [name for name in everything if name != codename]):
            with pytest.raises(ClientError) as caught:
                send(make_user(*codenames), action)
            assert caught.value.code == "denied"
        with pytest.raises(ClientError) as caught:
            send(None, action)
        assert caught.value.code == "denied"
        with pytest.raises(ClientError) as caught:
            send(make_user(codename, is_active=False), action)
        assert caught.value.code == "denied"
        send(make_user(codename), action)


def ask_by(handle: Any, binding: type[Binding]) -> Callable[[Any, str], object]:
    def send(user: User, action: str) -> Any:
        row = AnimalFactory.create()
        data = {} if action == "delete" else {"name": f"{row.name} and more"}
        payload = {"action": action, "pk": row.pk, "data": data}
        return handle(Request("animals", action, payload, pk=row.pk, data=data), binding, be(user))

    return send


def test_each_action_needs_its_own_permission():
    """Without a rule it is Django's own codename; anonymous and inactive users hold none."""
    check_that_permissions_are_required(ask_by(writes.handle, connect(permissions={}).binding))


class Careless(Binding):
    """A deliberately broken binding that checks permissions only for deletes."""

    def has_permission(self, user: AbstractBaseUser | AnonymousUser | None, action: str, pk: object) -> bool:
        return action != "delete" or super().has_permission(user, action, pk)


def test_a_missing_check_of_permissions_is_detected():
    """Negative control: a binding that checks permissions only for deletes fails the previous test."""
    keys = {**ANIMALS, "permissions": {}}
    broken = type("Broken", (Careless, WebsocketBinding), keys)
    with pytest.raises((pytest.fail.Exception, AssertionError)):
        check_that_permissions_are_required(ask_by(writes.handle, connect(broken).binding))


def test_a_stale_user_is_detected(monkeypatch):
    """Negative control: a user object with cached permissions fails the previous test."""
    stale = make_user(*NEEDED.values())
    monkeypatch.setattr(permissions, "load_current_user", lambda identity: stale)
    with pytest.raises(pytest.fail.Exception):
        check_that_permissions_are_required(ask_by(writes.handle, connect(permissions={}).binding))


@pytest.mark.parametrize(("rule", "allowed"), [(True, True), (False, False)])
def test_true_means_anyone_and_false_nobody(rule, allowed):
    """``true`` admits anonymous users, and ``false`` refuses superusers."""
    client = connect(
        permissions={**OPEN, "create": rule}, user=None if allowed else UserFactory.create(is_superuser=True)
    )
    if allowed:
        client.send("create", data={"name": "a"})
    else:
        assert client.refused("create", data={"name": "a"}).code == "denied"


class OwnerBackend(ModelBackend):
    """A permission backend that gives owners permissions on their rows."""

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        return obj is not None and obj.owner_id == user_obj.pk


def test_a_permission_on_the_row_counts():
    """A backend with object permissions gets the row. A missing row and another user's get the same answer."""
    ann, bob = UserFactory.create(), UserFactory.create()
    own, other = AnimalFactory.create(owner=ann), AnimalFactory.create(owner=bob)
    client = connect(permissions={}, user=ann)
    with override_settings(AUTHENTICATION_BACKENDS=["tests.test_inbound_rights.OwnerBackend"]):
        client.send("update", own.pk, {"name": "Mine"})
        answers = {
            (error.code, error.message, str(error.fields))
            for pk in (other.pk, 999_999, 2**63, True, "x")
            for error in [client.refused("update", pk, {"name": "Mine too"})]
        }
        assert answers == {("denied", "Not allowed.", "{}")}


def test_a_request_of_an_ended_session_is_denied():
    """A request that arrives before the control event of the logout writes nothing."""
    user = make_user("zoo.add_animal")
    client = connect(permissions={})
    client.identity = Identity(
        user_pk=str(user.pk), session_key="gone", backend="django.contrib.auth.backends.ModelBackend"
    )
    assert client.refused("create", data={"name": "a"}).code == "denied"


class LooksByItself(WebsocketBinding):
    """A hand-written binding as in Channels 1.x, which does not use ``where`` and ``scope``."""

    model = Animal
    stream = "animals"
    fields = ["name", "kind", "legs", "owner"]
    permissions = OPEN

    def create(self, data):
        return Animal.objects.create(**data)

    def update(self, pk, data):
        Animal.objects.filter(pk=pk).update(**data)

    def delete(self, pk):
        Animal.objects.filter(pk=pk).delete()


def check_where_holds(client: Client) -> None:
    """Assert that rows outside ``where`` are treated as missing, before and after a write."""
    inside, outside = AnimalFactory.create(kind="bird"), AnimalFactory.create(kind="fish", legs=0)
    for action, data in (("update", {"name": "Bea"}), ("delete", None)):
        answers = {
            (error.code, error.message.replace(str(pk), "N"))
            for pk in (outside.pk, 999_999)
            for error in [client.refused(action, pk, data)]
        }
        assert len(answers) == 1
        assert answers.pop()[0] == "not_found"
    assert client.refused("update", inside.pk, {"kind": "fish", "legs": 0}).code == "invalid"
    assert client.refused("create", data={"name": "Cid", "kind": "fish", "legs": 0}).code == "invalid"
    inside.refresh_from_db()
    assert (inside.kind, Animal.objects.count()) == ("bird", 2)
    client.send("update", inside.pk, {"name": "Dan"})
    client.send("create", data={"name": "Eve"})


def test_rows_outside_of_where_do_not_exist():
    """They cannot be changed or deleted, a row cannot be moved there, and none is made there."""
    check_where_holds(connect(where={"kind": "bird"}))


def test_where_holds_for_hand_written_methods():
    """Project code that finds rows in its own way is limited as well."""
    check_where_holds(connect(type("Birds", (LooksByItself,), {"where": {"kind": "bird"}})))


@pytest.mark.parametrize("hole", ["get_object", "check_inside"])
def test_a_missing_check_of_where_is_detected(hole):
    """Negative control: without the check before or after the write, the previous test fails."""

    def get_object(self: Any, pk: Any) -> Any:
        return Animal.objects.filter(pk=pk).first() or Animal(pk=pk)

    methods = {"get_object": get_object, "check_inside": lambda self, row: None}
    broken = type("Broken", (WebsocketBinding,), {**ANIMALS, "where": {"kind": "bird"}, hole: methods[hole]})
    with pytest.raises((pytest.fail.Exception, AssertionError)):
        check_where_holds(connect(broken))


OWNED: JSONObject = {
    "fields": ["name", "owner"],
    "scope": {"owner_id": "$user.pk"},
    "groups": ["zoo-{owner_id}"],
}


def check_scope_holds(client: Client, ann: Any, bob: Any) -> None:
    """Assert that Ann can only use her own rows, and cannot give any away."""
    own, other = AnimalFactory.create(owner=ann), AnimalFactory.create(owner=bob)
    for action, data in (("update", {"name": "Bea"}), ("delete", None)):
        answers = {
            (error.code, error.message.replace(str(pk), "N"))
            for pk in (other.pk, 999_999)
            for error in [client.refused(action, pk, data)]
        }
        assert len(answers) == 1
        assert answers.pop()[0] == "not_found"
    for value in (bob.pk, None, "x", True, [ann.pk]):
        assert client.refused("update", own.pk, {"owner": value}).code == "invalid"
        assert client.refused("create", data={"name": "Cid", "owner": value}).code == "invalid"
    created = [client.send("create", data=data)["pk"] for data in ({"name": "Dan"}, {"name": "Eve", "owner": ann.pk})]
    client.send("update", own.pk, {"name": "Fay", "owner": ann.pk})
    assert Animal.objects.filter(owner=ann).count() == 3
    assert Animal.objects.filter(pk__in=created, owner=ann).count() == 2
    client.send("delete", own.pk)


@pytest.mark.parametrize("name", ["owner_id", "owner"])
def test_a_scope_limits_each_user_to_own_rows(name):
    """A create gets the owner, an update keeps it, and another user's row is treated as missing."""
    ann, bob = UserFactory.create(), UserFactory.create()
    keys = {**OWNED, "scope": {name: "$user.pk"}, "groups": [f"zoo-{{{name}}}"]}
    check_scope_holds(connect(user=ann, **keys), ann, bob)


@pytest.mark.parametrize("hole", ["scoped", "scope_values"])
def test_a_missing_check_of_the_scope_is_detected(hole):
    """Negative control: a binding that does not narrow rows, or does not set the owner, fails the previous test."""
    methods = {"scoped": lambda self, rows: rows, "scope_values": lambda self: {}}
    broken = type("Broken", (WebsocketBinding,), {**ANIMALS, **OWNED, hole: methods[hole]})
    ann, bob = UserFactory.create(), UserFactory.create()
    with pytest.raises((pytest.fail.Exception, AssertionError)):
        check_scope_holds(connect(broken, user=ann), ann, bob)


def test_anonymous_users_own_nothing():
    """An anonymous user has no value for the scope: no row is theirs, and none can be made."""
    row = AnimalFactory.create(owner=None)
    client = connect(**OWNED)
    assert client.refused("create", data={"name": "a"}).code == "denied"
    assert client.refused("update", row.pk, {"name": "a"}).code == "not_found"
    assert client.refused("delete", row.pk).code == "not_found"


def test_a_row_whose_key_is_its_owner_is_not_overwritten():
    """A second create of one's profile is refused; without force_insert Django would update the first."""
    ann = UserFactory.create()
    client = connect(
        {"stream": "p", "model": "zoo.Profile", "fields": ["bio"], "permissions": OPEN,
         "scope": {"user_id": "$user.pk"}, "groups": ["p-{user_id}"]},
        user=ann,
    )  # fmt: skip
    assert client.send("create", data={"bio": "first"}) == {"pk": ann.pk}
    assert client.refused("create", data={"bio": "second"}).code == "invalid"
    assert Profile.objects.get().bio == "first"
