"""Where bindings come from: JSON files, database rows and Python classes.

Each source has a module with one ``load_...`` function that returns :class:`SourceItem` values, one for each
record or class it found, the faulty ones too: to leave those out, to say so and to keep the others working is
the registry's part, as is the quarrel about a stream that two sources define. To add a source, write such a
function and let the registry call it. What a record means is not decided here but by
:mod:`declbind.judgement`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from declbind.core.errors import Problem
from declbind.core.spec import BindingSpec


@dataclass(frozen=True)
class SourceItem:
    """Be one binding as a source holds it, with what both judgements found.

    ``stream`` is None when not even that can be read. ``spec`` is None when the record breaks the schema; an
    item with a spec may have problems all the same. ``where`` says for people where to look:
    ``bindings/all.json[3]``.
    """

    stream: str | None
    spec: BindingSpec | None
    problems: tuple[Problem, ...]
    source: Literal["file", "database", "code"]
    where: str
    binding: type[Any] | None = None
    document: Mapping[str, Any] | None = None
    #: Of a database record, the fields that it may send besides those that it names; ``None`` where there is no limit.
    known: frozenset[str] | None = None

    @property
    def is_usable(self) -> bool:
        """Whether a binding can be built from it."""
        return self.spec is not None and not self.problems
