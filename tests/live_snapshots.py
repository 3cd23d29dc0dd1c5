"""Shared steps of the tests of snapshots: rows that are stored, pages that are read."""

from __future__ import annotations

from declbind.testing import Client
from example_site.example.models import IntegerValue
from tests.json_types import JSONObject


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
