"""Fields that are added to a model later: the fields of definitions are stored, and widened on request.

In a file's or a class's definition, ``"__all__"`` and ``exclude`` mean the fields that the model had when the
definition was first in force. These are stored after ``migrate``, when an ASGI process starts, and by ``apply``
(:func:`store_missing`). A field that is added later waits until it is accepted (:func:`accept`). Records of the
database store their fields themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from django.db import DatabaseError, connections, transaction

from declbind import signals
from declbind.bindings import Binding
from declbind.configuration_version import has_table
from declbind.core.spec import ALL_FIELDS, BindingSpec
from declbind.fields import bound_fields, find_model, model_fields, writable_fields
from declbind.models import Baseline, BindingRecord, Configuration
from declbind.registry import database_alias, get_registry, static_specs
from declbind.sources.baselines import definition_digest, load_baselines

logger = logging.getLogger("declbind")

#: The number of stored definitions of one stream: those of a deployment in progress, and of its rollback.
KEPT_DEFINITIONS = 4


def store_missing(using: str) -> int:
    """Store the fields that the definitions in force may send, if they are not stored yet.

    Makes three queries if there is nothing to store. Before ``migrate`` it does nothing. Returns the number of
    definitions that were stored.
    """
    if using != database_alias() or not _is_migrated(using):
        return 0
    wanted = dict(_meanings(static_specs()))
    missing = wanted.keys() - load_baselines(using).keys()
    unknown = [
        record for record in BindingRecord.objects.using(using).filter(known__isnull=True) if _is_unknown(record)
    ]
    if not missing and not unknown:
        return 0
    with transaction.atomic(using=using):
        # Its row is locked: two processes that start at once run this one after the other.
        Configuration.bump(using)
        missing -= load_baselines(using).keys()
        Baseline.objects.using(using).bulk_create(
            [Baseline(stream=stream, definition=digest, names=wanted[stream, digest]) for stream, digest in missing],
            ignore_conflicts=True,
        )
        for stream in {stream for stream, _ in missing}:
            _forget_old(stream, using)
        for record in unknown:
            _store_known(record, _known_now(record), using)
    return len(missing) + len(unknown)


def follow_migration(using: str) -> None:
    """Drop removed fields, so that a later field of the same name counts as new; then store missing definitions.

    Called after ``migrate``, with the models as they are now.
    """
    if using != database_alias() or not _is_migrated(using):
        return
    try:
        with transaction.atomic(using=using):
            _forget_removed(using)
            store_missing(using)
    except DatabaseError as error:
        # The database was migrated to an intermediate state, in which a table lacks a column that the models have.
        logger.warning("The fields that definitions in files and classes may send could not be stored: %s", error)


def _forget_removed(using: str) -> None:
    present = {spec.stream: spec for spec in static_specs()}
    is_changed = False
    for row in Baseline.objects.using(using).select_for_update().filter(stream__in=present):
        spec = present[row.stream]
        if not spec.is_open or spec.grow:
            # A definition that is stored again later means the fields of that time.
            row.delete(using=using)
            continue
        kept = _still_there(spec.model, row.names)
        if kept != row.names and definition_digest(spec) == row.definition:
            row.names, is_changed = kept, True
            row.save(using=using)
    for record in BindingRecord.objects.using(using).filter(known__isnull=False):
        kept = _still_there(record.model, record.known)
        if kept != record.known:
            is_changed = True
            _store_known(record, kept, using)
    if is_changed:
        Configuration.bump(using)


def describe_held(binding: type[Binding]) -> list[str]:
    """Return the effects of accepting the waiting fields, in words; an empty list if no field is waiting."""
    spec, held = binding.spec(), binding.held_names()
    if not held:
        return []
    found = [f"also {'sends' if spec.outbound else 'binds'} {', '.join(held)}"]
    wider = replace(spec, known=None)
    known = {field.name for field in binding.writable_fields()}
    written = [field.name for field in writable_fields(binding.model_class(), wider) if field.name not in known]
    return found + ([f"also accepts {', '.join(written)}"] if spec.inbound and written else [])


def accept(binding: type[Binding], names: Collection[str], using: str) -> None:
    """Send waiting fields of a binding. A record of the database gets a revision.

    Raises:
        BindingRecord.DoesNotExist: The record was removed in the meantime.
    """
    entry = get_registry().entry(str(binding.stream))
    with transaction.atomic(using=using):
        if entry is not None and entry.source == "database":
            record = BindingRecord.objects.using(using).select_for_update().get(stream=binding.stream)
            record.accept(set(names).intersection(record.held())).save(using=using)
            return
        _accept_static(binding, names, using)


def _accept_static(binding: type[Binding], names: Collection[str], using: str) -> None:
    spec = binding.spec()
    version = Configuration.bump(using)
    sent = {field.name for field in binding.bound_fields()}
    row, _ = Baseline.objects.using(using).get_or_create(
        stream=spec.stream, definition=definition_digest(spec), defaults={"names": sorted(sent)}
    )
    before = list(row.names)
    row.names = sorted({*before, *set(names).intersection(binding.held_names())})
    row.save(using=using)
    document = spec.to_dict()
    changes = {spec.stream: ({**document, "known": before}, {**document, "known": row.names})}
    signals.configuration_edited.send(sender=Baseline, using=using, version=version, changes=changes)


def _is_migrated(using: str) -> bool:
    return all(has_table(connections[using], model._meta.db_table) for model in (Configuration, Baseline))


def _meanings(specs: Iterable[BindingSpec]) -> Iterator[tuple[tuple[str, str], list[str]]]:
    """Yield the fields that each definition sends now, if these are to be stored."""
    for spec in specs:
        model = find_model(spec.model)
        if spec.is_open and not spec.grow and model is not None:
            names = sorted(field.name for field in bound_fields(model, spec))
            yield (spec.stream, definition_digest(spec)), names


def _is_unknown(record: BindingRecord) -> bool:
    """Return whether a record lacks its stored fields, because it was written without Django.

    Most records name their fields.
    """
    is_open = record.exclude is not None or record.fields in (ALL_FIELDS, [ALL_FIELDS])
    return is_open and not record.grow and _known_now(record) is not None


def _known_now(record: BindingRecord) -> list[str] | None:
    """Return the fields that a record written without Django may send: the present ones."""
    found = dict(_meanings([spec])) if (spec := _spec_of(record)) is not None else {}
    return next(iter(found.values()), None)


def _spec_of(record: BindingRecord) -> BindingSpec | None:
    return None if record.problems() else record.to_spec()


def _still_there(label: str, names: list[str] | None) -> list[str] | None:
    """Return the names of fields that the model still has, or all names if it is not installed here."""
    model = find_model(label)
    if model is None or not isinstance(names, list):
        return names
    present = {field.name for field in model_fields(model)}
    return [name for name in names if name in present]


def _store_known(record: BindingRecord, names: list[str] | None, using: str) -> None:
    # Django's own query set, because this is no edit of the record.
    BindingRecord._base_manager.using(using).filter(pk=record.pk).update(known=names)


def _forget_old(stream: str, using: str) -> None:
    rows = Baseline.objects.using(using).filter(stream=stream).order_by("-stored_at", "-id")
    old = list(rows.values_list("pk", flat=True)[KEPT_DEFINITIONS:])
    if old:
        Baseline.objects.using(using).filter(pk__in=old).delete()
