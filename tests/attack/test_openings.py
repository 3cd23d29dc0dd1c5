"""Operators can only open what they have permissions for: models, actions and entry points."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from admin_ui.common import documents as texts
from declbind.bindings import DJANGO_ACTIONS
from declbind.codenames import declared_codenames
from declbind.console import openings
from declbind.console.openings import BIND_RIGHTS_MODELS, EXPOSE_SENSITIVE
from declbind.core.spec import ACTIONS, BindingSpec
from declbind.fields import find_model
from declbind.models import BindingRecord
from declbind.record_validation import validate_document
from tests.attack.ways import CLOSED, EDIT, LIST, STREAM, WAYS, is_in_force, operator, send_json
from tests.console_forms import post_confirmed, read_form
from tests.test_consequences import documents, possible

pytestmark = pytest.mark.django_db

ORDINARY = ("blog.Post", "zoo.Animal")
RIGHTS = ("auth.User", "auth.Group", "auth.Permission", "admin.LogEntry", "contenttypes.ContentType")
#: The models whose every action is tried in every way; for the others the decision is called without the admin.
TRIED = ("zoo.Animal", "auth.User")


def opening(label: str, action: str, **more: object) -> dict[str, Any]:
    """Return a definition that opens one action of a model to everyone, and nothing else."""
    permissions = {**dict.fromkeys(ACTIONS, False), action: True}
    return {"stream": STREAM, "model": label, "fields": [], "permissions": permissions, **more}


def codename(label: str, action: str) -> str:
    return f"{label.partition('.')[0]}.{DJANGO_ACTIONS[action]}_{label.partition('.')[2].lower()}"


def allow_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the decision with the broken variant."""
    monkeypatch.setattr(openings, "missing_permissions", lambda *args, **kwargs: [])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("label", TRIED)
def test_an_action_requires_its_permission_in_every_way_to_store(label, action, way):
    """The definition is refused if any one of its permissions is missing, and stored with all of them."""
    document = opening(label, action)
    needed = [codename(label, action), *([BIND_RIGHTS_MODELS] if label in RIGHTS else [])]
    for missing in needed:
        client, _ = operator(*EDIT, *(right for right in needed if right != missing), EXPOSE_SENSITIVE)
        WAYS[way](client, document)
        assert not is_in_force(document), missing
        BindingRecord.objects.all().delete()
    client, _ = operator(*EDIT, *needed)
    WAYS[way](client, document)
    assert is_in_force(document)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("label", [*ORDINARY, *RIGHTS])
def test_an_action_requires_its_permission_for_every_model(label, action):
    """For more models, only the decision is called: it requires each permission, and no other."""
    needed = [codename(label, action), *([BIND_RIGHTS_MODELS] if label in RIGHTS else [])]
    document = opening(label, action)
    assert openings.missing_permissions(Holder(*needed), None, document) == []
    for missing in needed:
        [problem] = openings.missing_permissions(
            Holder(*(right for right in needed if right != missing)), None, document
        )
        assert f"({missing})" in problem.message


@pytest.mark.parametrize("way", WAYS)
def test_the_attack_succeeds_without_the_decision(monkeypatch, way):
    """Control: nothing else refuses what the other tests refuse."""
    allow_everything(monkeypatch)
    client, _ = operator(*EDIT)
    document = opening("auth.User", "update", fields=["is_superuser"], writable=["is_superuser"])
    WAYS[way](client, document)
    assert is_in_force(document)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("label", "fields", "sensitive"),
    [("sessions.Session", [], ["session_key"]), ("auth.User", ["password"], ["password"])],
)
def test_passwords_and_session_keys_are_never_exposed(monkeypatch, label, fields, sensitive, way):
    """This holds even for a superuser; without the decision they would be stored."""
    document = opening(label, "view", fields=fields, sensitive=sensitive)
    client, user = operator()
    type(user).objects.filter(pk=user.pk).update(is_superuser=True)
    WAYS[way](client, document)
    assert not is_in_force(document)
    BindingRecord.objects.all().delete()
    allow_everything(monkeypatch)
    WAYS[way](client, document)
    assert is_in_force(document)


