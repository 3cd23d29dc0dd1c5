"""Store binding records, and judge and announce every edit of them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Self

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import connections, models, router, transaction

from declbind import judgement
from declbind.core.errors import Problem
from declbind.core.spec import KEYS, BindingSpec

from .columns import ExactCharField, ExactTextField
from .revision import Edit, announce


class BindingRecordQuerySet(models.QuerySet["BindingRecord"]):
    """Judge and announce what the bulk methods write, as ``save()`` and ``delete()`` do.

    What is judged and announced is what the database holds afterwards: a bulk method may write a part of a record only.
    """

    def bulk_create(self, objs: Iterable[BindingRecord], *args: Any, **kwargs: Any) -> list[BindingRecord]:
        """Insert records that all stand both judgements; one that does not stops the whole call."""
        records = list(objs)
        for record in records:
            record.full_clean(validate_unique=False)
        _refuse_repeats(records)
        using = self._write_alias()
        # Some of them may be there already: ignore_conflicts leaves those as they are, update_conflicts changes them.
        touched = models.Q(stream__in=[record.stream for record in records]) | models.Q(
            pk__in={record.pk for record in records} - {None}
        )
        with transaction.atomic(using=using):
            before = _load(using, touched)
            created = super().bulk_create(records, *args, **kwargs)
            after = _load(using, touched)
            _judge_and_announce(using, before, after, skip_unchanged=True)
        return created

    def bulk_update(self, objs: Iterable[BindingRecord], *args: Any, **kwargs: Any) -> int:
        """Store records, each with a revision; one whose result does not stand both judgements stops the whole call."""
        records = list(objs)
        using = self._write_alias()
        touched = models.Q(pk__in=[record.pk for record in records])
        with transaction.atomic(using=using):
            before = _load(using, touched)
            with _quiet():
                count = super().bulk_update(records, *args, **kwargs)
            _judge_and_announce(using, before, _load(using, touched))
        return count

    def update(self, **kwargs: Any) -> int:
        """Update in one statement, judge the result, and announce it; an invalid result is rolled back."""
        if _silent.get():
            return super().update(**kwargs)
        using = self._write_alias()
        with transaction.atomic(using=using):
            touched = models.Q(pk__in=list(self.using(using).values_list("pk", flat=True)))
            before = _load(using, touched)
            count = super().update(**kwargs)
            _judge_and_announce(using, before, _load(using, touched))
        return count

    update.alters_data = True  # type: ignore[attr-defined]

    def _write_alias(self) -> str:
        alias: str | None = getattr(self, "_db", None)  # what using() chose; the stubs do not know it
        return alias or router.db_for_write(self.model)


class BindingRecordManager(models.Manager.from_queryset(BindingRecordQuerySet)):  # type: ignore[misc]
    """Find records by their natural key, the stream."""

    def get_by_natural_key(self, stream: str) -> BindingRecord:
        """Return the record of a stream; raises ``BindingRecord.DoesNotExist``."""
        record: BindingRecord = self.get(stream=stream)
        return record


_silent: ContextVar[bool] = ContextVar("declbind_silent", default=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # bulk_update() calls update() per batch on our own query set: it is announced once, by its caller.
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


class BindingRecord(models.Model):
    """Keep one binding record: one model field per key of the record (design: "The binding record").

    ``full_clean()`` judges it against the schema and against Django and raises ``ValidationError`` whose keys are the
    record's keys; ``save()``, ``bulk_create()``, ``loaddata`` and the admin judge the same way.
    """

    stream = ExactCharField(
        max_length=64, unique=True, help_text="The name clients use: letters, digits, '.', '_' and '-'."
    )
    model = ExactCharField(max_length=200, help_text="The bound model, as app_label.ModelName.")
    fields = models.JSONField(
        null=True, blank=True, default=None, help_text='Names of the fields that are sent, or "__all__".'
    )
    exclude = models.JSONField(null=True, blank=True, default=None, help_text="Send all fields but these.")
    groups = models.JSONField(
        blank=True,
        default=list,
        help_text='Group templates, such as "room-{room_id}"; empty: one group for all.',
    )
    permissions = models.JSONField(
        blank=True,
        default=dict,
        help_text='view, create, update, delete: a codename, "authenticated", "staff", true (anyone) or '
        "false (nobody).",
    )
    direction = ExactCharField(
        max_length=8,
        default="both",
        choices=[("both", "both ways"), ("outbound", "only to clients"), ("inbound", "only from clients")],
    )
    writable = models.JSONField(
        null=True, blank=True, default=None, help_text="Fields that clients may write; empty list: none."
    )
    where = models.JSONField(blank=True, default=dict, help_text="Only rows with these values exist for the binding.")
    scope = models.JSONField(
        blank=True, default=dict, help_text='Each user deals with own rows: {"owner_id": "$user.pk"}.'
    )
    relate = models.JSONField(
        blank=True,
        default=dict,
        help_text='Which related rows clients may write: {"project": {"owner_id": "$user.pk"}}.',
    )
    auto_subscribe = models.BooleanField(default=False, help_text="Join the groups without placeholders at connect.")
    sensitive = models.JSONField(blank=True, default=list, help_text="Password-like fields that are exposed knowingly.")
    serializer = ExactCharField(max_length=100, default="default")
    capture = ExactCharField(
        max_length=8,
        default="orm",
        choices=[("orm", "by Django's ORM"), ("triggers", "by Django's ORM and by database triggers")],
        help_text="Whether database triggers report raw SQL and other programs; a command puts them in.",
    )
    also = models.JSONField(
        blank=True, default=list, help_text="Relations whose change makes a row worth sending again."
    )
    enabled = models.BooleanField(default=True)
    description = ExactTextField(blank=True, default="")

    objects = BindingRecordManager()

    class Meta:
        db_table = "declbind_bindingrecord"
        ordering = ("stream",)
        permissions = (
            ("expose_sensitive", "Can expose password-like fields in a binding"),
            ("bind_rights_models", "Can bind users, groups, tokens and other models that give rights"),
        )

    def __str__(self) -> str:
        return self.stream

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Judge, store, write a revision, raise the configuration version: all or nothing."""
        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            super().save(*args, **kwargs)

    def natural_key(self) -> tuple[str]:
        """Return the stream, so that fixtures need no primary key."""
        return (self.stream,)

    def definition(self) -> dict[str, Any]:
        """Return the record as a JSON object: the keys that say something, in the order of the design's table."""
        document = {}
        for key in KEYS:
            value = getattr(self, key)
            if key in ("stream", "model") or value != _default(key):
                document[key] = list(value) if isinstance(value, tuple) else value
        return document

    def assign(self, document: dict[str, Any]) -> Self:
        """Take over a whole record: keys that the document does not name get their defaults. Does not save."""
        for key in KEYS:
            setattr(self, key, document[key] if key in document else _default(key))
        return self

    def to_spec(self) -> BindingSpec:
        """Return the record as a ``BindingSpec``; raises ``ConfigError`` where it breaks the schema."""
        return BindingSpec.from_dict(self.definition())

    def problems(self) -> list[Problem]:
        """Return what both judgements find, plus a stream that a file or a class already has."""
        _, problems = judgement.judge_document(self.definition())
        taken = judgement.reserved_streams().get(self.stream)
        if taken:
            problems.append(
                Problem(
                    "$.stream",
                    f"Binding {self.stream!r}: the stream is already defined by {taken}. "
                    "Choose another name, or take that binding over.",
                )
            )
        return problems

    def full_clean(
        self,
        exclude: Iterable[str] | None = None,
        validate_unique: bool = True,
        validate_constraints: bool = True,
    ) -> None:
        """Judge the record; raises ``ValidationError`` keyed by the record's keys, each text with its JSON path."""
        errors: dict[str, list[Any]] = {}
        left_out = set(exclude or ())
        # The JSON-valued keys, choices and patterns are the judgement's business: it words the problems with a path.
        try:
            super().full_clean({*left_out, *KEYS} - {"stream"}, validate_unique, validate_constraints)
        except ValidationError as error:
            errors.update(error.update_error_dict({}))
        for problem in self.problems():
            key = problem.key
            if key == "stream" and "stream" in errors and not self.stream:
                continue
            key = key if key in KEYS else NON_FIELD_ERRORS
            errors.setdefault(key, []).append(ValidationError(str(problem), code="declbind"))
        if errors:
            raise ValidationError(errors)


