"""Live data binding for Django: model changes to browsers, client messages to models, as configuration.

The public names are loaded on first use. Most of them need Django's app registry, which does not exist yet while
Django imports the packages of ``INSTALLED_APPS``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bindings import Binding, WebsocketBinding
    from .inbound.revocation import recheck
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
    "recheck",
    "touch",
]

_HOMES = {
    "Binding": "bindings",
    "BindingConsumer": "live.consumers",
    "WebsocketBinding": "bindings",
    "WebsocketDemultiplexer": "live.consumers",
    "get_registry": "registry",
    "recheck": "inbound.revocation",
    "touch": "outbound.capture",
}


# Type checkers must not see this function: to them, it would make every name of the module an existing one.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'declbind' has no attribute {name!r}")
        try:
            return getattr(import_module(f".{_HOMES[name]}", __name__), name)
        except Exception as error:
            _explain_early_import(name, error)
            raise


def _explain_early_import(name: str, error: Exception) -> None:
    """Raise the error again with advice on how to fix it, if it says that Django is not set up yet."""
    from django.apps import apps
    from django.core.exceptions import AppRegistryNotReady, ImproperlyConfigured

    if isinstance(error, AppRegistryNotReady | ImproperlyConfigured) and not apps.models_ready:
        raise type(error)(
            f"declbind.{name} was imported before Django was set up: {error} Import it after django.setup(): in "
            f"asgi.py, below the call of get_asgi_application(). Bindings belong in an app's bindings.py, which "
            f"declbind imports by itself. Only declbind.routing can be imported earlier."
        ) from error
