"""Batches: if a client negotiated them, several waiting frames are sent as one message, in the same order."""

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.db import transaction

from declbind.core.frames import BATCH_PROTOCOL
from declbind.core.hub import Joiner
from declbind.testing import Client, override_bindings

pytestmark = pytest.mark.django_db(transaction=True)

GROUPS = {"stream": "groups", "model": "auth.Group", "fields": ["name"], "permissions": {"view": True}}
NAMES = [f"group {number}" for number in range(30)]


@sync_to_async
def create_groups() -> None:
    with transaction.atomic():
        for name in NAMES:
            Group.objects.create(name=name)


async def hear_names(client: Client) -> list[str]:
    return [str((await client.receive())["payload"]["data"]["name"]) for _ in NAMES]


async def test_a_burst_is_sent_in_batches_to_clients_that_negotiated_them() -> None:
    """All frames arrive in order, in far fewer messages. A client without the subprotocol gets them singly."""
    with override_bindings(GROUPS):
        async with Client(subprotocols=["other", BATCH_PROTOCOL]) as joined, Client() as single:
            assert (joined.subprotocol, single.subprotocol) == (BATCH_PROTOCOL, None)
            for client in (joined, single):
                await client.request("groups", "subscribe")
                client.messages = 0
            await create_groups()
            assert await hear_names(joined) == NAMES
            assert await hear_names(single) == NAMES
            assert joined.messages < len(NAMES) / 5
            assert single.messages == len(NAMES)


async def test_a_single_frame_is_not_wrapped() -> None:
    """A frame that waits alone is sent as it is, even if batches were negotiated."""
    with override_bindings(GROUPS):
        async with Client(subprotocols=[BATCH_PROTOCOL]) as client:
            reply = await client.request("groups", "subscribe")
            assert reply["ok"]
            await client.send({"stream": "groups", "payload": {"action": "unsubscribe", "ref": "alone"}})
            message = await client._communicator.receive_output(10)
            assert message["text"].startswith("{")


def test_the_same_backlog_is_joined_once() -> None:
    """Connections that wait for the same frames share one text."""
    joiner = Joiner()
    texts = tuple(f'{{"n":{number}}}' for number in range(3))
    assert joiner.join(texts) is joiner.join(tuple(texts))
    assert joiner.join(texts) == '[{"n":0},{"n":1},{"n":2}]'
    assert joiner.join(texts[:1]) is texts[0]
