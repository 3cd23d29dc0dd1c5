"""An operator with one declbind permission walks through every page and gains no permission and no value."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import Permission, User
from django.utils import timezone

from declbind.console import openings
from declbind.console.visibility import load_rows
from declbind.core.errors import ClientError
from declbind.live.grants import check_subscriber
from declbind.models import BindingRecord, Event
from declbind.registry import get_registry
from tests.attack.pages import GREEDY, Walk, walk
from tests.attack.ways import CLOSED, EDIT, operator
from tests.factories import AnimalFactory
from tests.live_page import add_event, add_traffic
from tests.test_admin_connections import open_connection
from tests.zoo.clients import Client as SocketClient
from tests.zoo.clients import be

pytestmark = pytest.mark.django_db

#: What Django's four permissions of each table begin with.
ACTIONS = ("add", "change", "delete", "view")
EMAIL, NAME, TOKEN = "victim@hidden.example", "hidden-beast", "sesame-of-the-beast"


def own_rights() -> list[str]:
    """Return the codenames of all permissions of declbind: Django's four for each table, and its own."""
    from django.apps import apps

    found = []
    for model in apps.get_app_config("declbind").get_models():
        options = model._meta
        found += [f"declbind.{action}_{options.model_name}" for action in options.default_permissions]
        found += [f"declbind.{codename}" for codename, _ in options.permissions]
    return found


#: The tables whose permissions open a page or a part of one, as the names of their models.
OPENING = ("bindingrecord", "bindingrevision", "connection", "node", "traffic")


def attempts() -> list[tuple[str, ...]]:
    """Return each permission that opens something alone, and all others together: they give what any of them gives."""
    tables = [right for right in own_rights() if right.partition(".")[2].partition("_")[0] in ACTIONS]
    others = tuple(right for right in tables if not right.endswith(OPENING))
    return [*((right,) for right in own_rights() if right not in others), others]


@pytest.fixture
def world() -> User:
    """Store bindings that could be opened, rows with values, and traffic about them; return the user concerned."""
    victim = User.objects.create_superuser("victim", EMAIL, "pw")
    AnimalFactory.create(pk=1, name=NAME, secret_token=TOKEN)
    animals = {"stream": "animals", "model": "zoo.Animal", "fields": ["name", "legs"], "groups": ["all"]}
    hidden = {"fields": ["name", "secret_token"], "sensitive": ["secret_token"], "enabled": False}
    for document in (
        animals,
        {**animals, "stream": "secret", **hidden, "permissions": {"view": True}},
        {**GREEDY, "stream": "wide", "enabled": False},
        {**GREEDY, "stream": "asking", "writable": [], "where": {"email": "nobody@hidden.example"}, "enabled": False},
    ):
        BindingRecord().assign(document).save()
    for stream in ("once", "gone"):
        record = BindingRecord().assign({**GREEDY, "stream": stream})
        record.save()
        record.assign({**CLOSED, "stream": stream}).save()
        if stream == "gone":
            record.delete()
    add_event(stream="animals", model="zoo.animal", object_pk="1", changes='[["all","update"]]',
              data=json.dumps({"name": NAME, "legs": 2}), actor="victim")  # fmt: skip
    add_traffic(stream="animals", object_pk="1", groups=["all"], username="victim")
    open_connection("c1", victim, [["animals", "all", None, 0, ""]])
    return victim


def gained_by_socket(user: User) -> list[str]:
    """As a client, try to read every stream in force, and to become a superuser through it."""
    found = []
    user = User.objects.get(pk=user.pk)
    for stream, binding in get_registry().by_stream.items():
        bound = binding(user=user, using="default")
        try:
            group, params = check_subscriber(bound, {})
            rows = load_rows(bound, str(group), params)
            text = json.dumps([dict(row.data) for row in rows.shown])
            found += [f"{stream}: {value}" for value in (EMAIL, NAME, TOKEN) if value in text]
        except ClientError:
            pass
        try:
            SocketClient(binding, be(user)).send("update", user.pk, {"is_superuser": True})
        except ClientError:
            pass
    return found


