"""The way from saves to browsers, and from updates back, with `djangochannelsrestframework` as documented."""

from __future__ import annotations

from typing import Any

from djangochannelsrestframework.generics import GenericAsyncAPIConsumer
from djangochannelsrestframework.mixins import PatchModelMixin
from djangochannelsrestframework.observer import model_observer
from rest_framework import serializers

from .handwritten import content_of
from .models import Price


class PriceSerializer(serializers.ModelSerializer):
    """The serializer that checks and stores a client's input."""

    class Meta:
        model = Price
        fields = ["value", "number"]


class ObservingConsumer(PatchModelMixin, GenericAsyncAPIConsumer):
    """A consumer that observes all prices from before the connection is accepted."""

    queryset = Price.objects.all()
    serializer_class = PriceSerializer

    async def accept(self, **kwargs: object) -> None:
        await self.price_activity.subscribe()
        await super().accept(**kwargs)

    @model_observer(Price)
    async def price_activity(self, message: dict[str, object], **kwargs: object) -> None:
        await self.send_json(message)

    @price_activity.serializer
    def _price_content(self, instance: Price, action: Any, **kwargs: object) -> dict[str, object]:
        return content_of(instance, action.value)
