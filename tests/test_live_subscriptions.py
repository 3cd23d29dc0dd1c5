"""Subscriptions: the two forms of a frame, groups and params, scope, and the end of a subscription."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from declbind import WebsocketBinding, WebsocketDemultiplexer
from declbind.testing import Client, override_bindings
from example_site.example.models import IntegerValue
from tests.factories import make_user
from tests.live import ANYONE, BOARD, NUMBERS, code_of, in_thread, next_payload, store, subscribe
from tests.live_snapshots import read_snapshot, store_all, values_of
from tests.zoo.models import Animal

pytestmark = pytest.mark.django_db(transaction=True)
ANIMALS = {
    "stream": "animals",
    "model": "zoo.Animal",
    "fields": ["name", "legs"],
    "groups": ["owner-{owner_id}", "kind-{kind}-{owner_id}"],
    "scope": {"owner_id": "$user.pk"},
    "permissions": ANYONE,
}

# Forms ----------------------------------------------------------------------------------------------------------------


async def test_a_plain_frame_has_exactly_four_payload_keys():
    """A client that the server subscribed gets exactly the envelope of Channels 1.x."""
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
    """Each frame of an explicit subscription has its group and its offset."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            reply = await subscribe(client)
            await store()
            frame = await client.receive()
            assert frame.keys() == {"stream", "payload", "group", "offset"}
            assert frame["group"] == reply["group"] == "name-a"
            assert frame["offset"] > reply["offset"]
            assert frame["payload"].keys() == {"action", "pk", "data", "model"}


async def test_an_explicit_subscription_replaces_an_automatic_one():
    """A connection in a group since connect then gets tagged frames, once."""
    with override_bindings(BOARD):
        async with Client() as client:
            await client.request("board", "subscribe")
            await store()
            assert (await client.receive())["group"] == "board"
            assert await client.is_silent()


async def test_auto_subscribe_joins_no_group_with_placeholders():
    """The values of placeholders are not known at connect."""
    record = {**BOARD, "groups": ["everything", "name-{name}"]}
    with override_bindings(record):
        async with Client() as client:
            await store()
            await client.receive()
            assert await client.is_silent()


async def test_auto_subscribe_needs_the_permission_to_view():
    """The permission is the same as for an explicit subscription."""
    viewer = await in_thread(make_user, "example.view_integervalue")
    with override_bindings({**BOARD, "permissions": {}}):
        async with Client() as stranger, Client(user=viewer) as client:
            await store()
            assert (await next_payload(client))["action"] == "create"
            assert await stranger.is_silent()


async def test_a_group_of_the_same_name_of_another_stream_is_separate():
    """A subscription is to a group of a stream."""
    other = {**NUMBERS, "stream": "others", "permissions": {"view": False}}
    with override_bindings(NUMBERS, other):
        async with Client() as client:
            await subscribe(client)
            await store()
            assert (await client.receive())["stream"] == "numbers"
            assert await client.is_silent()


class Lane(WebsocketBinding):
    """A binding whose rows move between groups by their value."""

    stream = "lane"
    model = IntegerValue
    fields = ("name", "value")
    permissions = ANYONE

    @classmethod
    def group_names(cls, instance: Any) -> list[str]:
        return ["low", "less"] if instance.value < 10 else ["middle", "mean"] if instance.value < 20 else ["high"]


class LaneDemultiplexer(WebsocketDemultiplexer):
    consumers = {"lane": Lane.consumer}

    def connection_groups(self, **kwargs: object) -> list[str]:
        return ["low", "less", "middle", "mean"]


async def test_a_plain_client_in_several_groups_gets_each_action_once_delete_first():
    """A move between groups is one delete and one create, and an update of two common groups is one frame."""
    with override_bindings(Lane):
        async with Client(LaneDemultiplexer.as_asgi()) as client:
            row = await store("a", 1)
            assert (await next_payload(client))["action"] == "create"
            row.value = 2
            await row.asave()
            assert (await next_payload(client))["action"] == "update"
            row.value = 12
            await row.asave()
            assert [await next_payload(client) for _ in range(2)] == [
                {"action": "delete", "pk": row.pk, "data": {}, "model": "example.integervalue"},
                {
                    "action": "create",
                    "pk": row.pk,
                    "data": {"name": "a", "value": 12},
                    "model": "example.integervalue",
                },
            ]
            assert await client.is_silent()


# Params ---------------------------------------------------------------------------------------------------------------


async def test_params_choose_the_group_and_the_rows_of_the_snapshot():
    """One template determines the group of a row and the rows of a subscriber's snapshot."""
    await store_all(1, 2)
    await store_all(3, name="b")
    with override_bindings(NUMBERS):
        async with Client() as client:
            assert (await subscribe(client, snapshot=True))["group"] == "name-a"
            assert values_of(await read_snapshot(client)) == [1, 2]
            await store("b", 4)
            await store("a", 5)
            assert (await next_payload(client))["data"]["value"] == 5


