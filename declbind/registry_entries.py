"""The entries of a registry: the binding class of each definition, or the problems that exclude it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from declbind import record_validation
from declbind.binding_classes import build_binding, limit_binding
from declbind.bindings import Binding
from declbind.core.errors import ConfigError, Problem
from declbind.core.registry import Entry, Registry
from declbind.core.spec import BindingSpec
from declbind.core.wording import in_binding
from declbind.fields import hold_back
from declbind.sources import SourceItem, code
from declbind.sources.baselines import Baselines, find_baseline

BindingEntry = Entry[type[Binding]]
BindingRegistry = Registry[type[Binding]]


def build_entries(items: Iterable[SourceItem], baselines: Baselines = MappingProxyType({})) -> Iterator[BindingEntry]:
    """Yield the entry of each item, with its binding class or the problems that exclude it."""
    for item in items:
        binding, problems = item.binding, tuple(item.problems)
        if not problems and item.spec is not None:
            try:
                known = item.known if item.source == "database" else find_baseline(baselines, item.spec)
                binding = limit_binding(binding, known) if binding else build_binding(replace(item.spec, known=known))
                binding.resolved()
            except Exception as error:  # A fault in one binding must not affect the others.
                said = error.problems[0].sentence if isinstance(error, ConfigError) else str(error)
                binding, problems = None, (Problem("$", in_binding(item.stream or "", said)),)
        model = item.spec.model if item.spec is not None else str((item.document or {}).get("model") or "")
        yield Entry(item.stream or "", item.where, item.source, binding, problems, model)


def validate_given(binding: type[Binding] | BindingSpec | Mapping[str, object]) -> SourceItem:
    """Return the item of a class, a spec or a record that code puts in force itself."""
    if isinstance(binding, type):
        code.note_given(binding)
        return code.validate_class(binding)
    document = binding.to_dict() if isinstance(binding, BindingSpec) else dict(binding)
    spec, problems = record_validation.validate_document(document)
    stream = spec.stream if spec else str(document.get("stream", ""))
    return SourceItem(stream=stream, spec=spec, problems=tuple(problems), source="code", where="override()")


def build_alternative(registry: BindingRegistry, stream: str, document: Mapping[str, object] | None) -> BindingRegistry:
    """Return a copy of a registry in which one stream has another definition. It is not put in force.

    The document is validated like a database row. If it has problems, its entry has them. It may rename the stream.

    Args:
        registry: The registry to start from.
        stream: The stream to replace.
        document: The new record, or ``None`` to leave the stream out.
    """
    names = {stream}
    made: list[BindingEntry] = []
    if document is not None:
        spec, problems = record_validation.validate_document(document)
        name = spec.stream if spec is not None else stream
        names.add(name)
        entry = registry.entry(stream)
        known = None
        if spec is not None and not problems and entry is not None and entry.binding is not None:
            # Fields that have not been accepted yet are not sent by another definition of the stream either.
            known = hold_back(entry.binding.model_class(), spec, entry.binding.held_names()).known
        where = "the record that is tried"
        item = SourceItem(name, spec, tuple(problems), "database", where, document=document, known=known)
        made = list(build_entries([item]))
    entries: list[BindingEntry] = []
    for entry in registry.entries:
        if entry.stream not in names:
            entries.append(entry)
        elif entry.stream == stream:
            # In the same place, because frames of a row are sent in the order of the entries.
            entries += made
            made = []
    return Registry((*entries, *made), registry.generation, registry.version)
