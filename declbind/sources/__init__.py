"""The sources of bindings: JSON files, database rows and Python classes.

Each source has a module with a ``load_...`` function. It returns one :class:`SourceItem` for each record or class,
including faulty ones. The registry leaves those out, reports them, and resolves conflicts over streams that two sources
define. To add a source, write such a function and call it in the registry. Records are validated by
:mod:`declbind.record_validation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from declbind.bindings import Binding
from declbind.core.errors import Problem
from declbind.core.spec import BindingSpec


@dataclass(frozen=True)
class SourceItem:
    """One binding of a source, with the problems that validation found.

    ``stream`` is ``None`` if it cannot be read. ``spec`` is ``None`` if the record breaks the schema. An item with a
    spec may have problems all the same. ``where`` is the place for people: ``bindings/all.json[3]``.
    """

    stream: str | None
    spec: BindingSpec | None
    problems: tuple[Problem, ...]
    source: Literal["file", "database", "code"]
    where: str
    binding: type[Binding] | None = None
    document: Mapping[str, object] | None = None
    #: The fields that a database record may send in addition to those it names; ``None`` if there is no limit.
    known: frozenset[str] | None = None

    @property
    def is_usable(self) -> bool:
        """Whether a binding can be built from it."""
        return self.spec is not None and not self.problems
