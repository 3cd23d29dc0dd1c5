"""Store binding records, their revisions, and the version of the configuration."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, Self

from django.conf import settings as django_settings
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models, router, transaction

from declbind import judgement, signals
from declbind.core.errors import Problem
from declbind.core.spec import KEYS, BindingSpec

#: A change of these alone is let through for a record that went bad later: it can always be switched off.
HARMLESS_UPDATES = ({"enabled": False},)

_editor: ContextVar[tuple[Any, str]] = ContextVar("declbind_editor", default=(None, ""))


@contextlib.contextmanager
def editing(author: Any = None, note: str = "") -> Iterator[None]:
    """Name the author and the note of the revisions made inside the block.

    ``author`` is a user or ``None``. The block may be entered in any thread or task; it is local to it.
    """
    token = _editor.set((author, note))
    try:
        yield
    finally:
        _editor.reset(token)


class Configuration(models.Model):
    """Count the edits of the binding records: one row, bumped inside the transaction of each edit.

    ``generation`` is random and new whenever the row is made anew (a restored or flushed database), so that version 3
    of another history is never taken for an older state of this one.
    """

    generation = models.CharField(max_length=32)
    version = models.PositiveBigIntegerField(default=0)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "declbind_configuration"

    def __str__(self) -> str:
        return f"version {self.version}"

    @classmethod
    def bump(cls, using: str) -> int:
        """Raise the version by one and return it. Takes the row's lock until the transaction ends.

        The lock is what makes versions become visible in their own order.
        """
        row, created = cls.objects.using(using).get_or_create(
            pk=1, defaults={"generation": secrets.token_hex(16), "version": 1}
        )
        if created:
            return row.version
        row = cls.objects.using(using).select_for_update().get(pk=1)
        row.version += 1
        row.save(using=using)
        return row.version


class BindingRecordQuerySet(models.QuerySet["BindingRecord"]):
    """Judge and announce what the bulk methods write, as ``save()`` and ``delete()`` do."""

    def bulk_create(self, objs: Iterable[BindingRecord], *args: Any, **kwargs: Any) -> list[BindingRecord]:
        """Insert records that all stand both judgements; one that does not stops the whole call."""
        records = list(objs)
        for record in records:
            record.full_clean(validate_unique=False)
        _refuse_repeats(records)
        using = router.db_for_write(self.model) if self._db is None else self._db
        with transaction.atomic(using=using):
            created = super().bulk_create(records, *args, **kwargs)
            _announce(using, [(record.stream, record.definition()) for record in created])
        return created

    def bulk_update(self, objs: Iterable[BindingRecord], *args: Any, **kwargs: Any) -> int:
        """Store records that all stand both judgements, each with a revision."""
        records = list(objs)
        for record in records:
            record.full_clean(validate_unique=False)
        using = router.db_for_write(self.model) if self._db is None else self._db
        with transaction.atomic(using=using), _quiet():
            count = super().bulk_update(records, *args, **kwargs)
        with transaction.atomic(using=using):
            _announce(using, [(record.stream, record.definition()) for record in records])
        return count

    def update(self, **kwargs: Any) -> int:
        """Update in one statement, judge the result, and announce it; an invalid result is rolled back."""
        if _silent.get():
            return super().update(**kwargs)
        using = router.db_for_write(self.model) if self._db is None else self._db
        with transaction.atomic(using=using):
            before = dict(self.values_list("pk", "stream"))
            count = super().update(**kwargs)
            records = list(self.model.objects.using(using).filter(pk__in=before))
            if kwargs not in HARMLESS_UPDATES:
                for record in records:
                    record.full_clean(validate_unique=False)
            gone = set(before.values()) - {record.stream for record in records}
            _announce(
                using,
                [(stream, None) for stream in sorted(gone)]
                + [(record.stream, record.definition()) for record in records],
            )
        return count

    update.alters_data = True  # type: ignore[attr-defined]


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

    stream = models.CharField(
        max_length=64, unique=True, help_text="The name clients use: letters, digits, '.', '_' and '-'."
    )
    model = models.CharField(max_length=200, help_text="The bound model, as app_label.ModelName.")
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
        help_text="view, create, update, delete: a permission codename, true (anyone) or false (nobody).",
    )
    direction = models.CharField(
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
    auto_subscribe = models.BooleanField(default=False, help_text="Join the groups without placeholders at connect.")
    sensitive = models.JSONField(blank=True, default=list, help_text="Password-like fields that are exposed knowingly.")
    serializer = models.CharField(max_length=100, default="default")
    enabled = models.BooleanField(default=True)
    description = models.TextField(blank=True, default="")

    objects = BindingRecordManager()

    class Meta:
        db_table = "declbind_bindingrecord"
        ordering = ("stream",)
        permissions = (
            ("expose_sensitive", "Can expose password-like fields in a binding"),
            ("view_traffic", "Can watch live traffic"),
        )

    def __str__(self) -> str:
        return self.stream

    def natural_key(self) -> tuple[str]:
        """Return the stream, so that fixtures need no primary key."""
        return (self.stream,)

    def definition(self) -> dict[str, Any]:
        """Return the record as a JSON object: the keys that say something, in the order of the design's table."""
        document = {}
        for key in KEYS:
            value = getattr(self, key)
            default = type(self)._meta.get_field(key).get_default()
            if key in ("stream", "model") or value != default:
                document[key] = value
        return document

    def assign(self, document: dict[str, Any]) -> Self:
        """Take over a whole record: keys that the document does not name get their defaults. Does not save."""
        for key in KEYS:
            field = type(self)._meta.get_field(key)
            setattr(self, key, document.get(key, field.get_default()))
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
        exclude: Collection[str] | None = None,
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

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Judge, store, write a revision, raise the configuration version: all or nothing."""
        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            super().save(*args, **kwargs)


class BindingRevision(models.Model):
    """Keep what a record said after an edit; ``definition`` is null where the edit removed it."""

    stream = models.CharField(max_length=64, db_index=True)
    definition = models.JSONField(null=True, encoder=DjangoJSONEncoder)
    version = models.PositiveBigIntegerField(help_text="The configuration version that the edit made.")
    author = models.ForeignKey(
        django_settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    note = models.CharField(max_length=500, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "declbind_bindingrevision"
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.stream} at version {self.version}"


def _announce(using: str, edits: Sequence[tuple[str, dict[str, Any] | None]]) -> None:
    """Note edits: version, revisions, and the signal that puts a control event in the log. Inside their transaction."""
    if not edits:
        return
    version = Configuration.bump(using)
    author, note = _editor.get()
    previous = {
        stream: BindingRevision.objects.using(using).filter(stream=stream).values_list("definition", flat=True).first()
        for stream, _ in edits
    }
    BindingRevision.objects.using(using).bulk_create(
        BindingRevision(
            stream=stream,
            definition=definition,
            version=version,
            author=author if getattr(author, "pk", None) else None,
            note=note[:500],
        )
        for stream, definition in edits
    )
    changes = {stream: (previous[stream], definition) for stream, definition in edits}
    signals.configuration_edited.send(sender=BindingRecord, using=using, version=version, changes=changes)


def _refuse_repeats(records: Sequence[BindingRecord]) -> None:
    streams = [record.stream for record in records]
    for stream in streams:
        if streams.count(stream) > 1:
            raise ValidationError({"stream": [f"$.stream: Binding {stream!r} stands twice in one call."]})


def _judge_before_save(instance: BindingRecord, raw: bool, using: str, **kwargs: Any) -> None:
    """Judge on ``pre_save``: the one place that ``save()`` and ``loaddata`` both pass."""
    update_fields = kwargs.get("update_fields")
    if update_fields is not None and set(update_fields) == {"enabled"} and not instance.enabled:
        return
    instance.full_clean(validate_unique=not raw)


def _announce_save(instance: BindingRecord, using: str, **kwargs: Any) -> None:
    with transaction.atomic(using=using):
        _announce(using, [(instance.stream, instance.definition())])


def _announce_delete(instance: BindingRecord, using: str, **kwargs: Any) -> None:
    _announce(using, [(instance.stream, None)])


models.signals.pre_save.connect(_judge_before_save, sender=BindingRecord, dispatch_uid="declbind.judge")
models.signals.post_save.connect(_announce_save, sender=BindingRecord, dispatch_uid="declbind.announce")
models.signals.post_delete.connect(_announce_delete, sender=BindingRecord, dispatch_uid="declbind.announce")
