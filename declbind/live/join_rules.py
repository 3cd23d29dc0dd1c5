"""The rules for groups that a socket joins automatically."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from declbind.bindings import Binding
from declbind.registry import BindingRegistry


class RegistryHolder(Protocol):
    """The part of a hub that knows the bindings."""

    registry: BindingRegistry


@dataclass(frozen=True, slots=True)
class JoinRules:
    """The rules for the groups that a socket joins.

    Attributes:
        bindings: Returns the bindings that the socket's consumer serves, by stream.
        connection_groups: The groups that project code named when the socket was opened.
    """

    bindings: Callable[[RegistryHolder], Mapping[str, type[Binding]]]
    connection_groups: tuple[str, ...]