def harm(made: Walk, user: User, before: set[str], victim: User) -> list[str]:
    """Return what the operator has now, and did not have before."""
    found = gained_by_socket(user)
    user = User.objects.get(pk=user.pk)
    found += [f"right: {name}" for name in sorted(user.get_all_permissions() - before)[:3]]
    found += ["is a superuser"] if user.is_superuser else []
    found += ["the victim was changed"] if User.objects.filter(pk=victim.pk, is_superuser=True).count() != 1 else []
    text = made.everything()
    stored = User.objects.get(pk=victim.pk).password
    return found + [f"shown: {value}" for value in (EMAIL, NAME, TOKEN, stored) if value in text]


@pytest.mark.parametrize("rights", attempts(), ids=lambda rights: rights[0] if len(rights) == 1 else "all others")
def test_one_declbind_permission_gives_no_other_and_no_value(world, rights):
    """Every address is requested, every form is submitted, and everything then in force is tried as a client."""
    client, user = operator(*rights)
    before = user.get_all_permissions()
    made = walk(client, "victim")
    assert harm(made, User.objects.get(pk=user.pk), before, world) == []
    assert set(made.answered.values()) <= {200, 302, 400, 403, 404, 405, 406, 409}


def test_all_permissions_to_edit_bindings_give_no_other_and_no_value(world):
    """Even together with those to expose and to bind rights models, none of them is a permission on a model."""
    client, user = operator(*EDIT, openings.EXPOSE_SENSITIVE, openings.BIND_RIGHTS_MODELS)
    before = user.get_all_permissions()
    made = walk(client, "victim")
    assert made.sent > 50
    assert harm(made, user, before, world) == []


@pytest.mark.parametrize("right", ["add", "change"])
def test_a_missing_decision_would_be_caught(world, monkeypatch, right):
    """Control: if every edit is allowed, the same walk ends with a superuser."""
    monkeypatch.setattr(openings, "missing_permissions", lambda *args, **kwargs: [])
    client, user = operator(f"declbind.{right}_bindingrecord")
    made = walk(client, "victim")
    found = harm(made, user, user.get_all_permissions(), world)
    assert "is a superuser" in found
    assert any(EMAIL in item for item in found)


def test_the_walk_detects_values_on_pages(world):
    """Control: an operator who may view the models, with every permission of declbind, is shown the values."""
    rights = [right for right in own_rights() if "delete" not in right]
    client, _ = operator(*rights, "zoo.view_animal", "auth.view_user")
    made = walk(client, "victim", forms=False)
    assert NAME in made.everything()
    pages = [url for url, status in made.answered.items() if status == 200]
    for page in ("live/", "why/", "try/", "connections/", "processes/", "doctor/", "import/", "export/", "add/json/"):
        assert any(url.startswith(f"/admin/declbind/bindingrecord/{page}") for url in pages), page
    assert Permission.objects.count() > 0
    assert Event.objects.filter(created_at__lte=timezone.now()).exists()


def test_a_condition_over_a_column_does_not_disclose_it(world):
    """A watching operator tries a definition that is not in force, whose condition must not affect the answer."""
    client, _ = operator(*EDIT, "declbind.view_traffic")

    def answers(monkeypatch: pytest.MonkeyPatch | None = None) -> set[str]:
        found = set()
        for email in (EMAIL, "nobody@hidden.example"):
            document = {**GREEDY, "fields": ["username"], "where": {"email": email}, "writable": []}
            asked = {"stream": "greedy", "action": "view", "pk": str(world.pk), "who": ""}
            page = client.post("/admin/declbind/bindingrecord/try/", {**asked, "document": json.dumps(document)})
            made = page.context["trial"]
            found.add("refused" if made is None else str([(step.name, step.verdict) for step in made.steps]))
        return found

    assert answers() == {"refused"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openings, "missing_permissions", lambda *args, **kwargs: [])
        assert len(answers()) == 2
