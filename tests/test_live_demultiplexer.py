"""Demultiplexers in project code: the streams that they serve, and the groups that their code grants."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured

from declbind import WebsocketBinding, WebsocketDemultiplexer
from declbind.testing import Client, override_bindings
from example_site.example.models import IntegerValue
from tests.live import ANYONE, BOARD, NUMBERS, code_of, next_payload, store

pytestmark = pytest.mark.django_db(transaction=True)


class Numbers(WebsocketBinding):
    """Rooms that only code can grant, because no user has the view permission."""

    stream = "rooms"
    model = IntegerValue
    fields = ("name", "value")
    groups = ("room-{name}",)
    permissions = {**ANYONE, "view": False}


class Rooms(WebsocketDemultiplexer):
    consumers = {"rooms": Numbers.consumer}

    def connection_groups(self, **kwargs: object) -> list[str]:
        return [f"room-{kwargs['room']}"] if "room" in kwargs else []


def test_a_key_that_is_not_the_bindings_stream_is_refused():
    """Clients send the key and receive the stream, so they must be equal."""
    with pytest.raises(ImproperlyConfigured) as error:
        type("Mixed", (WebsocketDemultiplexer,), {"consumers": {"room": Numbers.consumer}})
    assert str(error.value) == (
        "Mixed.consumers['room']: Numbers has the stream 'rooms'. The key must equal it: rename one of them."
    )


def test_a_class_that_is_no_binding_is_refused():
    """Channels 1.x accepted any consumer class here, but its frames would be lost."""
    with pytest.raises(ImproperlyConfigured) as error:
        type("Mixed", (WebsocketDemultiplexer,), {"consumers": {"rooms": object}})
    assert str(error.value) == "Mixed.consumers['rooms']: expected SomeBinding.consumer, got <class 'object'>."


async def test_the_arguments_of_the_url_choose_the_groups():
    """``connection_groups`` gets the arguments of the URL, and its groups need no view permission."""
    with override_bindings(Numbers):
        async with Client(Rooms.as_asgi(), url_kwargs={"room": "a"}) as client:
            await store("b", 1)
            await store("a", 2)
            assert (await next_payload(client))["data"]["value"] == 2
            assert await client.is_silent()


async def test_a_subscription_to_a_group_that_code_grants_needs_the_permission():
    """An explicit subscription to the same group requires the view permission."""
    with override_bindings(Numbers):
        async with Client(Rooms.as_asgi(), url_kwargs={"room": "a"}) as client:
            assert code_of(await client.request("rooms", "subscribe", params={"name": "b"})) == "denied"
            assert code_of(await client.request("rooms", "subscribe", params={"name": "a"})) == "denied"


async def test_other_streams_are_unknown_to_it():
    """A demultiplexer serves its own streams and no other, neither by request nor at connect."""
    with override_bindings(Numbers, NUMBERS, BOARD):
        async with Client(Rooms.as_asgi(), url_kwargs={"room": "a"}) as client:
            for stream in ("numbers", "board", "nothing"):
                assert code_of(await client.request(stream, "subscribe", params={"name": "a"})) == "unknown_stream"
                assert code_of(await client.request(stream, "delete", pk=1)) == "unknown_stream"
            await store("a", 1)
            assert (await client.receive())["stream"] == "rooms"
            assert await client.is_silent()


async def test_it_accepts_writes():
    """create, update and delete of its streams are carried out, with replies."""
    with override_bindings(Numbers):
        async with Client(Rooms.as_asgi()) as client:
            created = await client.request("rooms", "create", data={"name": "a", "value": 1})
            assert created["ok"]
            assert (await client.request("rooms", "update", pk=created["pk"], data={"value": 2}))["ok"]
            assert (await IntegerValue.objects.aget()).value == 2
            assert (await client.request("rooms", "delete", pk=created["pk"]))["ok"]
            assert not await IntegerValue.objects.aexists()


async def test_a_binding_that_is_not_in_force_is_unknown():
    """A class that the registry has left out is not served by a demultiplexer either."""
    with override_bindings(NUMBERS):
        async with Client(Rooms.as_asgi(), url_kwargs={"room": "a"}) as client:
            assert code_of(await client.request("rooms", "delete", pk=1)) == "unknown_stream"


async def test_a_faulty_binding_does_not_close_the_connection(caplog):
    """A binding whose view permission raises is not joined. The connection and the other streams work."""

    class Faulty(WebsocketBinding):
        stream = "faulty"
        model = IntegerValue
        fields = ("name",)
        auto_subscribe = True

        def has_view_permission(self, user: object, params: object) -> bool:
            raise ZeroDivisionError

    with override_bindings(Faulty, BOARD):
        async with Client() as client:
            await store("a", 1)
            assert (await client.receive())["stream"] == "board"
            assert await client.is_silent()
    assert "faulty" in caplog.text
