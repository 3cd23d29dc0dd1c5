"""The bindings of one configuration, immutable: a change makes a new registry, which replaces the old one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

from .errors import Problem
from .sentences import Sentence as _


class BoundBinding(Protocol):
    """The part of a binding that the registry needs."""

    stream: Any
    enabled: Any

    def concrete_label(self) -> str:
        """Return the lower-case label of the concrete model behind the bound one."""
        ...

    def fingerprint(self) -> str:
        """Return a text that differs if the binding has another meaning."""
        ...


B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Entry(Generic[B]):
    """One binding that a source offers, or the problems that exclude it. ``where`` is for people: a path, a class.

    ``model`` is the model's label as the record gives it, which may not exist; "" if it cannot be read.
    """

    stream: str
    where: str
    source: str
    binding: B | None = None
    problems: tuple[Problem, ...] = ()
    model: str = ""


@dataclass(frozen=True, eq=False)
class Registry(Generic[B]):
    """The bindings in force under one configuration version.

    ``entries`` holds everything that the sources offered, in their order, including invalid and disabled bindings.
    ``by_stream`` holds only bindings in force. ``by_model`` maps the label of the concrete model to its bindings.
    Thread-safe, because nothing changes.
    """

    entries: tuple[Entry[B], ...] = ()
    generation: str = ""
    version: int = 0
    by_stream: Mapping[str, B] = field(init=False)
    by_model: Mapping[str, tuple[B, ...]] = field(init=False)

    def __post_init__(self) -> None:
        entries = tuple(_refuse_repeats(self.entries))
        object.__setattr__(self, "entries", entries)
        by_stream: dict[str, B] = {}
        by_model: dict[str, list[B]] = {}
        for entry in entries:
            binding: Any = entry.binding
            if binding is None or entry.problems or not binding.enabled:
                continue
            by_stream[entry.stream] = binding
            by_model.setdefault(binding.concrete_label(), []).append(binding)
        object.__setattr__(self, "by_stream", MappingProxyType(by_stream))
        object.__setattr__(
            self, "by_model", MappingProxyType({label: tuple(found) for label, found in by_model.items()})
        )

    @property
    def problems(self) -> tuple[tuple[Entry[B], Problem], ...]:
        """Return every problem with its entry."""
        return tuple((entry, problem) for entry in self.entries for problem in entry.problems)

    @cached_property
    def digest(self) -> str:
        """Return 16 hexadecimal digits, equal in two processes exactly if they run the same bindings."""
        lines = sorted(f"{stream}={binding.fingerprint()}" for stream, binding in self.by_stream.items())  # type: ignore[attr-defined]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    def entry(self, stream: str) -> Entry[B] | None:
        """Return the first entry of a stream, in force or not."""
        return next((entry for entry in self.entries if entry.stream == stream), None)

    def may_replace(self, other: Registry[B]) -> bool:
        """Return whether this registry may replace ``other``: it has another epoch, or a version that is not older."""
        return self.generation != other.generation or self.version >= other.version


def _refuse_repeats(entries: Sequence[Entry[B]]) -> Iterable[Entry[B]]:
    """Give each entry back, one whose stream is defined twice with a problem that names the other place."""
    positions: dict[str, list[int]] = {}
    for position, entry in enumerate(entries):
        positions.setdefault(entry.stream, []).append(position)
    for position, entry in enumerate(entries):
        others = [entries[other].where for other in positions[entry.stream] if other != position]
        # An entry whose stream could not be read has "", and problems of its own.
        if not entry.stream or not others:
            yield entry
            continue
        problem = Problem(
            "$.stream",
            _(
                "Binding %(stream)r is defined twice: in %(place)s and in %(others)s. Neither is in force; rename or "
                "remove one.",
                stream=entry.stream,
                place=entry.where,
                others=", ".join(others),
            ),
        )
        yield replace(entry, problems=(*entry.problems, problem))
