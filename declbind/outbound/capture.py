"""Capture model writes: turn each write of a bound row into events of the log, in the transaction of the write.

Captured here: ``save()`` in every form (fixtures too), ``delete()`` of instances and query sets with their cascades and
``SET_NULL``, and many-to-many changes. Both hooks sit at the ORM's own narrow places, ``Model._save_table`` and
``Collector.delete``: signals come too late for the first (a receiver that saves again would be heard before the write
that caused it) and would cost unbound models their fast deletes for the second.

What a binding's code does wrong is recorded and never reaches the writer.
"""

from __future__ import annotations

import datetime as dt
import decimal
import functools
import logging
import threading
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from django.db import connections, models, transaction
from django.db.models.deletion import Collector
from django.db.models.signals import m2m_changed

from declbind import signals
from declbind.bindings import Binding
from declbind.conf import settings
from declbind.core.groups import diff
from declbind.fields import concrete_field
from declbind.models import Event
from declbind.registry import BindingRegistry, get_registry
from declbind.serializers import encode_value

from . import log

logger = logging.getLogger("declbind")

#: Values of exactly these types are stored as they are by these fields; all else is read back after the write.
PLAIN_TYPES: Mapping[str, type] = {
    "AutoField": int,
    "BigAutoField": int,
    "SmallAutoField": int,
    "IntegerField": int,
    "BigIntegerField": int,
    "SmallIntegerField": int,
    "PositiveIntegerField": int,
    "PositiveBigIntegerField": int,
    "PositiveSmallIntegerField": int,
    "FloatField": float,
    "BooleanField": bool,
    "CharField": str,
    "TextField": str,
    "SlugField": str,
    "URLField": str,
    "EmailField": str,
    "DateField": dt.date,
    "UUIDField": uuid.UUID,
}


@dataclass(frozen=True)
class Plan:
    """What capture must know to tell of a write to one model: made once per registry and model."""

    model: type[models.Model]
    bindings: tuple[type[Binding], ...]
    #: Columns that decide the groups; ``None`` when a binding's code does, which may read any.
    group_fields: tuple[Any, ...] | None
    #: Columns of groups and data together.
    fields: tuple[Any, ...]
    m2m: tuple[Any, ...]

    @property
    def needs_old(self) -> bool:
        """Tell whether the stored row must be read before the write."""
        return self.group_fields is None or bool(self.group_fields)


_plans: WeakKeyDictionary[BindingRegistry, dict[type[models.Model], Plan | None]] = WeakKeyDictionary()


def plan_for(model: type[models.Model]) -> Plan | None:
    """Return the plan of a model, or ``None`` for one that nothing outbound is bound to."""
    registry = get_registry()
    plans = _plans.get(registry)
    if plans is None:
        plans = _plans[registry] = {}
    concrete = model._meta.concrete_model
    if concrete is None:
        return None
    if concrete not in plans:
        plan = plans[concrete] = _build_plan(registry, concrete)
        if plan is not None and plan.m2m:
            connect_m2m(registry)
    return plans[concrete]


def _build_plan(registry: BindingRegistry, model: type[models.Model]) -> Plan | None:
    # A class that only shares the label is not the bound model: migrations make such classes.
    bindings = tuple(
        binding
        for binding in registry.by_model.get(model._meta.label_lower, ())
        if binding.spec().outbound and binding.model_class()._meta.concrete_model is model
    )
    if not bindings:
        return None
    group_fields: dict[Any, None] | None = {}
    data_fields: dict[Any, None] = {}
    for binding in bindings:
        resolved = binding.resolved()
        names = {name for template in resolved.spec.group_templates for name in template.placeholders}
        names |= set(resolved.where)
        columns = [concrete_field(resolved.model, name) for name in sorted(names)]
        if binding.runs_code():
            group_fields = None
            columns = list(model._meta.concrete_fields)
        elif group_fields is not None:
            group_fields.update(dict.fromkeys(columns))
        data_fields.update(dict.fromkeys(columns))
        data_fields.update(
            dict.fromkeys(field for field in resolved.bound if field.concrete and not field.many_to_many)
        )
    m2m = dict.fromkeys(field for binding in bindings for field in binding.bound_fields() if field.many_to_many)
    return Plan(model, bindings, None if group_fields is None else tuple(group_fields), tuple(data_fields), tuple(m2m))


