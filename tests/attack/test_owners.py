"""A client cannot tie its rows to another user's rows, and learns nothing about these."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.db.models import Model
from django.test.utils import CaptureQueriesContext

from declbind.core.errors import ClientError
from declbind.record_validation import validate_document
from tests.factories import AnimalFactory, make_user
from tests.zoo.clients import ANIMALS, Client, connect
from tests.zoo.models import Animal, Food, Keeper

pytestmark = pytest.mark.django_db

#: Keepers and foods belong to the user of their name.
RELATE: dict[str, Any] = {"keeper": {"name": "$user.username"}, "foods": {"name": "$user.username"}}
ABSENT = 10**6


@pytest.fixture
def ann() -> Any:
    return make_user(username="ann")


@pytest.fixture(params=["keeper", "foods"])
def relation(request: Any) -> str:
    name: str = request.param
    return name


def make_related(relation: str, owner: str) -> Model:
    return (Keeper if relation == "keeper" else Food).objects.create(name=owner)


def in_form(relation: str, pk: int) -> Any:
    return pk if relation == "keeper" else [pk]


def attempt(client: Client, action: str, relation: str, pk: int) -> ClientError | None:
    """Write a row that is tied to the row of a key; return the refusal, if any."""
    data = {"name": "x", relation: in_form(relation, pk)}
    row = AnimalFactory.create(name="Own", kind="bird") if action == "update" else None
    try:
        client.send(action, row.pk if row else None, data)
    except ClientError as error:
        return error
    finally:
        if row is not None:
            row.delete()
    return None


@pytest.mark.parametrize("action", ["create", "update"])
def test_another_users_row_is_answered_like_an_absent_one(action, relation, ann):
    """The code, the text and the work are the same."""
    client = connect(user=ann, relate=RELATE)
    theirs = make_related(relation, "bob")
    answers, work = [], []
    for pk in (theirs.pk, ABSENT):
        with CaptureQueriesContext(connection) as queries:
            error = attempt(client, action, relation, pk)
        assert error is not None
        answers.append((error.code, error.message, str(error.fields).replace(str(pk), "KEY")))
        work.append(len(queries))
    assert answers[0] == answers[1]
    assert answers[0][0] == "invalid"
    assert work[0] == work[1]
    assert not Animal.objects.exists()


@pytest.mark.parametrize("action", ["create", "update"])
def test_a_row_of_another_user_would_be_accepted_without_a_rule(action, relation, ann):
    """Control: this is what "any" means."""
    theirs = make_related(relation, "bob")
    for related in ({}, {relation: "any"}):
        Animal.objects.all().delete()
        assert attempt(connect(user=ann, relate=related), action, relation, theirs.pk) is None


@pytest.mark.parametrize("action", ["create", "update"])
def test_own_rows_can_be_chosen(action, relation, ann):
    """These are the rows whose field has the user's value."""
    own = make_related(relation, "ann")
    assert attempt(connect(user=ann, relate=RELATE), action, relation, own.pk) is None


def test_anonymous_users_own_nothing(relation):
    """An anonymous user has no value to compare with."""
    for owner in ("", "ann"):
        row = make_related(relation, owner)
        assert attempt(connect(relate=RELATE), "create", relation, row.pk) is not None


def test_the_current_relation_may_be_sent_back(relation, ann):
    """A client may send the whole row back without tying it to anything new."""
    theirs, others = make_related(relation, "bob"), make_related(relation, "cid")
    row = AnimalFactory.create(name="Ada")
    if relation == "keeper":
        Animal.objects.filter(pk=row.pk).update(keeper=theirs)
    else:
        row.foods.set([theirs])
    client = connect(user=ann, relate=RELATE)
    client.send("update", row.pk, {relation: in_form(relation, theirs.pk)})
    assert client.refused("update", row.pk, {relation: in_form(relation, others.pk)}).code == "invalid"


# The record ----------------------------------------------------------------------------------------------------------

OWNED = {**ANIMALS, "relate": {}, "groups": ["z-{owner}"], "scope": {"owner": "$user.pk"}}


def places(document: dict[str, Any]) -> list[str]:
    return [problem.path for problem in validate_document(document)[1]]


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ({}, ["$.relate", "$.relate"]),
        ({"relate": {"keeper": "any"}}, ["$.relate"]),
        ({"relate": {"keeper": "any", "foods": "any"}}, []),
        ({"relate": RELATE}, []),
        ({"writable": ["name", "keeper"]}, ["$.relate"]),
        ({"writable": ["name"]}, []),
        ({"direction": "outbound"}, []),
        ({"relate": {**RELATE, "name": "any"}}, ["$.relate.name"]),
        ({"relate": {**RELATE, "nothing": "any"}}, ["$.relate.nothing"]),
        ({"relate": {**RELATE, "keeper": {"nothing": "$user.pk"}}}, ["$.relate.keeper.nothing"]),
        ({"relate": {**RELATE, "keeper": {"name": "$user.nothing"}}}, ["$.relate.keeper.name"]),
        ({"relate": {**RELATE, "keeper": {"name": "ann"}}}, ["$.relate.keeper.name"]),
        ({"relate": {**RELATE, "keeper": {}}}, ["$.relate.keeper"]),
        ({"relate": {**RELATE, "keeper": "all"}}, ["$.relate.keeper"]),
    ],
)
def test_a_record_with_owners_needs_a_rule(keys, found):
    """There is a rule for each relation that clients may write, in a form that the validation accepts."""
    assert places({**OWNED, **keys}) == found


def test_a_record_without_owners_needs_no_rule():
    """Clients may choose any row that the field allows."""
    assert places(ANIMALS) == []