@pytest.mark.parametrize("params", [{}, {"value": 1}, {"name": "a", "value": 1}, {"name": None}, {"name": ["a"]}])
async def test_params_without_a_template_are_invalid(params):
    """The answer is an error, not an empty group."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            assert code_of(await client.request("numbers", "subscribe", params=params)) == "invalid"


async def test_texts_of_one_value_are_one_group():
    """A client that sends "03" and one that sends 3 get the same frames."""
    with override_bindings({**NUMBERS, "groups": ["value-{value}"]}):
        async with Client() as client:
            groups = [
                (await client.request("numbers", "subscribe", params={"value": value}))["group"]
                for value in (3, "3", "03")
            ]
            assert groups == ["value-3"] * 3


async def test_the_permission_to_view_is_checked_with_the_values_of_the_fields():
    """A rule that forbids number 3 cannot be bypassed with "03"."""

    class Guarded(WebsocketBinding):
        stream = "guarded"
        model = IntegerValue
        fields = ("name",)
        groups = ("value-{value}",)

        def has_view_permission(self, user: object, params: Any) -> bool:
            return bool(params["value"] != 3)

    with override_bindings(Guarded):
        async with Client() as client:
            for value in (3, "3", "03", " 3"):
                assert code_of(await client.request("guarded", "subscribe", params={"value": value})) == "denied"
            assert (await client.request("guarded", "subscribe", params={"value": 4}))["ok"]


async def test_where_limits_the_snapshot_and_the_frames():
    """Rows outside ``where`` do not exist: they are not in the snapshot, and a row that leaves is a delete."""
    await store_all(1, 99)
    with override_bindings({**NUMBERS, "where": {"value": [1, 2]}}):
        async with Client() as client:
            await subscribe(client, snapshot=True)
            assert values_of(await read_snapshot(client)) == [1]
            row = await IntegerValue.objects.aget(value=1)
            row.value = 98
            await row.asave()
            payload = await next_payload(client)
            assert (payload["action"], payload["data"]) == ("delete", {})


async def test_subscribing_needs_the_permission_to_view():
    """The codename decides, as it is in the database at the time of the request."""
    user = await in_thread(make_user)
    with override_bindings({**NUMBERS, "permissions": {}}):
        async with Client(user=user) as client:
            assert code_of(await client.request("numbers", "subscribe", params={"name": "a"})) == "denied"
            permission = await in_thread(lambda: user.user_permissions.model.objects.get(codename="view_integervalue"))
            await in_thread(user.user_permissions.add, permission)
            assert (await client.request("numbers", "subscribe", params={"name": "a"}))["ok"]


async def test_an_inbound_stream_cannot_be_subscribed_to():
    """Its outbound direction is closed."""
    with override_bindings({**NUMBERS, "direction": "inbound"}):
        async with Client() as client:
            reply = await client.request("numbers", "subscribe", params={"name": "a"})
            assert code_of(reply) == "closed_direction"


async def test_a_disabled_stream_is_unknown():
    """A request does not disclose that a disabled stream exists."""
    with override_bindings({**NUMBERS, "enabled": False}):
        async with Client() as client:
            assert code_of(await client.request("numbers", "subscribe")) == "unknown_stream"
            assert code_of(await client.request("nothing", "subscribe")) == "unknown_stream"


# Scope ----------------------------------------------------------------------------------------------------------------


def make_two_owners() -> tuple[User, User]:
    ann, bob = make_user(), make_user()
    for owner, name in ((ann, "cat"), (bob, "dog")):
        Animal.objects.create(name=name, owner=owner)
    return ann, bob


async def test_the_server_fills_in_the_scope():
    """A user who sends no owner subscribes to their own rows, and so does one who sends their own key."""
    with override_bindings(ANIMALS):
        ann, bob = await in_thread(make_two_owners)
        async with Client(user=ann) as client:
            first = await client.request("animals", "subscribe", snapshot=True)
            assert first["group"] == f"owner-{ann.pk}"
            pages = await read_snapshot(client)
            assert [row["data"]["name"] for page in pages for row in page["payload"]["objects"]] == ["cat"]
            second = await client.request("animals", "subscribe", params={"owner_id": ann.pk})
            assert second["group"] == first["group"]
            third = await client.request("animals", "subscribe", params={"kind": "fish"})
            assert third["group"] == f"kind-fish-{ann.pk}"
            await Animal.objects.acreate(name="mouse", owner=bob)
            assert await client.is_silent()


async def test_the_scope_of_another_user_is_refused():
    """It makes no difference whether that user exists."""
    with override_bindings(ANIMALS):
        ann, bob = await in_thread(make_two_owners)
        async with Client(user=ann) as client:
            for owner in (bob.pk, str(bob.pk), 10**6):
                reply = await client.request("animals", "subscribe", params={"owner_id": owner})
                assert code_of(reply) == "denied"


async def test_an_anonymous_client_owns_nothing():
    """Rows with a null owner do not belong to anonymous clients."""
    with override_bindings(ANIMALS):
        await Animal.objects.acreate(name="stray", owner=None)
        async with Client() as client:
            assert code_of(await client.request("animals", "subscribe", snapshot=True)) == "denied"
            assert code_of(await client.request("animals", "subscribe", params={"owner_id": None})) == "denied"


# Unsubscribing, and the limit -----------------------------------------------------------------------------------------


async def test_unsubscribe_ends_the_frames():
    """No frame of the group follows the reply. Ending a missing subscription is no error."""
    with override_bindings(NUMBERS):
        async with Client() as client:
            await subscribe(client)
            for _ in range(2):
                reply = await client.request("numbers", "unsubscribe", params={"name": "a"})
                assert reply["ok"]
                assert reply["group"] == "name-a"
            await store()
            assert await client.is_silent()


async def test_too_many_subscriptions_are_refused(settings):
    """The limit counts different groups: subscribing again to one of them does not count, and ending one makes room."""
    settings.DECLBIND = {"MAX_SUBSCRIPTIONS": 2}
    with override_bindings(NUMBERS, BOARD):
        async with Client() as client:
            await subscribe(client, "a")
            await subscribe(client, "b")
            await subscribe(client, "b")
            reply = await client.request("numbers", "subscribe", params={"name": "c"})
            assert code_of(reply) == "too_many_subscriptions"
            await client.request("numbers", "unsubscribe", params={"name": "a"})
            await subscribe(client, "c")
