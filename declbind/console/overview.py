"""Every binding of every source, whether it is in force, disabled or invalid, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Exists, Max, OuterRef, Q, QuerySet
from django.utils.translation import gettext

from declbind import record_warnings
from declbind.bindings import DJANGO_ACTIONS, Binding
from declbind.core.errors import ConfigError, Problem
from declbind.core.registry import Entry
from declbind.core.spec import ACTIONS, KEYS
from declbind.core.wording import AUDIENCE_WORDS, in_binding, suggest
from declbind.models import BindingRecord, BindingRevision
from declbind.registry import load_configuration
from declbind.sources import SourceItem

from . import unseen
from .documents import Difference, differences
from .withheld import load_withheld


@dataclass(frozen=True)
class Drift:
    """The difference between a database record and the file from which it was last stored.

    ``source`` is the record's place in that file. ``version`` is the configuration version made by storing it.
    ``differences`` are tuples (key, the file's value, the present value).
    """

    source: str
    version: int
    differences: tuple[Difference, ...]

    @property
    def text(self) -> str:
        """Return a short description."""
        return gettext("differs from %(source)s") % {"source": self.source}

    def as_problem(self, stream: str) -> Problem:
        """Return the warning for a check."""
        text = gettext(
            "differs from %(source)s in %(keys)s; it was stored from there at version %(version)s. Apply that file "
            "again, or export the record into it."
        )
        keys = ", ".join(repr(key) for key, _, _ in self.differences)
        words = {"source": self.source, "keys": keys, "version": self.version}
        return Problem("$", in_binding(stream, text % words))

    def as_json(self) -> dict[str, object]:
        """Return the drift as JSON values."""
        return {
            "source": self.source,
            "version": self.version,
            "differences": {key: {"file": old, "now": new} for key, old, new in self.differences},
        }


@dataclass(frozen=True)
class BindingState:
    """One binding of one source; ``state`` is "on", "off" (disabled) or "invalid" (left out).

    ``record`` is the source's record, for a class the equivalent record, or ``None`` if it cannot be read.
    """

    stream: str
    where: str
    source: str
    state: str
    record: Mapping[str, object] | None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    binding: type[Binding] | None = field(default=None, compare=False)
    drift: Drift | None = None
    #: Kinds of write that the binding should capture and does not.
    faults: tuple[unseen.Gap, ...] = ()

    @property
    def model(self) -> str:
        """Return the bound model as the record writes it, or "?"."""
        return str((self.record or {}).get("model", "?"))

    @property
    def waiting(self) -> list[str]:
        """The fields that were added to the model later and have not been accepted."""
        return self.binding.held_names() if self.binding is not None else []

    def as_json(self) -> dict[str, object]:
        """Return the state as JSON values."""
        return {
            "stream": self.stream,
            "model": self.model,
            "source": self.source,
            "where": self.where,
            "state": self.state,
            "problems": [problem_as_json(problem) for problem in self.problems],
            "warnings": [problem_as_json(problem) for problem in self.warnings],
            "drift": self.drift.as_json() if self.drift else None,
            "misses": [gap.as_json() for gap in self.faults],
            "waiting": self.waiting,
        }


def problem_as_json(problem: Problem) -> dict[str, str]:
    """Return a problem as a JSON object."""
    return {"path": problem.path, "message": problem.message}


def load_states(using: str) -> list[BindingState]:
    """Return the state of every binding, in the order of the sources. Reads all sources now."""
    items, registry = load_configuration(using)
    stored = {
        item.stream: item.document
        for item in items
        if item.source == "database" and item.stream is not None and item.document is not None
    }
    drifts = load_drift(using, stored) if stored else {}
    faults, held_back = unseen.load_faults(using), load_withheld(using)
    return [_state(item, entry, drifts, faults, held_back) for item, entry in zip(items, registry.entries, strict=True)]


def load_drift(using: str, stored: Mapping[str, Mapping[str, object]] | None = None) -> dict[str, Drift]:
    """Return, by stream, the drift of database records that were edited since they were stored from a file.

    Takes one or two queries. ``stored`` are the records to check, by stream, as returned by ``definition()``; ``None``
    loads all of them. A record that was removed and recreated by hand no longer belongs to the file.
    """
    if stored is None:
        stored = {record.stream: record.definition() for record in BindingRecord.objects.using(using)}
    return _find_drift(_revisions(using).filter(pk__in=_last_of(stored, using, from_files=True)), stored)


def load_latest(
    using: str, stored: Mapping[str, Mapping[str, object]]
) -> tuple[dict[str, BindingRevision], dict[str, Drift]]:
    """Return the last revision of each record, by stream, and the result of ``load_drift``. Takes one query."""
    wanted = Q(pk__in=_last_of(stored, using)) | Q(pk__in=_last_of(stored, using, from_files=True))
    found = list(_revisions(using).filter(wanted).order_by("pk"))
    # The last revision of a stream overwrites the earlier ones.
    return {revision.stream: revision for revision in found}, _find_drift(found, stored)


def _revisions(using: str) -> QuerySet[BindingRevision]:
    """Return the revisions, annotated with whether the record was removed after them."""
    revisions = BindingRevision.objects.using(using)
    removal = revisions.filter(stream=OuterRef("stream"), pk__gt=OuterRef("pk"), definition__isnull=True)
    return revisions.annotate(is_over=Exists(removal))


def _last_of(streams: Iterable[str], using: str, *, from_files: bool = False) -> QuerySet[BindingRevision, Any]:
    """Return a query for the key of each stream's last revision, or of the last one that a file made."""
    revisions = BindingRevision.objects.using(using).filter(stream__in=list(streams))
    if from_files:
        revisions = revisions.exclude(source="")
    return revisions.order_by().values("stream").annotate(last=Max("pk")).values("last")


def _find_drift(revisions: Iterable[Any], stored: Mapping[str, Mapping[str, object]]) -> dict[str, Drift]:
    found = {}
    for revision in revisions:
        if not revision.source or revision.is_over or revision.definition is None:
            continue
        changed = differences(revision.definition, stored[revision.stream])
        if changed:
            found[revision.stream] = Drift(revision.source, revision.version, tuple(changed))
    return found


def find_states(states: Sequence[BindingState], stream: str) -> list[BindingState]:
    """Return the bindings of a stream, more than one if sources conflict.

    Raises:
        ConfigError: No source defines the stream.
    """
    found = [state for state in states if state.stream == stream]
    if not found:
        known = sorted({state.stream for state in states if state.stream})
        near = suggest(stream, known) or gettext(" There are: %(streams)s.") % {
            "streams": ", ".join(known) or gettext("none")
        }
        text = gettext("No source defines a binding %(stream)r.") % {"stream": stream}
        raise ConfigError([Problem("$.stream", f"{text}{near}")])
    return found


def describe(state: BindingState, using: str) -> dict[str, Any]:
    """Return a description of a binding: what it sends, what it accepts, its rules, what it does not capture."""
    about: dict[str, object] = state.as_json()
    about["record"] = order_record(state.record) if state.record is not None else None
    if state.binding is None:
        return about
    spec = state.binding.spec()
    about["sends"] = [bound.name for bound in state.binding.bound_fields()] if spec.outbound else []
    about["takes"] = [bound.name for bound in state.binding.writable_fields()] if spec.inbound else []
    own_groups = state.binding.overrides("group_names")
    about["groups"] = gettext("by code") if own_groups else [template.text for template in spec.group_templates]
    about["permissions"] = describe_rules(state.binding)
    about["unseen"] = [gap.as_json() for gap in unseen.find_gaps(state.binding, using)]
    return about


def describe_rules(binding: type[Binding]) -> dict[str, str]:
    """Return, for each action, the users that its rule admits, in words."""
    by_code = gettext("by code")
    if binding.overrides("rule"):
        return dict.fromkeys(ACTIONS, by_code)
    bound = binding()
    rules = {action: describe_rule(bound.rule(action)) for action in ACTIONS}
    if binding.overrides("has_view_permission"):
        rules["view"] = by_code
    if binding.overrides("has_permission"):
        rules.update({action: by_code for action in ACTIONS if action != "view"})
    return rules


def describe_rule(rule: str | bool) -> str:
    """Return the users that a rule admits, in words."""
    return AUDIENCE_WORDS.get(rule) or gettext("who has %(permission)s") % {"permission": rule}


def order_record(record: Mapping[str, Any]) -> dict[str, object]:
    """Return a record with its keys, and those of its objects, in the documented order.

    A database need not keep the order of an object's keys, and an export that is kept in Git must not change because of
    it.
    """
    ordered = {key: record[key] for key in KEYS if key in record}
    for key in ("where", "scope"):
        if isinstance(ordered.get(key), Mapping):
            ordered[key] = dict(sorted(ordered[key].items()))
    rules = ordered.get("permissions")
    if isinstance(rules, Mapping):
        ordered["permissions"] = {action: rules[action] for action in DJANGO_ACTIONS if action in rules}
    return ordered


def _state(
    item: SourceItem,
    entry: Entry[type[Binding]],
    drifts: Mapping[str, Drift],
    faults: Mapping[str, Sequence[unseen.Gap]],
    held_back: Mapping[str, str],
) -> BindingState:
    spec = item.spec
    state = "on" if spec is not None and spec.enabled else "off"
    record: Mapping[str, object] | None = item.document
    if record is None and spec is not None:
        record = spec.to_dict()
    drift = drifts.get(entry.stream) if entry.source == "database" else None
    warnings = record_warnings.find_warnings(spec) if spec is not None and not item.problems else []
    if entry.binding is not None and not entry.problems:
        warnings += record_warnings.find_waiting_fields(entry.binding.spec())
    if drift is not None:
        warnings.append(drift.as_problem(entry.stream))
    if entry.stream in held_back and not entry.problems:
        warnings.append(Problem("$", in_binding(entry.stream, held_back[entry.stream])))
    missed = tuple(faults.get(entry.stream, ())) if not entry.problems else ()
    warnings += [gap.as_problem(entry.stream) for gap in missed]
    return BindingState(
        stream=entry.stream,
        where=entry.where,
        source=entry.source,
        state="invalid" if entry.problems else state,
        record=record,
        problems=entry.problems,
        warnings=tuple(warnings),
        binding=None if entry.problems else entry.binding,
        drift=drift,
        faults=missed,
    )
