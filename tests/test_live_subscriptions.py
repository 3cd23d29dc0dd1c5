"""Subscribing: the two forms of a frame, groups and params, snapshots, and the seam between a snapshot and live."""

from __future__ import annotations

import pytest

from declbind.testing import Client, override_bindings
from tests.live import BOARD, NUMBERS, next_payload, store, subscribe

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_plain_frame_has_exactly_four_payload_keys():
    """Who was subscribed by the server gets the envelope of Channels 1.x and nothing more."""
    with override_bindings(BOARD):
        async with Client() as client:
            row = await store("fifty", 51)
            assert await client.receive() == {
                "stream": "board",
                "payload": {
                    "action": "create",
                    "pk": row.pk,
                    "data": {"name": "fifty", "value": 51},
                    "model": "example.integervalue",
                },
            }
            await row.adelete()
            assert (await next_payload(client)).keys() == {"action", "pk", "data", "model"}


async def test_a_tagged_frame_names_its_group_and_offset():
    """Who asked for a group is told, with each frame, of which group and offset it is."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            reply = await subscribe(client)
            await store()
            frame = await client.receive()
            assert frame.keys() == {"stream", "payload", "group", "offset"}
            assert frame["group"] == reply["group"] == "name-a"
            assert frame["offset"] > reply["offset"]
            assert frame["payload"].keys() == {"action", "pk", "data", "model"}
