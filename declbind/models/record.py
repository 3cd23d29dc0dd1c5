"""Binding records, and the validation and announcement of every edit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Self

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import connections, models, router, transaction
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from declbind import record_validation
from declbind.core.errors import Problem
from declbind.core.spec import KEYS, BindingSpec
from declbind.core.wording import in_binding
from declbind.django_types import Key
from declbind.fields import bound_fields, held_fields

from .columns import ExactCharField, ExactTextField
from .known_fields import Choice, read_definition, settle_known
from .record_edits import compare, is_switched_off, refuse_repeats
from .revision import announce


class BindingRecordQuerySet(models.QuerySet["BindingRecord"]):
    """A query set whose bulk methods validate and announce their writes, as ``save()`` and ``delete()`` do.

    The records are validated and announced as they are stored afterwards, because a bulk method may write only a part
    of a record.
    """

    def bulk_create(self, objs: Iterable[BindingRecord], *args: Any, **kwargs: Any) -> list[BindingRecord]:
        """Insert valid records. If one is not valid, none is inserted."""
        records = list(objs)
        for record in records:
            record.full_clean(validate_unique=False)
            record.known = settle_known(None, record, record.__dict__.pop("_choice", None))
        refuse_repeats(records)
        using = self._write_alias()
        # Some of them may exist already: ignore_conflicts leaves those unchanged, update_conflicts changes them.
        touched = models.Q(stream__in=[record.stream for record in records]) | models.Q(
            pk__in={record.pk for record in records} - {None}
        )
        with transaction.atomic(using=using):
            before = load_locked(using, touched)
            created = super().bulk_create(records, *args, **kwargs)
            after = load_locked(using, touched)
            _validate_and_announce(using, before, after, skip_unchanged=True)
        return created

    def bulk_update(self, objs: Iterable[BindingRecord], *args: Any, **kwargs: Any) -> int:
        """Store records, each with a revision. If one result is not valid, none is stored."""
        records = list(objs)
        using = self._write_alias()
        touched = models.Q(pk__in=[record.pk for record in records])
        with transaction.atomic(using=using):
            before = load_locked(using, touched)
            with _quiet():
                count = super().bulk_update(records, *args, **kwargs)
            _validate_and_announce(using, before, load_locked(using, touched))
        return count

    def update(self, **kwargs: Any) -> int:
        """Update in one statement, validate the result, and announce it. An invalid result is rolled back."""
        if _silent.get():
            return super().update(**kwargs)
        using = self._write_alias()
        with transaction.atomic(using=using):
            touched = models.Q(pk__in=list(self.using(using).values_list("pk", flat=True)))
            before = load_locked(using, touched)
            count = super().update(**kwargs)
            _validate_and_announce(using, before, load_locked(using, touched))
        return count

    update.alters_data = True  # type: ignore[attr-defined]

    def _write_alias(self) -> str:
        alias: str | None = getattr(self, "_db", None)  # The alias that using() chose; the stubs do not know it.
        return alias or router.db_for_write(self.model)


class BindingRecordManager(models.Manager.from_queryset(BindingRecordQuerySet)):  # type: ignore[misc]
    """A manager that finds records by their natural key, the stream."""

    def get_by_natural_key(self, stream: str) -> BindingRecord:
        """Return the record of a stream.

        Raises:
            BindingRecord.DoesNotExist: There is no such record.
        """
        record: BindingRecord = self.get(stream=stream)
        return record


_silent: ContextVar[bool] = ContextVar("declbind_silent", default=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # bulk_update() calls update() for each batch on this query set. The caller announces all of them once.
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


class BindingRecord(models.Model):
    """One binding record, with one model field for each key of the record.

    ``full_clean()`` validates it against the schema and against Django. Its ``ValidationError`` has the keys of the
    record. ``save()``, ``bulk_create()``, ``loaddata`` and the admin validate in the same way.
    """

    stream = ExactCharField(
        _("stream"),
        max_length=64,
        unique=True,
        help_text=_("The name that clients use: letters, digits, '.', '_' and '-'."),
    )
    model = ExactCharField(_("model"), max_length=200, help_text=_("The bound model, as app_label.ModelName."))
    fields = models.JSONField(
        _("fields"),
        null=True,
        blank=True,
        default=None,
        help_text=_('Names of the fields that are sent, or "__all__".'),
    )
    exclude = models.JSONField(
        _("excluded fields"), null=True, blank=True, default=None, help_text=_("Send all fields except these.")
    )
    groups = models.JSONField(
        _("groups"),
        blank=True,
        default=list,
        help_text=_('Group templates, such as "room-{room_id}". If empty, there is one group for all rows.'),
    )
    permissions = models.JSONField(
        _("permissions"),
        blank=True,
        default=dict,
        help_text=_(
            'view, create, update, delete: a codename, "authenticated", "staff", true (anyone) or false (nobody).'
        ),
    )
    direction = ExactCharField(
        _("direction"),
        max_length=8,
        default="both",
        choices=[("both", _("both ways")), ("outbound", _("only to clients")), ("inbound", _("only from clients"))],
    )
    writable = models.JSONField(
        _("writable fields"),
        null=True,
        blank=True,
        default=None,
        help_text=_("Fields that clients may write. An empty list means none."),
    )
    where = models.JSONField(
        _("condition on rows"), blank=True, default=dict, help_text=_("The binding covers only rows with these values.")
    )
    scope = models.JSONField(
        _("own rows"),
        blank=True,
        default=dict,
        help_text=_('Limit each user to their own rows: {"owner_id": "$user.pk"}.'),
    )
    relate = models.JSONField(
        _("related rows"),
        blank=True,
        default=dict,
        help_text=_('Which related rows clients may write: {"project": {"owner_id": "$user.pk"}}.'),
    )
    grow = models.BooleanField(
        _("include later fields"), default=False, help_text=_("Also send fields that are added to the model later.")
    )
    auto_subscribe = models.BooleanField(
        _("subscribe new connections"),
        default=False,
        help_text=_("Subscribe new connections to the groups without placeholders."),
    )
    sensitive = models.JSONField(
        _("sensitive fields"),
        blank=True,
        default=list,
        help_text=_("Password-like fields that are exposed intentionally."),
    )
    serializer = ExactCharField(_("serializer"), max_length=100, default="default")
    capture = ExactCharField(
        _("capture"),
        max_length=8,
        default="orm",
        choices=[("orm", _("by Django's ORM")), ("triggers", _("by Django's ORM and by database triggers"))],
        help_text=_("Whether database triggers capture raw SQL and writes of other programs. A command installs them."),
    )
    also = models.JSONField(
        _("also sent again for"),
        blank=True,
        default=list,
        help_text=_("Relations whose changes cause a row to be sent again."),
    )
    retention = models.PositiveIntegerField(
        _("retention"),
        null=True,
        blank=True,
        default=None,
        help_text=_("How many seconds the log keeps the values that are sent."),
    )
    enabled = models.BooleanField(_("enabled"), default=True)
    description = ExactTextField(_("description"), blank=True, default="")
    #: The fields that "__all__" or exclude may send; null if the record names its fields. Not a key of the record.
    known = models.JSONField(null=True, blank=True, default=None, editable=False)

    objects = BindingRecordManager()

    class Meta:
        db_table = "declbind_bindingrecord"
        verbose_name = _("binding")
        verbose_name_plural = _("bindings")
        ordering = ("stream",)
        permissions = (
            ("expose_sensitive", "Can expose password-like fields in a binding"),
            ("bind_rights_models", "Can bind users, groups, tokens and other models that give permissions"),
        )

    def __str__(self) -> str:
        return self.stream

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Validate, store, write a revision and raise the configuration version, all in one transaction."""
        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            super().save(*args, **kwargs)

    def natural_key(self) -> tuple[str]:
        """Return the stream, so that fixtures need no primary key."""
        return (self.stream,)

    def definition(self) -> dict[str, object]:
        """Return the record as a JSON object, without default values, in the order of the published table."""
        document: dict[str, object] = {}
        for key in KEYS:
            value = getattr(self, key)
            if key in ("stream", "model") or value != _default(key):
                document[key] = list(value) if isinstance(value, tuple) else value
        return document

    def assign(self, document: Mapping[str, object]) -> Self:
        """Replace the whole record: keys that the document does not name get their defaults. Does not save."""
        for key in KEYS:
            setattr(self, key, document[key] if key in document else _default(key))
        return self

    def to_spec(self) -> BindingSpec:
        """Return the record as a ``BindingSpec``.

        Raises:
            ConfigError: The record breaks the schema.
        """
        return BindingSpec.from_dict(self.definition())

    def held(self) -> list[str]:
        """Return the names of the fields that wait to be accepted (see ``declbind.fields``)."""
        found = read_definition(self)
        return [] if found is None else [field.name for field in held_fields(*found)]

    def sent(self) -> list[str]:
        """Return the names of the fields that are sent; none for a record that cannot be read."""
        found = read_definition(self)
        return [] if found is None else [field.name for field in bound_fields(*found)]

    def accept(self, names: Iterable[str]) -> Self:
        """Make the next ``save()`` send held fields of these names. Does not save."""
        return self.send_only({*self.sent(), *names})

    def send_only(self, names: Iterable[str] | None) -> Self:
        """Make the next ``save()`` hold back all other fields of ``"__all__"`` or ``exclude``; none for ``None``.

        Does not save. Any other save holds back the same fields as before.
        """
        self.__dict__["_choice"] = Choice(None if names is None else frozenset(names))
        return self

    def problems(self) -> list[Problem]:
        """Return the problems of the record, including a stream that a file or a class already has."""
        _, problems = record_validation.validate_document(self.definition())
        taken = record_validation.reserved_streams().get(self.stream)
        if taken:
            problems.append(
                Problem(
                    "$.stream",
                    in_binding(
                        self.stream,
                        gettext(
                            "the stream is already defined by %(place)s. Choose another name, or take that binding "
                            "over."
                        )
                        % {"place": taken},
                    ),
                )
            )
        return problems

    def full_clean(
        self,
        exclude: Iterable[str] | None = None,
        validate_unique: bool = True,
        validate_constraints: bool = True,
    ) -> None:
        """Validate the record.

        Raises:
            ValidationError: The record is not valid. The keys are those of the record, and each text has its JSON path.
        """
        errors: dict[str, list[ValidationError]] = {}
        left_out = set(exclude or ())
        # JSON-valued keys, choices and patterns are validated as a record, which gives messages with a path.
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