# --- stored rows -----------------------------------------------------------------------------------------------------


def load_rows(plan: Plan, pks: Iterable[Any], fields: Sequence[Any] | None, using: str) -> dict[Any, Any]:
    """Read rows by key, only the columns of ``fields`` (all for ``None``), locked where the database can."""
    keys = list(pks)
    rows: dict[Any, Any] = {}
    step = connections[using].features.max_query_params or 10_000
    for start in range(0, len(keys), step):
        chunk = plan.model._base_manager.using(using).filter(pk__in=keys[start : start + step])
        rows.update((row.pk, row) for row in _narrowed(plan, chunk, fields, using))
    return rows


def _narrowed(plan: Plan, rows: models.QuerySet[Any], fields: Sequence[Any] | None, using: str) -> models.QuerySet[Any]:
    if fields is not None:
        rows = rows.only(plan.model._meta.pk.name, *(field.name for field in fields))
    connection = connections[using]
    if connection.in_atomic_block and connection.features.has_select_for_update:
        # "self" alone: the parent rows of an inherited model are locked with it, joined tables are not ours to lock.
        of = ("self",) if connection.features.has_select_for_update_of else ()
        rows = rows.select_for_update(of=of)
    return rows


def _is_as_stored(instance: Any, fields: Iterable[Any]) -> bool:
    """Tell whether the instance's values are what the database now holds, so that they need not be read back."""
    values = instance.__dict__
    return all(field.attname in values and _is_plain(field, values[field.attname]) for field in fields)


def _is_plain(field: Any, value: Any) -> bool:
    if value is None:
        return True
    target = getattr(field, "target_field", field)
    internal = target.get_internal_type()
    if internal == "DecimalField":
        exponent = value.as_tuple().exponent if type(value) is decimal.Decimal else None
        return isinstance(exponent, int) and -exponent <= target.decimal_places
    if internal == "DateTimeField":
        return type(value) is dt.datetime and value.tzinfo is dt.UTC
    # A project's own field class may store something else than the value it is given.
    return type(value) is PLAIN_TYPES.get(internal) and type(target).__module__.startswith("django.")


# --- from rows to events ---------------------------------------------------------------------------------------------

Groups = dict[type[Binding], list[str]]


class _Guard:
    """Keep a binding's fault away from the writer: swallow and record it, undo what its queries broke."""

    def __init__(self, binding: type[Binding], row: Any, using: str) -> None:
        self.binding, self.row, self.using = binding, row, using
        # Only code of the project queries in here. Elsewhere a savepoint would cost two statements a write.
        self.savepoint = transaction.atomic(using=using) if binding.runs_code() else None

    def __enter__(self) -> _Guard:
        if self.savepoint is not None:
            self.savepoint.__enter__()
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> bool:
        if self.savepoint is not None:
            self.savepoint.__exit__(kind, error, traceback)
        if not isinstance(error, Exception):
            return False
        logger.error(
            "Binding %r failed; its clients miss a change of %s %s.",
            self.binding.stream,
            type(self.row)._meta.label,
            self.row.pk,
            exc_info=error,
        )
        signals.binding_failed.send_robust(
            sender=self.binding,
            stream=self.binding.stream,
            error=error,
            instance=self.row,
            using=self.using,
        )
        return True


def _group_names(binding: type[Binding], row: Any, using: str) -> list[str]:
    bound = binding(using=using)
    return list(dict.fromkeys(bound.group_names(row))) if bound.is_inside(row) else []


