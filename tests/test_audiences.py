"""Permissions for all users who are logged in, and for staff users: without a codename."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from django.contrib.auth.models import AnonymousUser, User

from admin_ui.bindings.summary import summarise_record
from declbind.audiences import is_in_audience
from declbind.binding_classes import build_binding
from declbind.console.overview import describe_rules
from declbind.console.reasons import explain_permission
from declbind.core.spec import ACTIONS, BindingSpec
from declbind.models import BindingRecord
from declbind.record_validation import validate_document
from declbind.testing import override_bindings
from tests.factories import make_user
from tests.json_types import JSONObject
from tests.live import NUMBERS, code_of, in_thread, next_payload, store, subscribe
from tests.logins import log_in
from tests.zoo.clients import ANIMALS

USERS: JSONObject = {
    "nobody": None,
    "anonymous": AnonymousUser(),
    "user": User(username="user"),
    "staff": User(username="staff", is_staff=True),
    "inactive": User(username="inactive", is_staff=True, is_active=False),
    "superuser": User(username="superuser", is_superuser=True),
    "bare": SimpleNamespace(is_authenticated=True),
}
#: The users whom each rule admits. A superuser is not automatically a staff user.
LET_IN = {
    "authenticated": {"user", "staff", "superuser", "bare"},
    "staff": {"staff"},
    True: set(USERS),
    False: set(),
}


@pytest.mark.parametrize("rule", LET_IN)
def test_a_rule_without_a_codename_admits_its_users(rule):
    """The rules admit logged-in active users, staff users, everyone or nobody."""
    assert {name for name, user in USERS.items() if is_in_audience(user, rule)} == LET_IN[rule]
    binding = build_binding(BindingSpec.from_dict({**ANIMALS, "permissions": dict.fromkeys(ACTIONS, rule)}))
    for name, user in USERS.items():
        bound = binding(user)
        asked = [bound.has_view_permission(user, {}), *(bound.has_permission(user, action, None) for action in ACTIONS)]
        assert set(asked) == {name in LET_IN[rule]}, name


@pytest.mark.parametrize("word", ["authenticated", "staff"])
def test_a_rule_applies_to_one_action_or_to_all_four(word):
    """It is not validated as a codename."""
    for permissions in (word, {"view": word}, dict.fromkeys(ACTIONS, word)):
        spec, problems = validate_document({**ANIMALS, "permissions": permissions})
        assert problems == []
        assert spec is not None
        assert spec.permissions["view"] == word


@pytest.mark.parametrize(("typed", "meant"), [("authentcated", "authenticated"), ("Staff", "staff")])
def test_a_mistyped_rule_is_not_taken_for_a_codename(typed, meant):
    """The message names the rule that was probably meant."""
    _, [problem] = validate_document({**ANIMALS, "permissions": {"view": typed}})
    assert problem.message.endswith(f"Did you mean {meant!r}?")


def test_the_console_describes_the_rules_in_words():
    """The list, the command and the reasons of a trial do so."""
    rules = {"view": "authenticated", "create": "staff", "update": False, "delete": True}
    record = BindingRecord().assign({**ANIMALS, "permissions": rules})
    assert dict(summarise_record(record, {}).who) == {
        "view": "users who are logged in",
        "create": "staff users",
        "update": "nobody",
        "delete": "everyone",
    }
    binding = build_binding(BindingSpec.from_dict(record.definition()))
    assert describe_rules(binding) == {
        "view": "users who are logged in",
        "create": "staff users",
        "update": "nobody",
        "delete": "anyone",
    }
    reason = explain_permission(binding(USERS["user"]), "create", None, False)
    assert (reason.rule, reason.text) == ("staff", "Open to staff users; user is not one of them.")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("word", "lost"), [("staff", "is_staff"), ("authenticated", "is_active")])
async def test_a_socket_loses_the_subscriptions_that_its_user_may_no_longer_have(word, lost):
    """Losing the staff status ends the subscription, and losing the account closes the socket."""
    user = await in_thread(lambda: make_user(is_staff=True))
    plain = await in_thread(make_user)
    with override_bindings({**NUMBERS, "permissions": {"view": word}}):
        async with (await log_in(user=plain)).client() as other:
            if word == "staff":
                assert code_of(await other.request("numbers", "subscribe", params={"name": "a"})) == "denied"
            else:
                await subscribe(other)
        async with (await log_in(user=user)).client() as client:
            await subscribe(client)
            await store("a", 1)
            assert (await next_payload(client))["data"]["value"] == 1
            setattr(user, lost, False)
            await in_thread(user.save)
            await store("b", 2)
            if word == "staff":
                assert await next_payload(client) == {"action": "closed", "reason": "permission"}
            else:
                assert await client.wait_closed() == 4401
