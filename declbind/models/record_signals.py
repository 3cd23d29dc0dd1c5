"""The signals of binding records: each way to save or delete one validates and announces it."""

from __future__ import annotations

import copy
from collections.abc import Collection

from django.db import models, transaction

from declbind.django_types import Key

from .known_fields import settle_known
from .record import BindingRecord, load_locked
from .record_edits import compare, is_switched_off
from .revision import announce


def _validate_before_save(
    instance: BindingRecord, raw: bool, using: str, update_fields: Collection[str] | None = None, **kwargs: object
) -> None:
    """Validate on ``pre_save``, which both ``save()`` and ``loaddata`` pass."""
    before = _load_stored(instance, using)
    result = instance
    if before is not None and update_fields is not None:
        # The other fields of the instance are not stored, so those of the stored row count.
        result = copy.copy(before)
        for name in update_fields:
            setattr(result, name, getattr(instance, name))
    if not is_switched_off(before, result):
        result.full_clean(validate_unique=not raw)
    stored = before.known if before is not None else None
    result.known = instance.known = settle_known(before, result, instance.__dict__.pop("_choice", None))
    is_stored = before is None or update_fields is None or "known" in update_fields
    instance.__dict__["_edit"] = before, result, is_stored or stored == result.known


def _announce_save(instance: BindingRecord, using: str, **kwargs: object) -> None:
    before, result, is_stored = instance.__dict__.pop("_edit", (None, instance, True))
    with transaction.atomic(using=using):
        if not is_stored:
            BindingRecord._base_manager.using(using).filter(pk=instance.pk).update(known=result.known)
        announce(BindingRecord, using, compare({instance.pk: before} if before else {}, {instance.pk: result}))


def _note_before_delete(instance: BindingRecord, using: str, **kwargs: object) -> None:
    # The instance may have a new stream that was never stored.
    instance.__dict__["_edit"] = _load_stored(instance, using), None


def _announce_delete(instance: BindingRecord, using: str, **kwargs: object) -> None:
    before, _ = instance.__dict__.pop("_edit", (instance, None))
    if before is not None:
        announce(BindingRecord, using, compare({before.pk: before}, {}))


def _load_stored(instance: BindingRecord, using: str) -> BindingRecord | None:
    key: Key = instance.pk  # None before the first save, unlike in the stubs.
    return None if key is None else load_locked(using, models.Q(pk=key)).get(key)


def connect() -> None:
    """Connect the receivers. A second call changes nothing."""
    models.signals.pre_save.connect(_validate_before_save, sender=BindingRecord, dispatch_uid="declbind.validate")
    models.signals.post_save.connect(_announce_save, sender=BindingRecord, dispatch_uid="declbind.announce")
    models.signals.pre_delete.connect(_note_before_delete, sender=BindingRecord, dispatch_uid="declbind.note")
    models.signals.post_delete.connect(_announce_delete, sender=BindingRecord, dispatch_uid="declbind.announce")
