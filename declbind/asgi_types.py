"""The types of the ASGI interface. A scope and a message hold values that depend on the server and on middleware."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

Scope: TypeAlias = Mapping[str, Any]
Message: TypeAlias = Mapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

#: The scope of a socket that has been accepted.
NO_SCOPE: Scope = MappingProxyType({})