def _default(key: str) -> Any:
    field: models.Field[Any, Any] = BindingRecord._meta.get_field(key)  # type: ignore[assignment]
    return field.get_default()


def _edits(before: Mapping[Any, BindingRecord], after: Mapping[Any, BindingRecord]) -> list[Edit]:
    """Compare by primary key: a record that got another stream ends under the old one and begins under the new."""
    streams = {record.stream for record in after.values()}
    old = {record.stream: record.definition() for record in before.values()}
    gone: list[Edit] = [(stream, old[stream], None) for stream in sorted(old.keys() - streams)]
    return gone + [(record.stream, old.get(record.stream), record.definition()) for record in after.values()]


def _judge_and_announce(
    using: str,
    before: Mapping[Any, BindingRecord],
    after: Mapping[Any, BindingRecord],
    skip_unchanged: bool = False,
) -> None:
    for pk, record in after.items():
        if not _is_switched_off(before.get(pk), record):
            record.full_clean(validate_unique=False)
    edits = _edits(before, after)
    if skip_unchanged:
        edits = [edit for edit in edits if edit[1] != edit[2]]
    announce(BindingRecord, using, edits)


def _is_switched_off(before: BindingRecord | None, after: BindingRecord) -> bool:
    """Tell whether nothing was done but to disable: that is let through for a record that went bad later."""
    if before is None or after.enabled is not False:
        return False
    return {**before.definition(), "enabled": False} == {**after.definition(), "enabled": False}


