"""What decides which groups a socket joins without asking."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from declbind.bindings import Binding
from declbind.registry import BindingRegistry


class RegistryHolder(Protocol):
    """A hub, for what it knows of bindings."""

    registry: BindingRegistry


@dataclass(frozen=True, slots=True)
class JoinRules:
    """What decides which groups a socket joins.

    Attributes:
        bindings: Returns the bindings that the socket's consumer serves, by stream.
        connection_groups: The groups that code of the project named when the socket was opened.
    """

    bindings: Callable[[RegistryHolder], Mapping[str, type[Binding]]]
    connection_groups: tuple[str, ...]
