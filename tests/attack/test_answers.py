"""Answers to writes and subscriptions disclose nothing that the client may not view."""

from __future__ import annotations

import itertools

import pytest
from django.contrib.auth.models import User

from declbind.inbound import conditions, idempotency
from declbind.live import grants
from declbind.live.origin import is_origin_allowed
from declbind.testing import Client, override_bindings
from tests.factories import AnimalFactory, make_user
from tests.live import NUMBERS, code_of, in_thread, subscribe
from tests.zoo.clients import ANIMALS, connect
from tests.zoo.models import Animal

CHANGE, VIEW = "zoo.change_animal", "zoo.view_animal"
WRITABLE = {**ANIMALS, "permissions": {"view": VIEW, "update": CHANGE, "delete": True, "create": True}}


# A condition as a question about values ------------------------------------------------------------------------------


def guess(user: User | None, row: Animal, legs: int, action: str = "update") -> str | None:
    """Send a write that happens only if the row has this many legs; return the code of the answer."""
    client = connect(None, user, **WRITABLE)
    data = {"legs": row.legs} if action == "update" else None
    return client.refused(action, row.pk, data, condition={"legs": legs}).code


@pytest.mark.django_db
@pytest.mark.parametrize("action", ["update", "delete"])
def test_a_condition_requires_the_permission_to_view(action):
    """The answer is the same whether the guess is right or wrong."""
    row = AnimalFactory.create(name="Ada", legs=4)
    writer = make_user(CHANGE)
    assert guess(writer, row, 4, action) == guess(writer, row, 5, action) == "denied"
    assert Animal.objects.filter(pk=row.pk).exists()


@pytest.mark.django_db
def test_users_who_may_view_may_compare():
    """A condition is for clients that hold the row."""
    row = AnimalFactory.create(name="Ada", legs=4)
    both = make_user(CHANGE, VIEW)
    assert guess(both, row, 5) == "conflict"
    assert connect(None, both, **WRITABLE).send("update", row.pk, {"legs": 3}, condition={"legs": 4}) == {"pk": row.pk}


@pytest.mark.django_db
def test_a_condition_without_the_permission_would_disclose_values(monkeypatch):
    """Control: a condition without the permission."""
    monkeypatch.setattr(conditions, "_may_view", lambda *args: True)
    row = AnimalFactory.create(name="Ada", legs=4)
    assert guess(make_user(CHANGE), row, 5) == "conflict"


# A unique constraint as a question about other rows ------------------------------------------------------------------


@pytest.mark.django_db
def test_a_constraint_names_sent_fields_only():
    """The pair of name and kind is unique, and this stream neither sends nor accepts the kind."""
    AnimalFactory.create(name="Taken", kind="bird", legs=2)
    client = connect(fields=["name", "legs"])
    error = client.refused("create", data={"name": "Taken", "legs": 2})
    assert error.message == "Another row has the same values: name."
    assert "kind" not in f"{error.message} {error.fields}".lower()


@pytest.mark.django_db
def test_a_constraint_of_other_fields_names_none():
    """A rule about legs fails, and its name would disclose its subject."""
    error = connect(fields=["name", "legs"]).refused("create", data={"name": "a", "legs": 1001})
    assert error.message == "These values do not go together."


@pytest.mark.django_db
def test_the_texts_of_django_would_name_other_fields(monkeypatch):
    """Control: Django's own texts."""
    monkeypatch.setattr("declbind.validation_errors._unique_fields", lambda error: ())
    AnimalFactory.create(name="Taken", kind="bird", legs=2)
    error = connect(fields=["name", "legs"]).refused("create", data={"name": "Taken", "legs": 2})
    assert "kind" in error.message.lower()


# An idempotency key as a way to an answer ----------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_key_belongs_to_one_request():
    """With the key of another request nothing is done, and the answer says so."""
    one, other = AnimalFactory.create(name="Ada"), AnimalFactory.create(name="Bea")
    client = connect(user=make_user())
    assert [client.send("update", one.pk, {"name": "New"}, key="k") for _ in range(2)] == [{"pk": one.pk}] * 2
    for action, pk, data in [
        ("delete", one.pk, None),
        ("update", other.pk, {"name": "x"}),
        ("create", None, {"name": "x"}),
    ]:
        assert client.refused(action, pk, data, key="k").code == "invalid"
    assert sorted(Animal.objects.values_list("name", flat=True)) == ["Bea", "New"]


@pytest.mark.django_db
def test_a_key_that_answers_every_request_is_detected(monkeypatch):
    """Control: the second request is answered like the first one, and nothing is deleted."""
    monkeypatch.setattr(idempotency, "_is_same_request", lambda *args: True)
    row = AnimalFactory.create(name="Ada")
    client = connect(user=make_user())
    first = client.send("update", row.pk, {"name": "New"}, key="k")
    assert client.send("delete", row.pk, key="k") == first
    assert Animal.objects.filter(pk=row.pk).exists()


# Params as questions about columns -----------------------------------------------------------------------------------

CLOSED = {**NUMBERS, "permissions": {"view": "example.view_integervalue"}}
PARAMS = [{"name": "a"}, {"name": 5}, {"nothing": 1}, {}, {"name": ["a"]}, {"name": "a", "value": 1}]


async def codes() -> set[str | None]:
    """Return the codes of the answers to every kind of params."""
    async with Client() as client:
        asked = itertools.product(("subscribe", "unsubscribe"), PARAMS)
        return {code_of(await client.request("numbers", action, params=params)) for action, params in asked}


@pytest.mark.django_db(transaction=True)
async def test_params_are_checked_after_the_permission():
    """Whatever the params are, a user without the permission gets the same answer."""
    with override_bindings(CLOSED):
        assert await codes() == {"denied"}


@pytest.mark.django_db(transaction=True)
async def test_params_that_are_checked_first_are_detected(monkeypatch):
    """Control: params that are checked first."""

    def check_in_the_old_order(bound, sent):
        return grants.locate(bound, sent)

    monkeypatch.setattr(grants, "check_subscriber", check_in_the_old_order)
    with override_bindings(CLOSED):
        assert "invalid" in await codes()


@pytest.mark.django_db(transaction=True)
async def test_a_subscriber_may_always_unsubscribe():
    """This includes a group in which code has put the client."""
    with override_bindings(CLOSED):
        async with Client(user=await in_thread(make_user, "example.view_integervalue")) as client:
            await subscribe(client)
            assert (await client.request("numbers", "unsubscribe", params={"name": "a"}))["ok"]


# Origins -------------------------------------------------------------------------------------------------------------

ORIGINS = {
    "https://example.com": True, "https://example.com:443": True, "HTTPS://EXAMPLE.com": True,
    "https://example.com/": True, "https://user@example.com": False, "https://@example.com": False,
    "https://evil.com@example.com": False, "https://example.com?": False, "https://example.com?x": False,
    "https://example.com#": False, "https://example.com/?": False, "https://example.com/x": False,
    "https://example.com//": False, "https://example.com\\": False, " https://example.com": False,
    "https://example.com ": False, "https://example.com\t": False, "https:/example.com": False,
    "https:example.com": False, "//example.com": False, "null": False, "": False, "http://example.com": False,
}  # fmt: skip


@pytest.mark.parametrize("origin", ORIGINS)
def test_an_origin_is_a_scheme_a_host_and_a_port(origin, settings):
    """No origin of a browser contains userinfo, a path, a query or a fragment."""
    settings.DECLBIND = {"ALLOWED_ORIGINS": ["https://example.com"]}
    assert is_origin_allowed({"headers": [(b"origin", origin.encode())]}) is ORIGINS[origin]
