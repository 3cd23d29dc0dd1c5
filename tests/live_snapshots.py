"""Shared steps of the tests of snapshots: rows that are stored, pages that are read."""

from __future__ import annotations

from typing import Any

from declbind import WebsocketBinding
from declbind.testing import Client
from example_site.example.models import IntegerValue
from tests.json_types import JSONObject
from tests.live import ANYONE


async def store_all(*values: int, name: str = "a") -> None:
    await IntegerValue.objects.abulk_create(IntegerValue(name=name, value=value) for value in values)


async def read_snapshot(client: Client) -> list[JSONObject]:
    """Read pages up to the final one; return them."""
    pages: list[JSONObject] = []
    while not pages or not pages[-1]["payload"]["final"]:
        pages.append(await client.receive())
        assert pages[-1]["payload"]["action"] == "snapshot"
    return pages


def values_of(pages: list[JSONObject]) -> list[int]:
    return [row["data"]["value"] for page in pages for row in page["payload"]["objects"]]


def make_lane() -> type[WebsocketBinding]:
    """Return a binding whose rows move between groups by their value.

    It is made here, because a class of a module that is no test would be in force in all tests.
    """

    class Lane(WebsocketBinding):
        stream = "lane"
        model = IntegerValue
        fields = ("name", "value")
        permissions = ANYONE

        @classmethod
        def group_names(cls, instance: Any) -> list[str]:
            return ["low", "less"] if instance.value < 10 else ["middle", "mean"] if instance.value < 20 else ["high"]

    return Lane
