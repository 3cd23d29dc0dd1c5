"""Generated questions for trials: bindings, users, actions, rows and values."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth.models import Group
from django.db import connection

from declbind import WebsocketBinding
from declbind.console.trial import Question
from declbind.models import Event, IdempotencyKey, Traffic
from declbind.outbound import sequencer
from tests.factories import AnimalFactory, FoodFactory, KeeperFactory, UserFactory, find_permission, make_user
from tests.zoo.models import Animal, Cage

STREAM = "animals"
HOLDS = "zoo.feed_animal"
#: Also bound, so that one write tells two streams.
BESIDE = {"stream": "beside", "model": "zoo.Animal", "fields": ["name"], "groups": ["keeper-{keeper_id}"]}


@dataclass(frozen=True)
class Case:
    """One question: a binding as a record or with code of its own, a user, an action, a row, values."""

    record: dict[str, object]
    code: str
    user: str
    action: str
    row: str
    values: dict[str, object] = field(default_factory=dict)
    carry_out: bool = True


def has_permission_by_code(self: object, user: Any, action: str, pk: Any) -> bool:
    if pk is None:
        return bool(user.is_authenticated)
    return bool(Animal.objects.get(pk=pk).legs < 10)


def create_by_code(self: object, data: Any) -> object:
    return Animal.objects.create(name=data.get("name", "none"), kind="bird", status="open")


def update_by_code(self: object, pk: Any, data: Any) -> Any:
    Animal.objects.filter(pk=pk).update(legs=4)
    row = Animal.objects.get(pk=pk)
    row.name = data["name"]
    row.save()
    return row


def fail(self: object, *args: object) -> object:
    raise RuntimeError("the secret")


def groups_by_code(cls: object, instance: Any) -> list[str]:
    return ["flyers" if instance.kind == "bird" else "swimmers"]


def payload_by_code(self: Any, instance: Any, action: str) -> dict[str, Any]:
    return (
        {} if instance.legs == 7 else {"action": action, "pk": instance.pk, "data": {"n": instance.name}, "model": "m"}
    )


CODE: dict[str, dict[str, object]] = {
    "permission": {"has_permission": has_permission_by_code},
    "create": {"create": create_by_code, "update": update_by_code},
    "failing permission": {"has_permission": fail, "has_view_permission": fail},
    "failing create": {"create": fail, "delete": fail},
    "failing data": {"serialize_data": fail},
    "groups": {"group_names": classmethod(groups_by_code), "subscription_group": lambda self, user, params: "flyers"},
    "payload": {"serialize": payload_by_code},
}

RULES = [True, True, True, False, HOLDS, HOLDS]
GROUPS = [[], ["legs-{legs}"], ["kind-{kind}", "all"], ["keeper-{keeper_id}"]]
OWN_GROUPS = [["own-{owner_id}"], ["own-{owner_id}-{legs}"]]
FIELDS = [
    ["name", "kind", "legs", "weight", "keeper", "foods"],
    ["name", "kind", "legs", "status", "owner"],
    ["name", "status"],
]


def draw_record(chance: random.Random) -> dict[str, object]:
    fields, scope = chance.choice(FIELDS), chance.random() < 0.4
    record: dict[str, object] = {
        "stream": STREAM,
        "model": "zoo.Animal",
        "fields": fields,
        "groups": chance.choice(OWN_GROUPS if scope else GROUPS),
        "permissions": {action: chance.choice(RULES) for action in ("view", "create", "update", "delete")},
        "direction": chance.choice(["both"] * 6 + ["inbound", "outbound"]),
    }
    if scope:
        record |= {"scope": {"owner_id": "$user.pk"}, "relate": {"keeper": "any", "foods": "any"}}
    if chance.random() < 0.5:
        record["where"] = {"status": chance.choice(["open", ["open", "new"]])}
    if chance.random() < 0.25:
        record["writable"] = fields[:2]
    return record


VALUES: list[dict[str, object]] = [
    {"name": "New"},
    {"name": "New", "legs": 4},
    {"name": "New", "kind": "fish", "legs": 0},
    {"legs": 7},
    {"legs": 12},
    {"weight": 1.5, "name": "New"},
    {"name": "New", "status": "new"},
    {"name": "New", "status": "closed"},
    {"name": "New", "status": "lost"},
    {"name": "New", "keeper": "KEEPER"},
    {"name": "New", "keeper": 999},
    {"name": "New", "keeper": None},
    {"name": "New", "foods": ["FOOD"]},
    {"name": "New", "owner": "SELF"},
    {"name": "New", "owner": 999},
    {"name": "Taken"},
    {"name": "New", "kind": "cat"},
    {"name": "New", "legs": "many"},
    {"name": "New", "legs": 5000},
    {"name": None},
    {"name": "x" * 60},
    {"name": "New", "kind": "fish", "legs": 3},
    {"name": "New", "secret_token": "mine"},
    {"nmae": "New"},
    {"name": "New\x00"},
    {"name": "New", "pk": 5, "id": 6},
    {},
]
ROWS = ["inside"] * 4 + ["own"] * 4 + ["outside", "caged", "fish", "absent", "text", "junk", "none"]
USERS = ["anonymous", "plain", "holder", "group", "owner", "owner", "super", "inactive"]
ACTIONS = ["create", "update", "update", "delete", "view"]
OUTBOUND = ["outbound", "outbound-create", "outbound-delete"]


def draw_case(chance: random.Random, actions: list[str]) -> Case:
    return Case(
        record=draw_record(chance),
        code=chance.choice([""] * 8 + list(CODE)),
        user=chance.choice(USERS),
        action=chance.choice(actions),
        row=chance.choice(ROWS),
        values=chance.choice(VALUES[:4] * 3 + VALUES),
        carry_out=chance.random() < 0.6,
    )


class World:
    """The rows and users, which are the same for every case."""

    def __init__(self) -> None:
        self.users = {
            "plain": UserFactory.create(username="plain"),
            "holder": make_user(HOLDS, username="holder"),
            "group": UserFactory.create(username="group"),
            "owner": make_user(HOLDS, username="owner"),
            "super": UserFactory.create(username="super", is_superuser=True),
            "inactive": make_user(HOLDS, username="inactive", is_active=False),
        }
        feeders = Group.objects.create(name="feeders")
        feeders.permissions.add(find_permission(HOLDS))
        self.users["group"].groups.add(feeders)
        owner = self.users["owner"]
        self.keeper, self.food = KeeperFactory.create(), FoodFactory.create()
        self.rows = {
            "inside": AnimalFactory.create(name="Inside", owner=self.users["plain"], keeper=self.keeper),
            "own": AnimalFactory.create(name="Own", owner=owner, legs=3),
            "outside": AnimalFactory.create(name="Outside", owner=owner, status="closed"),
            "caged": AnimalFactory.create(name="Caged", owner=owner),
            "fish": AnimalFactory.create(name="Fish", owner=owner, kind="fish", legs=0),
            "taken": AnimalFactory.create(name="Taken"),
        }
        Cage.objects.create(animal=self.rows["caged"])
        while sequencer.sequence("default"):
            pass

    def pk(self, row: str) -> Any:
        other = {"absent": 999_999, "text": str(self.rows["own"].pk), "junk": True, "none": None}
        return other[row] if row in other else self.rows[row].pk

    def values(self, case: Case) -> dict[str, Any]:
        user = self.users.get(case.user)
        known = {"KEEPER": self.keeper.pk, "SELF": user.pk if user else None}
        values: dict[str, object] = dict(case.values)
        values.update((name, known[value]) for name, value in case.values.items() if value in ("KEEPER", "SELF"))
        if "foods" in values:
            values["foods"] = [self.food.pk]
        return values

    def state(self) -> Any:
        """Return everything that a trial might leave behind."""
        return (
            list(Animal.objects.order_by("pk").values()),
            sorted(Animal.foods.through.objects.values_list("animal_id", "food_id")),
            list(Event.objects.values_list("id", "data")),
            (Traffic.objects.count(), IdempotencyKey.objects.count(), Cage.objects.count()),
            len(connection.run_on_commit),
        )


def build(case: Case) -> Any:
    """Return the binding of a case as ``override`` takes it."""
    if not case.code:
        return case.record
    record = dict(case.record)
    if "group_names" in CODE[case.code]:
        record |= {"groups": [], "scope": {}}
    return type("Written", (WebsocketBinding,), {**record, "stream": STREAM, "model": Animal, **CODE[case.code]})


def ask(world: World, case: Case) -> Question:
    return Question(
        who="" if case.user == "anonymous" else case.user,
        stream=STREAM,
        action=case.action,
        pk=world.pk(case.row),
        values=world.values(case),
        params=None,
        carry_out=case.carry_out,
        wide=False,
    )
