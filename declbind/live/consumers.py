"""Speak ASGI."""

from channels.consumer import AsyncConsumer


class BindingConsumer(AsyncConsumer):
    """Serve every enabled binding of the registry."""


class WebsocketDemultiplexer(BindingConsumer):
    """Serve the bindings that ``consumers`` names."""

    consumers: dict = {}
