"""Show every binding that the sources offer: in force, disabled or invalid, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from declbind import judgement
from declbind.bindings import DJANGO_ACTIONS, Binding
from declbind.core.errors import ConfigError, Problem
from declbind.core.registry import Entry
from declbind.core.spec import ACTIONS, KEYS
from declbind.core.wording import suggest
from declbind.models import BindingRecord
from declbind.registry import load_configuration
from declbind.sources import SourceItem


@dataclass(frozen=True)
class BindingState:
    """One binding as a source offers it; ``state`` is "on", "off" (disabled) or "invalid" (left out).

    ``record`` is what the source says; of a class, the record that it amounts to. ``None`` where nothing can be read.
    """

    stream: str
    where: str
    source: str
    state: str
    record: Mapping[str, Any] | None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    binding: type[Binding] | None = field(default=None, compare=False)

    @property
    def model(self) -> str:
        """The bound model as the record writes it, or "?"."""
        return str((self.record or {}).get("model", "?"))

    def as_json(self) -> dict[str, Any]:
        """Return what a machine reads."""
        return {
            "stream": self.stream,
            "model": self.model,
            "source": self.source,
            "where": self.where,
            "state": self.state,
            "problems": [problem_as_json(problem) for problem in self.problems],
            "warnings": [problem_as_json(problem) for problem in self.warnings],
        }


def problem_as_json(problem: Problem) -> dict[str, str]:
    """Return a problem as a JSON object."""
    return {"path": problem.path, "message": problem.message}


def load_states(using: str) -> list[BindingState]:
    """Return the state of every binding of every source, in the order of the sources. Reads them all now."""
    items, registry = load_configuration(using)
    return [_state(item, entry) for item, entry in zip(items, registry.entries, strict=True)]


def find_states(states: Sequence[BindingState], stream: str) -> list[BindingState]:
    """Return the bindings of a stream (more than one where sources quarrel); raises ``ConfigError`` for none."""
    found = [state for state in states if state.stream == stream]
    if not found:
        known = sorted({state.stream for state in states if state.stream})
        near = suggest(stream, known) or f" There are: {', '.join(known) or 'none'}."
        raise ConfigError([Problem("$.stream", f"No source defines a binding {stream!r}.{near}")])
    return found


def describe(state: BindingState) -> dict[str, Any]:
    """Return what there is to know about a binding: what it sends, what it takes, who may."""
    about: dict[str, Any] = state.as_json()
    about["record"] = order_record(state.record) if state.record is not None else None
    if state.binding is None:
        return about
    spec = state.binding.spec()
    about["sends"] = [bound.name for bound in state.binding.bound_fields()] if spec.outbound else []
    about["takes"] = [bound.name for bound in state.binding.writable_fields()] if spec.inbound else []
    own_groups = state.binding.overrides("group_names")
    about["groups"] = "by code" if own_groups else [template.text for template in spec.group_templates]
    about["permissions"] = describe_rules(state.binding)
    return about


def describe_rules(binding: type[Binding]) -> dict[str, str]:
    """Return, for each action, who may, in words."""
    if binding.overrides("rule"):
        return dict.fromkeys(ACTIONS, "by code")
    bound = binding()
    rules = {action: describe_rule(bound.rule(action)) for action in ACTIONS}
    if binding.overrides("has_view_permission"):
        rules["view"] = "by code"
    if binding.overrides("has_permission"):
        rules.update({action: "by code" for action in ACTIONS if action != "view"})
    return rules


def describe_rule(rule: str | bool) -> str:
    """Say who a rule lets."""
    if isinstance(rule, bool):
        return "anyone" if rule else "nobody"
    return f"who has {rule}"


def order_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with its keys in the order of the published table, those of its objects in a fixed one too.

    A database need not keep the order of an object's keys, and an export that is kept in Git must not change by it.
    """
    ordered = {key: record[key] for key in KEYS if key in record}
    for key in ("where", "scope"):
        if isinstance(ordered.get(key), Mapping):
            ordered[key] = dict(sorted(ordered[key].items()))
    rules = ordered.get("permissions")
    if isinstance(rules, Mapping):
        ordered["permissions"] = {action: rules[action] for action in DJANGO_ACTIONS if action in rules}
    return ordered


def load_export(streams: Sequence[str], using: str) -> list[dict[str, Any]]:
    """Return records that ``apply`` takes back as they are, by stream: the database's, or the named ones of any source.

    Raises ``ConfigError`` for a stream that no source defines, or more than one.
    """
    if not streams:
        records = BindingRecord.objects.using(using).order_by("stream")
        return [order_record(record.definition()) for record in records]
    states = load_states(using)
    exported = []
    for stream in sorted(set(streams)):
        found = find_states(states, stream)
        if len(found) > 1 or found[0].record is None:
            raise ConfigError(problem for state in found for problem in state.problems)
        exported.append(order_record(found[0].record))
    return exported


def _state(item: SourceItem, entry: Entry[type[Binding]]) -> BindingState:
    spec = item.spec
    state = "on" if spec is not None and spec.enabled else "off"
    record: Mapping[str, Any] | None = item.document
    if record is None and spec is not None:
        record = spec.to_dict()
    return BindingState(
        stream=entry.stream,
        where=entry.where,
        source=entry.source,
        state="invalid" if entry.problems else state,
        record=record,
        problems=entry.problems,
        warnings=tuple(judgement.warnings(spec)) if spec is not None and not item.problems else (),
        binding=None if entry.problems else entry.binding,
    )
