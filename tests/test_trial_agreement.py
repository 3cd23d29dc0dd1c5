"""A try and reality agree: each generated case runs both ways, and what came of it is compared to the letter."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, connection, transaction

from declbind import WebsocketBinding, registry
from declbind.console import trial, trial_frames, trial_inbound, trial_outbound
from declbind.console.trial import Question, make_trial
from declbind.core import frames
from declbind.core.errors import ClientError
from declbind.core.hub import Connection, Hub, Limits, Outbox, Subscription
from declbind.inbound import writes
from declbind.inbound.permissions import Identity
from declbind.live import grants
from declbind.live.conversation import FAULT, read_envelope, read_request
from declbind.live.hub import LiveHub
from declbind.live.snapshots import read_snapshot
from declbind.models import Event, IdempotencyKey, Traffic
from declbind.outbound import log, sequencer
from declbind.testing import Client, override_bindings
from tests.factories import AnimalFactory, FoodFactory, KeeperFactory, UserFactory, find_permission, make_user
from tests.live import in_thread
from tests.zoo.models import Animal, Cage

STREAM = "animals"
HOLDS = "zoo.feed_animal"
#: Also bound, so that one write tells two streams.
BESIDE = {"stream": "beside", "model": "zoo.Animal", "fields": ["name"], "groups": ["keeper-{keeper_id}"]}


# Cases --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One question: a binding as a record or with code of its own, a user, an action, a row, values."""

    record: dict[str, Any]
    code: str
    user: str
    action: str
    row: str
    values: dict[str, Any] = field(default_factory=dict)
    carry_out: bool = True


class Coded(WebsocketBinding):
    """What the hand-written bindings have in common."""

    model = Animal
    stream = STREAM


def has_permission_by_code(self: Any, user: Any, action: str, pk: Any) -> bool:
    if pk is None:
        return bool(user.is_authenticated)
    return bool(Animal.objects.get(pk=pk).legs < 10)


def create_by_code(self: Any, data: Any) -> Any:
    return Animal.objects.create(name=data.get("name", "none"), kind="bird", status="open")


def update_by_code(self: Any, pk: Any, data: Any) -> Any:
    Animal.objects.filter(pk=pk).update(legs=4)
    row = Animal.objects.get(pk=pk)
    row.name = data["name"]
    row.save()
    return row


def fail(self: Any, *args: Any) -> Any:
    raise RuntimeError("the secret")


def groups_by_code(cls: Any, instance: Any) -> list[str]:
    return ["flyers" if instance.kind == "bird" else "swimmers"]


def payload_by_code(self: Any, instance: Any, action: str) -> dict[str, Any]:
    return (
        {} if instance.legs == 7 else {"action": action, "pk": instance.pk, "data": {"n": instance.name}, "model": "m"}
    )


