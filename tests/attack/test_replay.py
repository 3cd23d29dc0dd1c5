"""A replay discloses nothing from before the client was allowed to see the group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import override_settings

from declbind.inbound.revocation import kick
from declbind.live.hub import get_hub
from declbind.live.proofs import Holder
from declbind.models import BindingRecord
from declbind.testing import Client, override_bindings
from example_site.example.models import IntegerValue
from tests.factories import find_permission, make_user
from tests.live import NUMBERS, in_thread, next_payload, since_of, store, subscribe

pytestmark = pytest.mark.django_db(transaction=True)

VIEW = "example.view_integervalue"
RESTRICTED = {**NUMBERS, "permissions": {"view": VIEW}}
UNPROVEN = {"action": "resync", "reason": "unproven"}
SECRET = 42


async def leave_secret(viewer: User | None = None) -> dict[str, object]:
    """Subscribe and disconnect; then write a row that is deleted again. Return the ``since`` of the client."""
    async with Client(user=viewer) as client:
        since = since_of(await subscribe(client))
    row = await store("a", SECRET)
    await row.adelete()
    return since


async def values_of_replay(since: dict[str, object], user: User | None = None, name: str = "a") -> list[object]:
    """Return what a resuming client is sent: values of rows, and the reasons of resyncs."""
    found: list[object] = []
    async with Client(user=user) as client:
        await subscribe(client, name, since=since)
        while not await client.is_silent():
            frame = await client.receive()
            payload = frame["payload"]
            if frame["stream"] == "numbers":
                found.append(payload["reason"] if payload["action"] == "resync" else payload["data"].get("value"))
    return found


def believe_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Holder, "read", lambda self, proof: 0)


async def test_a_reconnecting_client_gets_what_it_missed():
    """The proof in its reply suffices, and each later reply renews it."""
    with override_bindings(NUMBERS):
        since = await leave_secret()
        assert await values_of_replay(since) == [SECRET, SECRET]
        async with Client() as client:
            reply = await subscribe(client, since=since)
        # The connection ended during the replay: what was not received is sent with the newer proof.
        assert await values_of_replay({**since_of(reply), "offset": since["offset"]}) == [SECRET, SECRET]


CHOSEN: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "no proof": lambda since: {"epoch": since["epoch"], "offset": since["offset"]},
    "null": lambda since: {**since, "resume": None},
    "empty": lambda since: {**since, "resume": ""},
    "another offset in the proof": lambda since: {**since, "resume": "0." + since["resume"].partition(".")[2]},
    "no signature": lambda since: {**since, "resume": f"{since['offset']}."},
    "a long number": lambda since: {**since, "resume": "9" * 5000 + ".x"},
    "digits of another script": lambda since: {**since, "resume": "\u0661." + since["resume"].partition(".")[2]},
    "an offset before the proof": lambda since: {**since, "offset": since["offset"] - 1},
    "the beginning of the log": lambda since: {**since, "offset": 0},
    "another text": lambda since: {**since, "resume": since["resume"] + "x"},
}


@pytest.mark.parametrize("how", CHOSEN)
async def test_an_offset_that_the_client_chose_is_not_replayed(how):
    """The answer is the reply and a ``resync``."""
    with override_bindings(NUMBERS):
        await store("a", 1)
        since = await leave_secret()
        assert await values_of_replay(CHOSEN[how](since)) == ["unproven"]


@pytest.mark.parametrize("how", sorted(CHOSEN.keys() - {"the beginning of the log"}))
async def test_a_server_that_trusts_every_offset_is_detected(how, monkeypatch):
    """Control. The log may not reach back to its beginning, so that case is left out."""
    believe_everybody(monkeypatch)
    with override_bindings(NUMBERS):
        await store("a", 1)
        since = await leave_secret()
        assert SECRET in await values_of_replay(CHOSEN[how](since))


async def test_a_proof_is_valid_for_its_user_only():
    """Neither another user nor an anonymous client can use it."""
    ann, bob = await in_thread(make_user, VIEW), await in_thread(make_user, VIEW)
    with override_bindings(NUMBERS):
        since = await leave_secret(ann)
        assert await values_of_replay(since, bob) == ["unproven"]
        assert await values_of_replay(since) == ["unproven"]
        assert await values_of_replay(since, ann) == [SECRET, SECRET]


async def test_a_proof_is_valid_for_its_group_and_stream_only():
    """A client of one room cannot get the past events of another room."""
    other = {**NUMBERS, "stream": "others"}
    with override_bindings(NUMBERS, other):
        since = await leave_secret()
        assert await values_of_replay(since, name="b") == ["unproven"]
        async with Client() as client:
            await subscribe(client, stream="others", since=since)
            assert await next_payload(client) == UNPROVEN


async def test_a_new_user_is_not_sent_past_events():
    """The permission was granted after the row was deleted."""
    newcomer = await in_thread(make_user)
    with override_bindings(RESTRICTED):
        since = await leave_secret(await in_thread(make_user, VIEW))
        await in_thread(newcomer.user_permissions.add, await in_thread(find_permission, VIEW))
        assert await values_of_replay(since, newcomer) == ["unproven"]


async def lose_and_regain(user: Any) -> dict[str, Any]:
    """Let a user lose the permission, miss a secret, and regain it; return the ``since`` from before."""
    async with Client(user=user) as client:
        since = since_of(await subscribe(client))
    await in_thread(user.user_permissions.clear)
    row = await store("a", SECRET)
    await row.adelete()
    await in_thread(user.user_permissions.add, await in_thread(find_permission, VIEW))
    return since


async def test_events_during_a_lost_permission_are_not_replayed():
    """The proof is older than the loss."""
    ann = await in_thread(make_user, VIEW)
    with override_bindings(RESTRICTED):
        assert await values_of_replay(await lose_and_regain(ann), ann) == ["unproven"]


async def test_a_replay_across_a_loss_is_detected(monkeypatch):
    """Control: a replay across a loss."""
    monkeypatch.setattr("declbind.live.replays._may_interrupt_permission", lambda *args: False)
    ann = await in_thread(make_user, VIEW)
    with override_bindings(RESTRICTED):
        assert await values_of_replay(await lose_and_regain(ann), ann) == [SECRET, SECRET]


async def test_events_during_a_block_are_not_replayed():
    """The user was disconnected by an operator meanwhile; a disconnect of another user is no interruption."""
    ann, bob = await in_thread(make_user), await in_thread(make_user)
    with override_bindings(NUMBERS):
        since = await leave_secret(ann)
        await in_thread(kick, user=bob)
        assert await values_of_replay(since, ann) == [SECRET, SECRET]
        await in_thread(kick, user=ann)
        await (await get_hub()).settle()
        assert await values_of_replay(since, ann) == ["unproven"]


async def test_permission_changes_of_others_do_not_interrupt_a_replay():
    """Only changes that may have concerned the user matter."""
    ann, bob = await in_thread(make_user, VIEW), await in_thread(make_user, VIEW)
    with override_bindings(RESTRICTED):
        since = await leave_secret(ann)
        await in_thread(bob.user_permissions.clear)
        assert await values_of_replay(since, ann) == [SECRET, SECRET]


async def test_events_while_a_binding_was_closed_are_not_replayed():
    """The permission of the record was changed and changed back."""
    record = await BindingRecord.objects.acreate(**{**NUMBERS, "permissions": {"view": True}})
    async with Client() as client:
        since = since_of(await subscribe(client))
    await in_thread(move_view, record, False)
    row = await IntegerValue.objects.acreate(name="a", value=SECRET)
    await row.adelete()
    await in_thread(move_view, record, True)
    await (await get_hub()).settle()
    assert (await values_of_replay(since))[0] == "unproven"


def move_view(record: BindingRecord, rule: bool) -> None:
    record.permissions = {"view": rule}
    record.save()


@override_settings(SECRET_KEY="new" * 20, SECRET_KEY_FALLBACKS=["old" * 20])
async def test_a_proof_survives_a_new_secret_key():
    """This holds as long as the old key is among the fallbacks."""
    holder = Holder("epoch", "1", "numbers", "name-a")
    with override_settings(SECRET_KEY="old" * 20, SECRET_KEY_FALLBACKS=[]):
        proof = holder.issue(7)
    assert holder.read(proof) == 7
    with override_settings(SECRET_KEY_FALLBACKS=[]):
        assert holder.read(proof) is None