def _groups_of(plan: Plan, row: Any, using: str) -> Groups:
    """Return the groups of a stored row per binding; a binding that fails is recorded and left out."""
    groups: Groups = {}
    for binding in plan.bindings:
        with _Guard(binding, row, using):
            groups[binding] = _group_names(binding, row, using)
    return groups


def _draft_write(plan: Plan, row: Any, pk: Any, old: Groups | None, using: str) -> list[log.Draft]:
    """Return the events of a row that was written. ``old`` are its groups before, ``None`` for a new row."""
    drafts = []
    for binding in plan.bindings:
        with _Guard(binding, row, using):
            new = _group_names(binding, row, using)
            if old is None:
                before: list[str] = []
            elif not plan.needs_old:
                before = new
            elif binding in old:
                before = old[binding]
            else:
                continue
            if before or new:
                drafts.append(_draft(binding, row, pk, before, new, using))
    return drafts


def _draft_delete(plan: Plan, row: Any, using: str) -> list[log.Draft]:
    """Return the events of a row that is about to go, with its last stored data."""
    drafts = []
    for binding in plan.bindings:
        with _Guard(binding, row, using):
            before = _group_names(binding, row, using)
            if before:
                drafts.append(_draft(binding, row, row.pk, before, [], using, gone=True))
    return drafts


def _draft(
    binding: type[Binding],
    row: Any,
    pk: Any,
    before: list[str],
    after: list[str],
    using: str,
    gone: bool = False,
) -> log.Draft:
    changes = diff(before, after)
    bound = binding(using=using)
    kind, data = (Event.GONE if gone else Event.ROW), "{}"
    if binding.overrides("serialize"):
        # A "delete" that only hides the row must not carry what it now holds: the reader of the log words that one.
        actions = sorted({action for _, action in changes if gone or action != "delete"})
        kind, data = Event.PAYLOAD, encode_value({action: bound.serialize(row, action) for action in actions})
    elif after or gone:
        data = encode_value(bound.serialize_data(row))
    return log.Draft(
        stream=str(binding.stream),
        model=binding.model_label(),
        object_pk=encode_value(pk),
        changes=tuple(changes),
        data=data,
        version=get_registry().version,
        kind=kind,
    )


# --- save ------------------------------------------------------------------------------------------------------------


class _Children(threading.local):
    """The groups of child rows whose parent's table is being written, by the instance's id; one dict per thread."""

    def __init__(self) -> None:
        self.groups: dict[int, Groups | None] = {}


_children = _Children()


def capture_save_table(original: Any) -> Any:
    """Wrap ``Model._save_table``: read the old groups, write, append the events, as one transaction."""

    @functools.wraps(original)
    def _save_table(
        self: Any,
        raw: bool = False,
        cls: Any = None,
        force_insert: bool = False,
        force_update: bool = False,
        using: Any = None,
        update_fields: Any = None,
    ) -> Any:
        def write() -> Any:
            return original(self, raw, cls, force_insert, force_update, using, update_fields)

        if (raw and not settings.CAPTURE_RAW) or not log.is_here(using):
            return write()
        is_parent = type(self)._meta.concrete_model is not cls
        if is_parent:
            _remember_child(self, using)
        plan = plan_for(cls)
        if plan is None or (is_parent and _passes_by(cls, update_fields)):
            return write()
        with transaction.atomic(using=using, savepoint=False):
            if not is_parent and id(self) in _children.groups:
                old = _children.groups.pop(id(self))
            elif _will_insert(self, cls, force_insert, raw):
                old = None
            else:
                old = _old_groups(plan, self._get_pk_val(cls._meta), using)
            updated = write()
            pk = self._get_pk_val(cls._meta)
            self._state.db = using
            row = self
            if raw or update_fields is not None or not _is_as_stored(self, plan.fields):
                row = load_rows(plan, [pk], plan.fields, using)[pk]
            log.append(_draft_write(plan, row, pk, (old or {}) if updated else None, using), using)
        return updated

    return _save_table


