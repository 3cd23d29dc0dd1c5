"""A hand-written binding of the board: writing only takes being logged in, which no permission codename expresses."""

from collections.abc import Mapping
from typing import Any

from declbind import WebsocketBinding, WebsocketDemultiplexer
from example_site.example.models import IntegerValue


class IntegerValueBinding(WebsocketBinding):
    """The numbers: everyone may read them, and logged-in users may change them."""

    model = IntegerValue
    stream = "intval"
    fields = ("name", "value")
    # The JavaScript client of Channels 1.x cannot subscribe to a group: it expects to be in one.
    auto_subscribe = True

    @classmethod
    def group_names(cls, instance: object) -> list[str]:
        return ["intval-updates"]

    def subscription_group(self, user: Any, params: Mapping[str, object]) -> str:
        return "intval-updates"

    def has_view_permission(self, user: Any, params: Mapping[str, object]) -> bool:
        return True

    def has_permission(self, user: Any, action: str, pk: object) -> bool:
        return bool(user.is_authenticated)


class Demultiplexer(WebsocketDemultiplexer):
    """A demultiplexer that serves this one stream at an address of its own."""

    consumers = {"intval": IntegerValueBinding.consumer}

    def connection_groups(self, **kwargs: object) -> list[str]:
        return ["intval-updates"]
