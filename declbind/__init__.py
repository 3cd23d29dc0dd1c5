"""Live data binding for Django: model changes to browsers, client messages to models, as configuration.

The public names are loaded at first use, because most of them need Django's app registry, which is not there yet when
``INSTALLED_APPS`` is read.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bindings import Binding, WebsocketBinding
    from .live.consumers import BindingConsumer, WebsocketDemultiplexer
    from .outbound.capture import touch
    from .registry import get_registry

__version__ = "0.1.0"

__all__ = [
    "Binding",
    "BindingConsumer",
    "WebsocketBinding",
    "WebsocketDemultiplexer",
    "get_registry",
    "touch",
]

_HOMES = {
    "Binding": "bindings",
    "BindingConsumer": "live.consumers",
    "WebsocketBinding": "bindings",
    "WebsocketDemultiplexer": "live.consumers",
    "get_registry": "registry",
    "touch": "outbound.capture",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'declbind' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