def _old_groups(plan: Plan, pk: Any, using: str) -> Groups | None:
    if not plan.needs_old or pk is None:
        return None
    row = load_rows(plan, [pk], plan.group_fields, using).get(pk)
    return None if row is None else _groups_of(plan, row, using)


def _will_insert(instance: Any, cls: Any, force_insert: Any, raw: bool) -> bool:
    """Tell whether Django inserts without looking for a row first (the rule of ``Model._save_table``)."""
    if raw or not instance._state.adding:
        return bool(force_insert)
    pk = cls._meta.pk
    has_default = pk.has_default() or getattr(pk, "db_default", models.NOT_PROVIDED) is not models.NOT_PROVIDED
    return bool(force_insert) or has_default


def _passes_by(parent: Any, update_fields: Any) -> bool:
    """Tell whether a child's ``save(update_fields=...)`` writes no column of this parent."""
    return update_fields is not None and not any(
        field.name in update_fields or field.attname in update_fields for field in parent._meta.local_concrete_fields
    )


def _remember_child(instance: Any, using: str) -> None:
    """Read a child row's groups before its first parent table is written: they may hang on the parent's columns."""
    concrete = type(instance)._meta.concrete_model
    plan = plan_for(concrete)
    if plan is None or not plan.needs_old or id(instance) in _children.groups:
        return
    _children.groups[id(instance)] = _old_groups(plan, instance._get_pk_val(concrete._meta), using)
    # Whatever becomes of this save, the note must not outlive its transaction and meet another object with this id.
    connection = connections[using]
    if len(_children.groups) > 1 and not connection.in_atomic_block:
        _children.groups.clear()


# --- delete ----------------------------------------------------------------------------------------------------------


def capture_delete(original: Any) -> Any:
    """Wrap ``Collector.delete``: read what is about to go or to be set null, let Django delete, append the events."""

    @functools.wraps(original)
    def delete(self: Any) -> Any:
        using = self.using
        if not log.is_here(using):
            return original(self)
        gone = [(plan, objects) for model, objects in self.data.items() if objects and (plan := plan_for(model))]
        fast = [(plan, rows) for rows in self.fast_deletes if (plan := plan_for(rows.model))]
        nulled = [
            (plan, objects)
            for (field, _), lists in self.field_updates.items()
            for objects in lists
            if (plan := plan_for(field.model))
        ]
        if not (gone or fast or nulled):
            return original(self)
        with transaction.atomic(using=using, savepoint=False):
            drafts: list[log.Draft] = []
            seen: set[tuple[Any, Any]] = set()
            for plan, objects in gone:
                stored = load_rows(plan, [instance.pk for instance in objects], plan.fields, using)
                drafts += _draft_rows(plan, stored.values(), seen, using)
            for plan, queryset in fast:
                rows = _narrowed(plan, _as_queryset(plan, queryset, using), plan.fields, using)
                drafts += _draft_rows(plan, rows, seen, using)
            before = [(plan, _groups_before(plan, objects, using)) for plan, objects in nulled]
            result = original(self)
            for plan, groups in before:
                for pk, row in load_rows(plan, groups, plan.fields, using).items():
                    if (plan.model, pk) not in seen:
                        drafts += _draft_write(plan, row, pk, groups[pk], using)
            log.append(drafts, using)
        return result

    return delete


def _draft_rows(plan: Plan, rows: Iterable[Any], seen: set[tuple[Any, Any]], using: str) -> list[log.Draft]:
    drafts: list[log.Draft] = []
    for row in rows:
        if (plan.model, row.pk) not in seen:
            seen.add((plan.model, row.pk))
            drafts += _draft_delete(plan, row, using)
    return drafts


def _as_queryset(plan: Plan, rows: Any, using: str) -> models.QuerySet[Any]:
    if isinstance(rows, models.QuerySet):
        return rows.using(using)
    return plan.model._base_manager.using(using).filter(pk__in=[row.pk for row in rows])


