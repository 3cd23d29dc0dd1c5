"""The types of the ASGI interface. A scope and a message hold values that depend on the server and on middleware."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeAlias, overload

if TYPE_CHECKING:
    from django.http import HttpRequest

Scope: TypeAlias = Mapping[str, Any]
Message: TypeAlias = Mapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

#: The scope of a socket that has been accepted.
NO_SCOPE: Scope = MappingProxyType({})


class RoutedApplication(Protocol):
    """An ASGI application that Channels' routers find in Django's ``path``, which is typed for views."""

    # The messages of other packages' types, such as those of asgiref, are narrower than ours.
    @overload
    def __call__(self, scope: Scope, receive: Receive, send: Callable[[Any], Awaitable[None]]) -> Awaitable[None]: ...

    @overload
    def __call__(self, request: HttpRequest) -> NoReturn: ...