def _default(key: str) -> object:
    field = BindingRecord._meta.get_field(key)
    assert isinstance(field, models.Field)
    return field.get_default()


def _validate_and_announce(
    using: str,
    before: Mapping[Key, BindingRecord],
    after: Mapping[Key, BindingRecord],
    skip_unchanged: bool = False,
) -> None:
    for pk, record in after.items():
        if not is_switched_off(before.get(pk), record):
            record.full_clean(validate_unique=False)
        _store_known(using, record, settle_known(before.get(pk), record))
    edits = compare(before, after)
    if skip_unchanged:
        edits = [edit for edit in edits if not edit.is_empty]
    announce(BindingRecord, using, edits)


def _store_known(using: str, record: BindingRecord, known: list[str] | None) -> None:
    if known != record.known:
        record.known = known
        # The base manager's query set is Django's own, which neither validates nor announces.
        BindingRecord._base_manager.using(using).filter(pk=record.pk).update(known=known)


def load_locked(using: str, condition: models.Q) -> dict[Key, BindingRecord]:
    """Return stored records by primary key, in the order of their streams. Lock them if the database supports it."""
    rows = BindingRecord.objects.using(using).filter(condition).order_by("stream")
    if connections[using].in_atomic_block:
        rows = rows.select_for_update()
    return {record.pk: record for record in rows}