def _groups_before(plan: Plan, objects: Any, using: str) -> dict[Any, Groups]:
    rows = _narrowed(plan, _as_queryset(plan, objects, using), plan.group_fields, using)
    return {row.pk: _groups_of(plan, row, using) for row in rows}


# --- many-to-many ----------------------------------------------------------------------------------------------------

_cleared = threading.local()


def connect_m2m(registry: BindingRegistry) -> None:
    """Listen to the through tables of bound many-to-many fields alone: a listener costs each ``add`` a query."""
    for bindings in registry.by_model.values():
        for binding in bindings:
            for field in binding.bound_fields():
                if field.many_to_many:
                    through = field.remote_field.through
                    m2m_changed.connect(capture_m2m, sender=through, dispatch_uid="declbind.capture")


def capture_m2m(
    *,
    sender: Any,
    instance: Any,
    action: str,
    reverse: bool,
    model: Any,
    pk_set: Any,
    using: str,
    **kwargs: Any,
) -> None:
    """Append an update for each row whose list changed; Django sends the signal inside the write's transaction."""
    source = model if reverse else type(instance)
    plan = plan_for(source)
    if plan is None or not log.is_here(using) or not any(f.remote_field.through is sender for f in plan.m2m):
        return
    if action == "pre_clear":
        field = next(f for f in plan.m2m if f.remote_field.through is sender)
        this, other = field.m2m_reverse_field_name(), field.m2m_field_name()
        if not reverse:
            this, other = other, this
        through = sender._base_manager.using(using).filter(**{this: instance.pk})
        _cleared.pks = set(through.values_list(sender._meta.get_field(other).attname, flat=True))
        return
    if action == "post_clear":
        pk_set = _cleared.__dict__.pop("pks", None)
    elif action not in ("post_add", "post_remove"):
        return
    if not pk_set:
        return
    with transaction.atomic(using=using, savepoint=False):
        drafts: list[log.Draft] = []
        for pk, row in load_rows(plan, pk_set if reverse else [instance.pk], plan.fields, using).items():
            drafts += _draft_write(plan, row, pk, _groups_of(plan, row, using), using)
        log.append(drafts, using)


def install(registry: BindingRegistry) -> None:
    """Put the hooks in, once per process; listen to the many-to-many fields of each registry that comes into force."""
    model: Any = models.Model
    collector: Any = Collector
    if not hasattr(model._save_table, "__wrapped__"):
        model._save_table = capture_save_table(model._save_table)
        collector.delete = capture_delete(collector.delete)
    connect_m2m(registry)
    signals.registry_changed.connect(_on_registry_changed, dispatch_uid="declbind.capture")


def _on_registry_changed(*, new: BindingRegistry, **kwargs: Any) -> None:
    connect_m2m(new)


def touch(rows: Any) -> int:
    """Announce rows by hand, as if each had been saved unchanged; return how many.

    For writes that no hook sees. Takes a query set or instances of one model; the events are in the transaction that is
    open on the rows' database, or in one of their own.
    """
    queryset = rows if isinstance(rows, models.QuerySet) else None
    instances = [] if queryset is not None else list(rows)
    if queryset is None and not instances:
        return 0
    model = queryset.model if queryset is not None else type(instances[0])
    plan = plan_for(model)
    using = queryset.db if queryset is not None else instances[0]._state.db
    if plan is None or not log.is_here(using):
        return 0
    pks = list(queryset.values_list("pk", flat=True)) if queryset is not None else [row.pk for row in instances]
    with transaction.atomic(using=using):
        drafts: list[log.Draft] = []
        found = load_rows(plan, pks, plan.fields, using)
        for pk, row in found.items():
            drafts += _draft_write(plan, row, pk, _groups_of(plan, row, using), using)
        log.append(drafts, using)
    return len(found)
