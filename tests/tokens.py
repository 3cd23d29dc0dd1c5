"""The users, records and connections that tests of tokens share."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User

from declbind import tokens
from declbind.live.hub import get_hub
from declbind.testing import Client
from tests.factories import make_user
from tests.live import BOARD, NUMBERS, in_thread, next_payload

VIEW = "example.view_integervalue"
PRIVATE = {**NUMBERS, "permissions": {"view": VIEW, "create": VIEW, "update": VIEW, "delete": False}}
PRIVATE_BOARD = {**BOARD, "permissions": {"view": VIEW}}
HOST = (b"host", b"testserver")


async def viewer(*codenames: str) -> User:
    user: User = await in_thread(make_user, *(codenames or (VIEW,)))
    return user


async def issue(user: Any, **kwargs: Any) -> str:
    token: str = await in_thread(tokens.issue, user, **kwargs)
    return token


def by_protocol(*protocols: str, **kwargs: Any) -> Client:
    return Client(subprotocols=protocols, **kwargs)


async def close_code(client: Client) -> int:
    await client.connect()
    return await client.wait_closed()


async def load_rows(model: Any) -> list[Any]:
    """Return the rows of a table of the console, after the hub has written what is pending."""
    hub = await get_hub()
    await hub.thread.run(hub.traffic.write, hub.traffic.take(), hub.using)
    await hub.thread.run(
        hub.connection_log.write, hub.connection_log.rows(hub.connection_log.take(), hub.core.cursor), hub.using
    )
    rows: list[Any] = await in_thread(lambda: list(model.objects.all()))
    return rows


async def actions_to_the_close(client: Client) -> list[str]:
    found = []
    try:
        while True:
            found.append((await next_payload(client))["action"])
    except ConnectionError:
        return found
