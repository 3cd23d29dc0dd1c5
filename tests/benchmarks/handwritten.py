"""The way from saves to browsers that Channels' documentation suggests.

Nothing here is made slow on purpose. The layer keeps its default capacity, with the one setting that it needs with
redis-py 8 (see `settings.py`).
"""

from __future__ import annotations

from asgiref.sync import async_to_sync
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.layers import get_channel_layer
from django.db import transaction
from django.db.models.signals import post_save

from .models import Price

GROUP = "price"


class PriceConsumer(AsyncJsonWebsocketConsumer):
    """A consumer that joins the one group at connect and forwards the group's messages."""

    groups = [GROUP]

    async def price_changed(self, event: dict[str, object]) -> None:
        await self.send_json(event["content"])


def content_of(instance: Price, action: str) -> dict[str, object]:
    """Return the content for a browser: the plain form of declbind's frame."""
    return {
        "stream": "price",
        "payload": {
            "action": action,
            "pk": instance.pk,
            "data": {"value": instance.value, "number": instance.number},
            "model": "benchmarks.price",
        },
    }


def announce(sender: object, instance: Price, created: bool, **kwargs: object) -> None:
    message = {"type": "price.changed", "content": content_of(instance, "create" if created else "update")}
    transaction.on_commit(lambda: async_to_sync(get_channel_layer().group_send)(GROUP, message))


def connect() -> None:
    post_save.connect(announce, sender=Price, dispatch_uid="benchmarks.handwritten")