def _load(using: str, condition: models.Q) -> dict[Any, BindingRecord]:
    """Return stored records by primary key, in the order of their streams; locked where the database can."""
    rows = BindingRecord.objects.using(using).filter(condition).order_by("stream")
    if connections[using].in_atomic_block:
        rows = rows.select_for_update()
    return {record.pk: record for record in rows}


def _refuse_repeats(records: Sequence[BindingRecord]) -> None:
    streams = [record.stream for record in records]
    for stream in streams:
        if streams.count(stream) > 1:
            raise ValidationError({"stream": [f"$.stream: Binding {stream!r} stands twice in one call."]})


def _judge_before_save(
    instance: BindingRecord, raw: bool, using: str, update_fields: Collection[str] | None = None, **kwargs: Any
) -> None:
    """Judge on ``pre_save``: the one place that ``save()`` and ``loaddata`` both pass."""
    before = _load_stored(instance, using)
    result = instance
    if before is not None and update_fields is not None:
        # The rest of the instance is not stored, so it neither counts nor hides what the row holds.
        result = copy.copy(before)
        for name in update_fields:
            setattr(result, name, getattr(instance, name))
    if not _is_switched_off(before, result):
        result.full_clean(validate_unique=not raw)
    instance.__dict__["_edit"] = before, result


def _announce_save(instance: BindingRecord, using: str, **kwargs: Any) -> None:
    before, result = instance.__dict__.pop("_edit", (None, instance))
    with transaction.atomic(using=using):
        announce(BindingRecord, using, _edits({instance.pk: before} if before else {}, {instance.pk: result}))


def _note_before_delete(instance: BindingRecord, using: str, **kwargs: Any) -> None:
    # The instance may have got another stream that was never stored.
    instance.__dict__["_edit"] = _load_stored(instance, using), None


def _announce_delete(instance: BindingRecord, using: str, **kwargs: Any) -> None:
    before, _ = instance.__dict__.pop("_edit", (instance, None))
    if before is not None:
        announce(BindingRecord, using, _edits({before.pk: before}, {}))


def _load_stored(instance: BindingRecord, using: str) -> BindingRecord | None:
    key: Any = instance.pk  # None before the first save, whatever the stubs say
    return None if key is None else _load(using, models.Q(pk=key)).get(key)


models.signals.pre_save.connect(_judge_before_save, sender=BindingRecord, dispatch_uid="declbind.judge")
models.signals.post_save.connect(_announce_save, sender=BindingRecord, dispatch_uid="declbind.announce")
models.signals.pre_delete.connect(_note_before_delete, sender=BindingRecord, dispatch_uid="declbind.note")
models.signals.post_delete.connect(_announce_delete, sender=BindingRecord, dispatch_uid="declbind.announce")
