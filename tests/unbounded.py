"""The example site without any bound on the queue of a slow client, to measure what the bound prevents."""

from typing import Any

# First, because it sets Django up.
from example_site.asgi import application  # isort: skip

from declbind.core.hub import Limits
from declbind.live import consumers, socket

modules: Any = consumers, socket
modules[0].pace = lambda send: None
modules[1]._limits = lambda *given: Limits(bytes=10**12, frames=10**9, seconds=10**6)

__all__ = ["application"]