CODE: dict[str, dict[str, Any]] = {
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


def draw_record(chance: random.Random) -> dict[str, Any]:
    fields, scope = chance.choice(FIELDS), chance.random() < 0.4
    record: dict[str, Any] = {
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


VALUES: list[dict[str, Any]] = [
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
    """Rows and users, the same for every case."""

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
        values: dict[str, Any] = dict(case.values)
        values.update((name, known[value]) for name, value in case.values.items() if value in ("KEEPER", "SELF"))
        if "foods" in values:
            values["foods"] = [self.food.pk]
        return values

    def state(self) -> Any:
        """Return all that a try might leave behind."""
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
    return type("Written", (Coded,), {**record, "model": Animal, **CODE[case.code]})


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


# Reality ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """What came of a case: the answer's frame, and every frame that went out, tagged and plain."""

    answer: str
    frames: list[tuple[str, ...]]


@contextlib.contextmanager
def undone() -> Iterator[None]:
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@contextlib.contextmanager
def same_keys() -> Iterator[None]:
    """Give the keys that the block took once more: no database takes those of a sequence back with a roll-back."""
    if connection.vendor == "sqlite":
        yield
        return
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute(
                "SELECT auto_increment FROM information_schema.tables"
                " WHERE table_schema = DATABASE() AND table_name = 'zoo_animal'"
            )
            (following,) = cursor.fetchone()
            yield
            if connection.in_atomic_block:
                # ALTER TABLE would commit. The next row is given its key by the session.
                give_key(following)
            else:
                cursor.execute(f"ALTER TABLE zoo_animal AUTO_INCREMENT = {following}")
            return
        cursor.execute("SELECT last_value, is_called FROM zoo_animal_id_seq")
        last, is_called = cursor.fetchone()
        yield
        cursor.execute("SELECT setval('zoo_animal_id_seq', %s, %s)", [last, is_called])


def give_key(key: int) -> None:
    """Have the next animal that this connection inserts get a key, on MySQL and MariaDB."""

    def give(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("INSERT INTO `zoo_animal` "):
            connection.execute_wrappers.remove(give)
            context["cursor"].execute(f"SET INSERT_ID = {key}")
        return execute(sql, params, many, context)

    for wrapper in [wrapper for wrapper in connection.execute_wrappers if wrapper.__name__ == "give"]:
        connection.execute_wrappers.remove(wrapper)
    connection.execute_wrappers.append(give)


def identify(world: World, case: Case) -> Identity:
    user = world.users.get(case.user)
    return Identity(connection_id="c") if user is None else Identity(user_pk=str(user.pk), connection_id="c")


def answer(text: str, world: World, case: Case) -> str:
    """Serve a request as a consumer does, down to the frame of its answer."""
    in_force = registry.get_registry().by_stream
    try:
        binding, request = read_request(read_envelope(text), in_force)
        if request.action == "subscribe":
            granted = grants.grant("default", "e", binding, request, identify(world, case))
            head = log.load_head("default")
            result = {"group": granted.group, "epoch": head.epoch, "offset": head.offset}
        else:
            result = writes.handle(request, binding, identify(world, case))
    except ClientError as error:
        return frames.encode_refusal(STREAM, 1, error)
    except Exception:
        return frames.encode_refusal(STREAM, 1, ClientError("internal", FAULT))
    return frames.encode_reply(STREAM, 1, result)


def hear(after: int) -> list[tuple[str, ...]]:
    """Return the frames of the events after an offset, as the hub hands them to two connections of each group."""
    while sequencer.sequence("default"):
        pass
    live = LiveHub()
    heard: list[tuple[str, ...]] = []
    for event in log.read(after, 1000, "default"):
        if event.kind == Event.CONTROL:
            continue
        for group, action in event.changes:
            texts = []
            for tagged in (True, False):
                hub = Hub()
                ear = Connection(Outbox(Limits()), flush=lambda: None, overflow=lambda: None)
                hub.subscribe(Subscription(ear, event.stream, group, tagged=tagged))
                hub.dispatch(event, live.variants(event), 0.0)
                texts += [ear.outbox.pop()] if len(ear.outbox) else []
            if texts:
                heard.append((event.stream, group, action, *texts))
    return heard


def request_text(world: World, case: Case) -> str:
    """Write the request that a client would send for a case."""
    payload: dict[str, Any] = {"action": case.action, "ref": 1}
    if case.action in ("update", "delete") and world.pk(case.row) is not None:
        payload["pk"] = world.pk(case.row)
    if case.action in ("create", "update"):
        payload["data"] = world.values(case)
    return json.dumps({"stream": STREAM, "payload": payload})


def carry_out(world: World, case: Case) -> Result:
    """Do it: what a client asks for, or what a program writes."""
    while sequencer.sequence("default"):
        pass
    after = log.load_head("default").offset
    with undone():
        if case.action.startswith("outbound"):
            write(world, case)
            return Result("", [heard for heard in hear(after) if heard[0] == STREAM])
        return Result(answer(request_text(world, case), world, case), hear(after))


def write(world: World, case: Case) -> None:
    """Save or delete a row as a program would."""
    pk, values = world.pk(case.row), world.values(case)
    if case.action == "outbound-delete":
        Animal.objects.get(pk=pk).delete()
        return
    row = Animal(pk=77_777) if case.action == "outbound-create" else Animal.objects.get(pk=pk)
    for name, value in values.items():
        setattr(row, f"{name}_id" if name in ("keeper", "owner") else name, value)
    row.save()


# Comparison ---------------------------------------------------------------------------------------------------------


def compare_request(world: World, case: Case) -> str:
    """Try a client's request, carry it out, and compare; return what came of it."""
    before = world.state()
    with same_keys():
        tried = make_trial(ask(world, case))
    assert world.state() == before, "the try left something behind"
    real = carry_out(world, case)
    payload = json.loads(real.answer)["payload"]
    code = "ok" if payload["ok"] else payload["error"]["code"]
    # Validation alone says nothing of what only the project's code can tell, nor of what it has to store to know.
    is_undecided = not case.carry_out and "only carrying it out" in getattr(tried.step("store"), "text", "")
    if is_undecided:
        return "undecided"
    assert (tried.verdict == "ok") is (code == "ok"), (tried.as_text(), real.answer)
    if code != "ok":
        assert tried.answer == real.answer
        assert not tried.frames
        assert tried.refusal is not None
        return code
    if case.carry_out or case.action != "create":
        assert tried.answer == real.answer
    if case.carry_out or (case.action != "create" and "foods" not in case.values):
        assert in_order(listed(tried), case) == in_order(real.frames, case)
    check_groups(tried, real)
    return code


def listed(tried: trial.Trial) -> list[tuple[str, ...]]:
    # A resync has no plain form.
    return [
        (frame.stream, frame.group, frame.action, frame.text, *([frame.plain] if frame.plain else []))
        for frame in tried.frames
    ]


def in_order(heard: list[tuple[str, ...]], case: Case) -> list[tuple[str, ...]]:
    """Leave foreseen frames without their numbers where the database decides which of two streams is first."""
    if connection.vendor == "sqlite" or (case.carry_out and not case.action.startswith("outbound")):
        return heard
    return sorted(tuple(re.sub(r'"offset":\d+,', "", text) for text in one) for one in heard)


def check_groups(tried: trial.Trial, real: Result) -> None:
    """Compare the groups before and after, worked out from the real frames' actions."""
    for stream in {heard[0] for heard in real.frames}:
        changes = [(group, action) for name, group, action, *_ in real.frames if name == stream]
        assert tried.groups(stream) == (
            list(dict.fromkeys(group for group, action in changes if action != "create")),
            list(dict.fromkeys(group for group, action in changes if action != "delete")),
        )


def compare_view(world: World, case: Case) -> str:
    """Try a subscription, ask for it, and compare the answer and whether its snapshot has the row."""
    before = world.state()
    tried = make_trial(ask(world, case))
    assert world.state() == before, "the try left something behind"
    group = tried.step("group")
    shown = group.text.removeprefix("Params ").split(" select")[0] if group and group.verdict == "ok" else "{}"
    params = json.loads(shown)
    text = json.dumps({"stream": STREAM, "payload": {"action": "subscribe", "params": params, "ref": 1}})
    real = json.loads(answer(text, world, case))["payload"]
    if params or tried.error is None or tried.error.code != "denied":
        assert json.loads(tried.answer)["payload"] == real, tried.as_text()
    if not real["ok"]:
        assert tried.verdict == "refused"
        return str(real["error"]["code"])
    if case.row == "none":
        return "ok"
    binding = registry.get_registry().by_stream[STREAM]
    request = frames.parse_request(read_envelope(text))
    granted = grants.grant("default", "e", binding, request, identify(world, case))
    try:
        snapshot = read_snapshot(granted.bound, granted.group, granted.params, "default")
    except RuntimeError:
        return "ok"  # data by code that fails: the try says so beside the rows
    pks = [json.loads(pk) for page in snapshot.pages for pk, _ in page]
    wanted = world.pk(case.row)
    assert (tried.verdict == "ok") is (wanted is not True and int(wanted) in pks), tried.as_text()
    return "seen" if tried.verdict == "ok" else "unseen"


def compare_change(world: World, case: Case) -> str:
    """Try what a row's change sends, change it, and compare the frames."""
    question = replace(ask(world, case), pk=77_777 if case.action == "outbound-create" else world.pk(case.row))
    before = world.state()
    tried = make_trial(question)
    assert world.state() == before, "the try left something behind"
    if tried.refusal is not None and tried.refusal.name in ("row", "fields", "values", "direction"):
        return f"refused: {tried.refusal.name}"
    try:
        real = carry_out(world, case)
    except IntegrityError:
        return "impossible"  # nobody can write this: another row has it, or needs this one
    assert in_order(listed(tried), case) == in_order(real.frames, case), tried.as_text()
    check_groups(tried, real)
    return "sent" if real.frames else "silent"


def compare(world: World, case: Case) -> str:
    with undone(), registry.override(build(case), BESIDE):
        if case.action == "view":
            return compare_view(world, case)
        return compare_change(world, case) if case.action.startswith("outbound") else compare_request(world, case)


def run(actions: list[str], count: int) -> Counter[tuple[str, str]]:
    """Compare so many generated cases, the same ones each time; return how often each action came to what."""
    world, seen, chance = World(), Counter[tuple[str, str]](), random.Random(7)
    for _ in range(count):
        case = draw_case(chance, actions)
        try:
            seen[case.action, compare(world, case)] += 1
        except AssertionError as error:
            error.add_note(repr(case))
            raise
    return seen


@pytest.fixture(autouse=True)
def silence(caplog):
    """Faults of code are a part of the cases."""
    caplog.set_level("CRITICAL", logger="declbind")


@pytest.mark.django_db
def test_requests_agree():
    """Verdict, code, message, fields, groups and frames of a client's request are those of the real one, literally."""
    seen = run(ACTIONS, 450)
    for action, codes in {
        "create": {"ok", "denied", "invalid", "closed_direction", "internal", "undecided"},
        "update": {"ok", "denied", "invalid", "not_found", "closed_direction", "malformed"},
        "delete": {"ok", "denied", "not_found", "conflict"},
        "view": {"seen", "unseen", "denied", "closed_direction"},
    }.items():
        missing = codes - {code for name, code in seen if name == action}
        assert not missing, f"no case of {action} came to {missing}: {seen}"


@pytest.mark.django_db
def test_changes_agree():
    """What a row's change would send is what it sends: through the log and the hub."""
    seen = run(OUTBOUND, 130)
    for action in OUTBOUND:
        assert {"sent", "silent"} <= {end for name, end in seen if name == action}, seen


# Controls -----------------------------------------------------------------------------------------------------------


def forget_scope(patch: Any) -> None:
    """Try without the rule of own rows in mutations."""
    rehearse, check = writes.rehearse, writes._check_scope

    def careless(*args: Any) -> Any:
        writes._check_scope = lambda *_: None
        try:
            return rehearse(*args)
        finally:
            writes._check_scope = check

    patch.setattr(writes, "rehearse", careless)


def trust_everybody(patch: Any) -> None:
    """Try as if every permission were there, as who kept an old user object might."""
    attempt = trial_inbound.try_write

    def careless(request: Any, binding: Any, identity: Any, index: Any, *, carry_out: bool) -> Any:
        open_rule = type(binding.__name__, (binding,), {"rule": lambda self, action: True})
        return attempt(request, open_rule, identity, index, carry_out=carry_out)

    patch.setattr(trial_inbound, "try_write", careless)


def word_it_differently(patch: Any) -> None:
    """Answer with the right code in other words."""
    attempt = trial_inbound.try_write

    def careless(*args: Any, **kwargs: Any) -> Any:
        done = attempt(*args, **kwargs)
        if done.error is not None:
            done.error.message = f"Refused. {done.error.message}"
        return done

    patch.setattr(trial_inbound, "try_write", careless)


def forget_old_groups(patch: Any) -> None:
    """Take the groups from the row as it is after the change alone."""
    patch.setattr(trial_frames, "groups_of", lambda plan, row, using: {})


def show_hidden_values(patch: Any) -> None:
    """Send the new values along with the delete that hides a row."""
    build_frames = trial_frames.build_frames

    def careless(*args: Any) -> Any:
        return tuple(
            replace(frame, text=frame.text.replace('"data":{}', '"data":{"legs":1}')) for frame in build_frames(*args)
        )

    patch.setattr(trial_outbound, "build_frames", careless)


def forget_to_roll_back(patch: Any) -> None:
    """Carry a try out for good."""
    patch.setattr(writes, "rehearse", writes.handle)
    patch.setattr(trial_inbound.Course, "_look", lambda self, reply: None)
    patch.setattr(trial_inbound.Course, "enter", leave_it_be)


def leave_it_be(self: Any, step: str, found: Any) -> None:
    self.entered.append(step)
    if found is not None:
        self.found[step] = found


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("diverge", "actions"),
    [
        (forget_scope, ["create", "update"]),
        (trust_everybody, ["create", "update", "delete"]),
        (word_it_differently, ["update"]),
        (forget_old_groups, ["outbound"]),
        (show_hidden_values, ["outbound"]),
        (forget_to_roll_back, ["create"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_try_that_diverges_would_be_caught(diverge, actions, monkeypatch):
    """Negative control: each way of evaluating something else than reality fails the comparison."""
    diverge(monkeypatch)
    with pytest.raises(AssertionError):
        run(actions, 300)


# On the wire --------------------------------------------------------------------------------------------------------


WIRE = {
    "stream": STREAM,
    "model": "zoo.Animal",
    "fields": ["name", "legs", "owner"],
    "groups": ["own-{owner_id}"],
    "permissions": {"view": HOLDS, "create": HOLDS, "update": True, "delete": HOLDS},
    "scope": {"owner_id": "$user.pk"},
}


def try_with_same_keys(question: Question) -> trial.Trial:
    with same_keys():
        return make_trial(question)


@pytest.mark.django_db(transaction=True)
async def test_a_socket_gets_what_the_try_foretold():
    """The answers and frames of a real connection, byte for byte, are those that were tried just before."""
    owner, plain = await in_thread(make_user, HOLDS), await in_thread(UserFactory.create)
    row = await in_thread(AnimalFactory.create, name="Own", owner=owner)
    asked = [
        ("create", None, {"name": "New"}), ("create", None, {"name": "Own"}), ("update", row.pk, {"legs": 5}),
        ("update", row.pk, {"owner": plain.pk}), ("update", 999_999, {"legs": 5}), ("delete", row.pk, {}),
    ]  # fmt: skip
    with override_bindings(WIRE):
        for user, (action, pk, values) in itertools.product([owner, plain, None], asked):
            async with Client(user=user) as client:
                if user is owner:
                    assert (await client.request(STREAM, "subscribe"))["ok"]
                who = user.username if user else ""
                question = Question(who, STREAM, action, pk, values, carry_out=True, wide=False)
                tried = await in_thread(try_with_same_keys, question)
                keys = {key: given for key, given in (("pk", pk), ("data", values)) if given}
                await client.send({"stream": STREAM, "payload": {"action": action, "ref": 1, **keys}})
                received = [await client.receive() for _ in range(2 if tried.frames and user is owner else 1)]
                expected = [tried.answer, *(frame.text for frame in tried.frames if user is owner)]
                assert sorted(map(partial(json.dumps, sort_keys=True), received)) == sorted(
                    json.dumps(json.loads(text), sort_keys=True) for text in expected
                )
                assert await client.is_silent()
