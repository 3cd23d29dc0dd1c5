"""The comparison of a trial with the real request or change."""

from __future__ import annotations

import contextlib
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from django.db import IntegrityError, connection, transaction

from declbind import registry
from declbind.console import trial
from declbind.console.trial import make_trial
from declbind.core import frames
from declbind.core.course import Check
from declbind.core.errors import ClientError
from declbind.core.hub import Connection, Hub, Limits, Outbox, Subscription
from declbind.inbound import writes
from declbind.inbound.permissions import Identity
from declbind.live import grants
from declbind.live.conversation import FAULT, read_envelope, read_request
from declbind.live.hub import LiveHub
from declbind.live.snapshots import read_snapshot
from declbind.models import Event
from declbind.outbound import log, sequencer
from tests.trial_cases import BESIDE, STREAM, Case, World, ask, build, draw_case
from tests.zoo.models import Animal

# Reality ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """The result of a case: the frame of the answer, and every frame that was sent, tagged and plain."""

    answer: str
    frames: list[tuple[str, ...]]


@contextlib.contextmanager
def undone() -> Iterator[None]:
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@contextlib.contextmanager
def same_keys() -> Iterator[None]:
    """Restore the keys that the block used, because no database returns those of a sequence after a rollback."""
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
    """Set the key of the next animal that this connection inserts, on MySQL and MariaDB."""

    def give(execute, sql, params, many, context):
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


def frames_since(after: int) -> list[tuple[str, ...]]:
    """Return the frames of the events after an offset, as the hub gives them to two connections of each group."""
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
    payload: dict[str, object] = {"action": case.action, "ref": 1}
    if case.action in ("update", "delete") and world.pk(case.row) is not None:
        payload["pk"] = world.pk(case.row)
    if case.action in ("create", "update"):
        payload["data"] = world.values(case)
    return json.dumps({"stream": STREAM, "payload": payload})


def carry_out(world: World, case: Case) -> Result:
    """Carry out a case: a client's request, or a program's write."""
    while sequencer.sequence("default"):
        pass
    after = log.load_head("default").offset
    with undone():
        if case.action.startswith("outbound"):
            write(world, case)
            return Result("", [heard for heard in frames_since(after) if heard[0] == STREAM])
        return Result(answer(request_text(world, case), world, case), frames_since(after))


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
    """Try a client's request, carry it out, and compare; return the result."""
    before = world.state()
    with same_keys():
        tried = make_trial(ask(world, case))
    assert world.state() == before, "the try left something behind"
    real = carry_out(world, case)
    payload = json.loads(real.answer)["payload"]
    code = "ok" if payload["ok"] else payload["error"]["code"]
    # Validation alone says nothing of what only the project's code can tell, nor of what it has to store to know.
    is_undecided = not case.carry_out and "only carrying it out" in getattr(tried.step(Check.STORE), "text", "")
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
    """Return predicted frames without their numbers if the database decides which of two streams is first."""
    if connection.vendor == "sqlite" or (case.carry_out and not case.action.startswith("outbound")):
        return heard
    return sorted(tuple(re.sub(r'"offset":\d+,', "", text) for text in one) for one in heard)


def check_groups(tried: trial.Trial, real: Result) -> None:
    """Compare the groups before and after with those of the actions of the real frames."""
    for stream in {heard[0] for heard in real.frames}:
        changes = [(group, action) for name, group, action, *_ in real.frames if name == stream]
        assert tried.groups(stream) == (
            list(dict.fromkeys(group for group, action in changes if action != "create")),
            list(dict.fromkeys(group for group, action in changes if action != "delete")),
        )


def compare_view(world: World, case: Case) -> str:
    """Try a subscription, subscribe, and compare the answers, and whether the snapshot has the row."""
    before = world.state()
    tried = make_trial(ask(world, case))
    assert world.state() == before, "the try left something behind"
    group = tried.step(Check.GROUP)
    params = group.evidence["params"] if group and group.verdict == "ok" else {}
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
    """Try a row's change, carry it out, and compare the frames."""
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
    """Compare this many generated cases, the same in each run; return how often each action had which result."""
    world, seen, chance = World(), Counter[tuple[str, str]](), random.Random(7)
    for _ in range(count):
        case = draw_case(chance, actions)
        try:
            seen[case.action, compare(world, case)] += 1
        except AssertionError as error:
            error.add_note(repr(case))
            raise
    return seen