SECRET_PLACES: dict[str, dict[str, object]] = {
    "fields": {"fields": ["secret_token"]},
    "groups": {"groups": ["of-{secret_token}"]},
    "where": {"where": {"secret_token": "hidden"}},
    "scope": {"scope": {"secret_token": "$user.username"}, "groups": ["of-{secret_token}"]},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", SECRET_PLACES)
def test_a_secret_requires_its_permission_wherever_it_is_exposed(place, way):
    """It may be sent, be in the name of a group, in a condition or in a scope."""
    document = opening("zoo.Animal", "view", sensitive=["secret_token"], **SECRET_PLACES[place])
    client, _ = operator(*EDIT, "zoo.view_animal")
    WAYS[way](client, document)
    assert not is_in_force(document)
    BindingRecord.objects.all().delete()
    client, _ = operator(*EDIT, "zoo.view_animal", EXPOSE_SENSITIVE)
    WAYS[way](client, document)
    assert is_in_force(document)


@pytest.mark.parametrize("way", WAYS)
def test_a_relation_requires_the_permission_to_view_its_target(way):
    """Sending users' posts again at each login would disclose the logins."""
    document = {**opening("blog.Post", "view"), "also": ["author"]}
    for rights in ([], ["auth.view_user"], [BIND_RIGHTS_MODELS]):
        client, _ = operator(*EDIT, "blog.view_post", *rights)
        WAYS[way](client, document)
        assert not is_in_force(document)
        BindingRecord.objects.all().delete()
    client, _ = operator(*EDIT, "blog.view_post", "auth.view_user", BIND_RIGHTS_MODELS)
    WAYS[way](client, document)
    assert is_in_force(document)


# Narrowing and widening -----------------------------------------------------------------------------------------------

WIDE: dict[str, Any] = {
    "stream": STREAM,
    "model": "zoo.Animal",
    "fields": ["name", "legs", "secret_token"],
    "groups": ["all", "kind-{legs}"],
    "sensitive": ["secret_token"],
    "permissions": {"view": True, "create": "staff", "update": "authenticated", "delete": "zoo.delete_animal"},
    "writable": ["name", "legs"],
    "auto_subscribe": True,
    "also": ["keeper"],
}
NARROWER: dict[str, dict[str, Any]] = {
    "a field less": {"fields": ["name", "legs"], "sensitive": []},
    "a group less": {"groups": ["kind-{legs}"], "auto_subscribe": False},
    "view for one permission": {"permissions": {**WIDE["permissions"], "view": "zoo.view_animal"}},
    "view for users": {"permissions": {**WIDE["permissions"], "view": "authenticated"}},
    "update for staff": {"permissions": {**WIDE["permissions"], "update": "staff"}},
    "create for nobody": {"permissions": {**WIDE["permissions"], "create": False}},
    "one direction": {"direction": "outbound"},
    "fewer rows": {"where": {"legs": [2, 4]}},
    "less to write": {"writable": ["name"]},
    "no relation": {"also": []},
    "words": {"description": "narrower"},
    "switched off": {"enabled": False},
}
WIDER: dict[str, dict[str, Any]] = {
    "another field": {"fields": ["name", "legs", "secret_token", "status"]},
    "another group": {"groups": ["all", "kind-{legs}", "s-{status}"]},
    "create for users": {"permissions": {**WIDE["permissions"], "create": "authenticated"}},
    "delete for everyone": {"permissions": {**WIDE["permissions"], "delete": True}},
    "more to write": {"fields": ["name", "legs", "secret_token", "kind"], "writable": ["name", "legs", "kind"]},
    "a condition over what is not sent": {"where": {"status": "open"}},
}


def change(client: Any, document: dict[str, Any]) -> bool:
    """Change the wide record as JSON; return whether it was stored."""
    record = BindingRecord().assign(WIDE)
    record.save()
    send_json(client, record, document)
    record.refresh_from_db()
    stored = texts.canonical(record.definition()) == texts.canonical(texts.normalise(document))
    record.delete()
    return stored


@pytest.mark.parametrize("edit", NARROWER)
def test_narrowing_a_binding_requires_no_permission_on_the_model(edit):
    """Users who may change bindings may close one, whatever it exposes."""
    client, _ = operator(*EDIT)
    assert change(client, {**WIDE, **NARROWER[edit]})


@pytest.mark.parametrize("edit", WIDER)
def test_widening_a_binding_that_exposes_requires_the_permission_to_expose(edit):
    """This applies even if the secret itself is not opened further."""
    rights = [*EDIT, *(codename("zoo.Animal", action) for action in ACTIONS), "zoo.view_keeper"]
    client, _ = operator(*rights)
    assert not change(client, {**WIDE, **WIDER[edit]})
    client, _ = operator(*rights, EXPOSE_SENSITIVE)
    assert change(client, {**WIDE, **WIDER[edit]})


class Holder:
    """A user who holds some codenames."""

    def __init__(self, *codenames: str) -> None:
        self.codenames = codenames

    def has_perm(self, codename: str, obj: object = None) -> bool:
        return codename in self.codenames


edits = st.tuples(documents(), documents()).filter(lambda pair: not any(validate_document(item)[1] for item in pair))


def opened_without_permission(old: dict[str, object], new: dict[str, object]) -> set[str]:
    """Return the actions by which clients get or write more, although no permission was required."""
    gained = possible(new) - possible(old)
    if new["direction"] == "inbound":
        # Users who may view the model learn from a condition only what they may see anyway.
        gained = {item for item in gained if not (item[0] == "get" and item[1].has_perm("blog.view_post"))}
    done = {"view" if kind == "get" else kind for kind, *_ in gained}
    asked = {right for item in openings.find_openings(old, new) for right in item.permissions}
    return {action for action in done if codename("blog.Post", action) not in asked}


@hypothesis_settings(max_examples=200, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(edits)
def test_every_gain_of_clients_requires_a_permission(edit):
    """For any two definitions, compare what the new one allows a visitor with what the old one did."""
    assert opened_without_permission(*edit) == set()


def test_a_decision_that_forgets_an_action_would_be_caught(monkeypatch):
    """Control of the previous test."""
    permissions = {**CLOSED["permissions"], "view": True}
    new = {**CLOSED, "direction": "both", "fields": ["title"], "permissions": permissions}
    assert opened_without_permission(CLOSED, new) == set()
    monkeypatch.setattr(openings, "find_openings", lambda *args: [])
    assert opened_without_permission(CLOSED, new) == {"view"}


def test_the_message_names_the_permission_and_its_holders():
    """The message has the permission's name in the admin and its codename, and says who can make the change."""
    [problem] = openings.missing_permissions(Holder(), None, opening("zoo.Animal", "delete"))
    assert problem.path == "$.permissions.delete"
    assert problem.message == (
        'Only users with the permission "Can delete animal" (zoo.delete_animal) may let clients delete rows of '
        "zoo.Animal, and you do not have it. Ask a superuser or another user who has it to make this change, or leave "
        "this as it was."
    )


@pytest.mark.parametrize("action", ["update", "delete"])
@pytest.mark.parametrize("rule", [None, False, "zoo.view_animal", True, "staff", "zoo.feed_animal"])
def test_conditions_require_the_permission_to_view(action, rule):
    """If nothing is sent, the rule to view controls conditions on writes, because holders see the values anyway."""
    document = opening("zoo.Animal", action, fields=["status"], writable=[], direction="inbound")
    document["permissions"] = {**document["permissions"], "view": rule}
    if rule is None:
        del document["permissions"]["view"]
    needed = codename("zoo.Animal", action)
    paths = [problem.path for problem in openings.missing_permissions(Holder(needed), None, document)]
    assert paths == ([] if rule in (None, False, "zoo.view_animal") else ["$.permissions.view"])
    assert openings.missing_permissions(Holder(needed, "zoo.view_animal"), None, document) == []
    closed = {**document, "permissions": {**document["permissions"], "view": False}}
    found = openings.missing_permissions(Holder(needed), closed, document)
    assert [problem.path for problem in found] == paths
    assert openings.missing_permissions(Holder(), document, closed) == []


def test_a_condition_over_a_column_requires_a_permission_on_its_values():
    """A condition over a column discloses it by the existence of a row."""
    document = opening("zoo.Animal", "delete", where={"status": "open"}, direction="inbound")
    paths = [problem.path for problem in openings.missing_permissions(Holder("zoo.delete_animal"), None, document)]
    assert paths == ["$.where"]
    for right in ("view", "change"):
        assert openings.missing_permissions(Holder("zoo.delete_animal", f"zoo.{right}_animal"), None, document) == []


def test_every_model_of_the_list_is_installed():
    """No test above passes because a model is missing."""
    for label in (*ORDINARY, *RIGHTS, *TRIED):
        assert find_model(label) is not None
    assert BindingSpec.from_dict(WIDE).stream == STREAM


def test_a_copy_of_a_file_requires_the_permissions_of_its_content():
    """The copy starts disabled. Enabling it takes the permissions that the file did not need."""
    where = "blog/bindings/posts.json[0]"
    rights = ["blog.view_post", "blog.add_post", "blog.change_post", "blog.delete_post"]
    also = ["auth.view_user", BIND_RIGHTS_MODELS, "blog.view_blog", "blog.view_comment"]
    assert copy_and_enable(where, *rights[1:]) == 0
    assert copy_and_enable(where, *rights, *also) == 1


def copy_and_enable(where: str, *rights: str) -> int:
    """Take a binding of a file over, enabled; return how many are stored."""
    known = [right for right in rights if right.startswith("declbind.") or right in declared_codenames()]
    client, _ = operator(*EDIT, *known)
    page = client.get(f"{LIST}add/", {"copy": where})
    data = read_form(page.content.decode()) | {"enabled": "on"}
    assert data["model"] == "blog.Post"
    post_confirmed(client, f"{LIST}add/", data)
    return int(BindingRecord.objects.filter(enabled=True).count())


def test_the_enabled_definition_is_the_checked_one(monkeypatch):
    """A definition that is edited between the check and enabling is checked again."""
    closed, wide = {**CLOSED, "enabled": False}, {**opening("auth.User", "view"), "enabled": False}
    record = BindingRecord().assign(closed)
    record.save()
    judged = openings.missing_permissions

    def edit_after(user, old, new, **options):
        found = judged(user, old, new, **options)
        if old["model"] == "blog.Post":
            record.assign(wide).save()
        return found

    monkeypatch.setattr(openings, "missing_permissions", edit_after)
    client, _ = operator(*EDIT)
    client.post(LIST, {"action": "enable", "_selected_action": [str(record.pk)], "asked": "yes"})
    record.refresh_from_db()
    assert (record.model, record.enabled) == ("auth.User", False)
