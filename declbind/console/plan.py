"""Plans: what a file of records would change in the database, and how the change is made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from django.core.exceptions import ValidationError
from django.db import IntegrityError, connections, transaction
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from declbind import record_validation
from declbind.core.errors import ConfigError, Problem
from declbind.core.wording import in_binding
from declbind.django_types import User
from declbind.models import BindingRecord, Configuration, editing
from declbind.registry import get_registry, trying
from declbind.sources import SourceItem
from declbind.sources.files import load_file

from .documents import Difference, differences
from .overview import order_record, problem_as_json

Action = Literal["add", "change", "remove", "keep"]
Definition = Mapping[str, object]
MEANWHILE = _("Another user edited the configuration at the same time. Nothing was stored; try again.")


@dataclass(frozen=True)
class PlannedChange:
    """The change of one stream. ``where`` is its place in the files, ``before`` and ``after`` are whole records."""

    action: Action
    stream: str
    where: str
    before: Definition | None
    after: Definition | None
    #: The fields that the stored record does not send until they are accepted.
    held: Sequence[str] = ()

    @property
    def differences(self) -> list[Difference]:
        """Return (key, old, new) for each key that differs, ``None`` for a missing one."""
        return differences(self.before, self.after)

    def as_json(self) -> dict[str, object]:
        """Return the change as JSON values."""
        return {
            "action": self.action,
            "stream": self.stream,
            "where": self.where,
            "differences": {key: {"old": old, "new": new} for key, old, new in self.differences},
        }


@dataclass(frozen=True)
class Fault:
    """One problem of one record of the files."""

    where: str
    stream: str
    problem: Problem

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}"


@dataclass(frozen=True)
class Plan:
    """The changes that ``apply`` would make. If there are ``faults``, it would make none.

    ``digest`` identifies the stored records, the records of the files and ``prune`` together. While the digest stays
    the same, ``apply`` makes exactly these changes.
    """

    changes: tuple[PlannedChange, ...]
    faults: tuple[Fault, ...]
    digest: str
    generation: str
    version: int

    @property
    def edits(self) -> tuple[PlannedChange, ...]:
        """Return the changes other than "keep"."""
        return tuple(change for change in self.changes if change.action != "keep")

    def count(self, action: Action) -> int:
        """Return the number of streams with this action."""
        return sum(change.action == action for change in self.changes)

    def as_json(self) -> dict[str, object]:
        """Return the plan as JSON values."""
        return {
            "ok": not self.faults,
            "plan": self.digest,
            "version": self.version,
            "changes": [change.as_json() for change in self.changes],
            "problems": [
                {"where": fault.where, "stream": fault.stream, **problem_as_json(fault.problem)}
                for fault in self.faults
            ],
        }


def make_plan(path: Path, using: str, prune: bool = False) -> Plan:
    """Compare the records at ``path`` (a file, or a folder's ``*.json``) with the database. Changes nothing.

    Raises:
        ConfigError: There is nothing to read at ``path``.
    """
    return plan_items(load_path(path), using, prune)


def plan_items(items: Sequence[SourceItem], using: str, prune: bool = False) -> Plan:
    """Compare records from a file or a text with the database. Changes nothing.

    All problems are in ``faults``; ``changes`` then holds the changes of the valid records. With ``prune``, stored
    records that the items do not name are to be removed.
    """
    faults = find_faults(items)
    records = BindingRecord.objects.using(using).order_by("stream")
    if connections[using].in_atomic_block:
        # The rows are locked at once and in a fixed order, so that two plans do not deadlock.
        records = records.select_for_update()
    found = list(records)
    stored = {record.stream: record.definition() for record in found}
    held = {record.stream: record.held() for record in found}
    wanted = {item.stream: item for item in items if item.stream is not None and item.document is not None}
    changes = [_compare(item, stored.get(stream), held.get(stream, ())) for stream, item in wanted.items()]
    if prune:
        changes += [
            PlannedChange("remove", stream, gettext("database record %(stream)r") % {"stream": stream}, before, None)
            for stream, before in stored.items()
            if stream not in wanted
        ]
    configuration = Configuration.objects.using(using).filter(pk=1).first()
    return Plan(
        changes=tuple(sorted(changes, key=lambda change: change.stream)),
        faults=tuple(faults),
        digest=_digest(stored, [_definition(item) for item in wanted.values()], prune),
        generation=configuration.generation if configuration else "",
        version=configuration.version if configuration else 0,
    )


def apply_path(
    path: Path, using: str, *, prune: bool = False, expected: str = "", author: User | None = None, note: str = ""
) -> Plan:
    """Make a plan and carry it out in one transaction.

    Returns:
        The plan, with the version that it made. A plan with faults is not carried out.

    Raises:
        ConfigError: The plan is not the ``expected`` one, or :func:`carry_out` raised it. Nothing is stored then.
    """
    items = load_path(path)
    with transaction.atomic(using=using):
        plan = plan_items(items, using, prune)
        if plan.faults:
            return plan
        if expected and expected != plan.digest:
            text = gettext(
                "Expected to carry out plan %(expected)s, but it would now be %(plan)s: since that plan was made, the "
                "records in the database, those in the files or --prune have changed. Review a new plan, then apply it."
            )
            raise ConfigError(text % {"expected": expected, "plan": plan.digest})
        return carry_out(plan, using, author=author, note=note)


def carry_out(plan: Plan, using: str, *, author: User | None = None, note: str = "") -> Plan:
    """Store the changes of a plan without faults, in the transaction in which the plan was made.

    Returns:
        The plan, with the version that it made.

    Raises:
        ConfigError: The configuration was edited concurrently. The caller must not catch it, so that nothing is
            stored.
    """
    try:
        # Keep the present registry in force; otherwise each edit would rebuild it for the writes of the next one.
        with transaction.atomic(using=using), trying(get_registry()):
            for change in plan.edits:
                with editing(author, note, change.where if change.after is not None else ""):
                    _store(change, using)
    except BindingRecord.DoesNotExist as error:
        raise ConfigError(str(MEANWHILE)) from error
    except IntegrityError as error:
        # Only a duplicate of a record that was missing when the plan was made shows a concurrent edit.
        if _were_added(plan, using):
            raise ConfigError(str(MEANWHILE)) from error
        raise
    return replace(plan, version=_check_alone(plan, using))


def load_path(path: Path) -> list[SourceItem]:
    """Read and validate the records of a file or of a folder's ``*.json``.

    Raises:
        ConfigError: There are none.
    """
    if path.is_dir():
        files = sorted(path.glob("*.json"))
        if not files:
            # With --prune, a mistyped folder would otherwise remove every record.
            raise ConfigError(gettext("Expected *.json files in the folder %(path)s, found none.") % {"path": path})
        return [item for file in files for item in load_file(file, str(file))]
    if not path.exists():
        raise ConfigError(gettext("Expected a file or a folder at %(path)s, found nothing.") % {"path": path})
    return load_file(path, str(path))


def find_faults(items: Sequence[SourceItem]) -> list[Fault]:
    """Return all problems of the records: invalid records, streams that are taken, and duplicate streams."""
    taken = record_validation.reserved_streams()
    places: dict[str, list[str]] = {}
    for item in items:
        if item.stream is not None:
            places.setdefault(item.stream, []).append(item.where)
    faults = []
    for item in items:
        stream = item.stream or ""
        found = list(item.problems)
        if stream in taken:
            text = gettext(
                "the stream is already defined by %(place)s. Choose another name, or remove that binding first."
            )
            found.append(Problem("$.stream", in_binding(stream, text % {"place": taken[stream]})))
        others = [place for place in places.get(stream, ()) if place != item.where]
        if others:
            text = gettext("Binding %(stream)r is defined again in %(places)s. Keep one.")
            found.append(Problem("$.stream", text % {"stream": stream, "places": ", ".join(others)}))
        faults += [Fault(item.where, stream, problem) for problem in found]
    return faults


def _definition(item: SourceItem) -> dict[str, object]:
    return BindingRecord().assign(dict(item.document or {})).definition()


def _compare(item: SourceItem, before: Definition | None, held: Sequence[str]) -> PlannedChange:
    after = _definition(item)
    action: Action = "add" if before is None else "change" if differences(before, after) else "keep"
    return PlannedChange(action, str(item.stream), item.where, before, after, held)


def _store(change: PlannedChange, using: str) -> None:
    records = BindingRecord.objects.using(using)
    if change.after is None:
        records.get(stream=change.stream).delete()
        return
    record = BindingRecord() if change.before is None else records.get(stream=change.stream)
    try:
        record.assign(dict(change.after)).save(using=using)
    except ValidationError as error:
        raise ConfigError([Problem("$", f"{change.where}: {text}") for text in error.messages]) from error


def _were_added(plan: Plan, using: str) -> bool:
    streams = [change.stream for change in plan.edits if change.before is None]
    return bool(BindingRecord.objects.using(using).filter(stream__in=streams).exists())


def _check_alone(plan: Plan, using: str) -> int:
    """Return the version, and check that all edits since the plan was made are the plan's own.

    The first edit locked the configuration's row, so no other edit can follow it.

    Raises:
        ConfigError: Another edit was made.
    """
    if not plan.edits:
        return plan.version
    now = Configuration.objects.using(using).get(pk=1)
    if now.version != plan.version + len(plan.edits) or (plan.generation and plan.generation != now.generation):
        raise ConfigError(str(MEANWHILE))
    return now.version


def _digest(stored: Mapping[str, Definition], wanted: Sequence[Definition], prune: bool) -> str:
    state = {
        "stored": [order_record(definition) for definition in stored.values()],
        "wanted": sorted((order_record(definition) for definition in wanted), key=lambda record: str(record["stream"])),
        "prune": prune,
    }
    return hashlib.sha256(json.dumps(state, sort_keys=True, default=str).encode()).hexdigest()[:12]
