"""A trial agrees with reality: each generated case runs both ways, and the results are compared exactly."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from declbind.console import trial
from declbind.console.trial import Question, frames, inbound, make_trial, outbound
from declbind.inbound import writes
from declbind.testing import Client, override_bindings
from tests.factories import AnimalFactory, UserFactory, make_user
from tests.live import in_thread
from tests.trial_cases import ACTIONS, HOLDS, OUTBOUND, STREAM
from tests.trial_comparison import run, same_keys


@pytest.fixture(autouse=True)
def silence(caplog):
    """Silence the log, because some cases raise exceptions in code."""
    caplog.set_level("CRITICAL", logger="declbind")


@pytest.mark.django_db
def test_requests_agree():
    """Verdict, code, message, fields, groups and frames equal those of the real request."""
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
    """The predicted frames of a row's change equal those that the log and the hub deliver."""
    seen = run(OUTBOUND, 130)
    for action in OUTBOUND:
        assert {"sent", "silent"} <= {end for name, end in seen if name == action}, seen


# Controls -----------------------------------------------------------------------------------------------------------


def forget_scope(patch: pytest.MonkeyPatch) -> None:
    """Try mutations without the scope."""
    rehearse, check = writes.rehearse, writes._check_scope

    def careless(*args):
        writes._check_scope = lambda *_: None
        try:
            return rehearse(*args)
        finally:
            writes._check_scope = check

    patch.setattr(writes, "rehearse", careless)


def trust_everybody(patch: pytest.MonkeyPatch) -> None:
    """Try as if every permission were granted, as with an outdated user object."""
    attempt = inbound.try_write

    def careless(request, binding, identity, index, *, carry_out):
        open_rule = type(binding.__name__, (binding,), {"rule": lambda self, action: True})
        return attempt(request, open_rule, identity, index, carry_out=carry_out)

    patch.setattr(inbound, "try_write", careless)


def word_it_differently(patch: pytest.MonkeyPatch) -> None:
    """Answer with the right code and another message."""
    attempt = inbound.try_write

    def careless(*args, **kwargs):
        done = attempt(*args, **kwargs)
        if done.error is not None:
            done.error.message = f"Refused. {done.error.message}"
        return done

    patch.setattr(inbound, "try_write", careless)


def forget_old_groups(patch: pytest.MonkeyPatch) -> None:
    """Compute the groups from the row after the change only."""
    patch.setattr(frames, "groups_of", lambda plan, row, using: {})


def show_hidden_values(patch: pytest.MonkeyPatch) -> None:
    """Send the new values with the delete that hides a row."""
    build_frames = frames.build_frames

    def careless(*args):
        return tuple(
            replace(frame, text=frame.text.replace('"data":{}', '"data":{"legs":1}')) for frame in build_frames(*args)
        )

    patch.setattr(outbound, "build_frames", careless)


def forget_to_roll_back(patch: pytest.MonkeyPatch) -> None:
    """Commit what the trial wrote."""
    patch.setattr(writes, "rehearse", writes.handle)
    patch.setattr(inbound.Course, "_look", lambda self, reply: None)
    patch.setattr(inbound.Course, "enter", leave_it_be)


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
def test_a_trial_that_differs_would_be_caught(diverge, actions, monkeypatch):
    """Negative control: each faulty evaluation fails the comparison."""
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
async def test_a_socket_gets_what_the_trial_predicted():
    """The answers and frames of a real connection equal those of the trial before, byte for byte."""
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
