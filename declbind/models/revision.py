"""The records of configuration edits: a revision for each, and the version that every process compares."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import NamedTuple

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils.translation import gettext_lazy as _

from declbind import signals
from declbind.django_types import User

from .author import Authored, author_values
from .columns import ExactCharField

#: The keys of a record that choose which fields are sent.
CHOOSING = ("model", "fields", "exclude", "sensitive", "grow")


class Edit(NamedTuple):
    """One edit: the definition of a stream before and after; ``None`` if there was or is no record.

    ``known`` is the value of ``BindingRecord.known`` before and after.
    """

    stream: str
    before: dict[str, object] | None
    after: dict[str, object] | None
    known: tuple[list[str] | None, list[str] | None] = (None, None)

    @property
    def is_empty(self) -> bool:
        """Whether the edit changes nothing."""
        return self.before == self.after and self.known[0] == self.known[1]

    def definitions(self) -> tuple[dict[str, object] | None, dict[str, object] | None]:
        """Return both definitions. They include ``known`` if nothing else shows that the sent fields differ."""
        if self.before is None or self.after is None or self.known[0] == self.known[1]:
            return self.before, self.after
        if any(self.before.get(key) != self.after.get(key) for key in CHOOSING):
            return self.before, self.after
        return {**self.before, "known": self.known[0]}, {**self.after, "known": self.known[1]}


_editor: ContextVar[tuple[User | None, str, str]] = ContextVar("declbind_editor", default=(None, "", ""))


@contextlib.contextmanager
def editing(author: User | None = None, note: str = "", source: str = "") -> Iterator[None]:
    """Set the author, the note and the source file of the revisions that are made inside the block.

    ``author`` is a user or ``None``. The block is local to the thread or task.
    """
    token = _editor.set((author, note, source))
    try:
        yield
    finally:
        _editor.reset(token)


class Configuration(models.Model):
    """The number of edits of the binding records: one row, raised inside the transaction of each edit.

    ``generation`` is random and changes whenever the row is inserted again, for example after a flush. Version 3 of
    another history is therefore never taken for an older state of this one.
    """

    generation = ExactCharField(max_length=32)
    version = models.PositiveBigIntegerField(default=0)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "declbind_configuration"

    def __str__(self) -> str:
        return f"version {self.version}"

    @staticmethod
    def ensure(using: str) -> None:
        """Insert the row if it is missing. Any number of processes may do so at once."""
        rows = Configuration.objects.using(using)
        if not rows.filter(pk=1).exists():
            rows.bulk_create([Configuration(pk=1, generation=secrets.token_hex(16))], ignore_conflicts=True)

    @classmethod
    def bump(cls, using: str) -> int:
        """Raise the version by one and return it. Locks the row until the transaction ends.

        Because of the lock, versions become visible in order.
        """
        cls.ensure(using)
        row = cls.objects.using(using).select_for_update().get(pk=1)
        row.version += 1
        row.save(using=using)
        return row.version


class BindingRevision(Authored):
    """A record as it was after an edit; ``definition`` is null if the edit removed it."""

    stream = ExactCharField(_("stream"), max_length=64, db_index=True)
    definition = models.JSONField(_("definition"), null=True, encoder=DjangoJSONEncoder)
    #: The fields that "__all__" or exclude might send after the edit; null if the record names its fields.
    known = models.JSONField(null=True, blank=True, default=None, editable=False)
    version = models.PositiveBigIntegerField(_("version"), help_text=_("The configuration version that the edit made."))
    note = ExactCharField(_("note"), max_length=500, blank=True, default="")
    source = ExactCharField(
        _("source"),
        max_length=200,
        blank=True,
        default="",
        help_text=_("The file that the record was applied or imported from."),
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        db_table = "declbind_bindingrevision"
        verbose_name = _("binding revision")
        verbose_name_plural = _("binding revisions")
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.stream} at version {self.version}"


def announce(sender: type[models.Model], using: str, edits: Sequence[Edit]) -> None:
    """Record edits inside their transaction: the version, a signal, and the revisions.

    The signal gives the transaction its own registry, and appends a control event to the log. It is sent right after
    the version is raised. Before that, a read of the configuration would take the edit for a committed one.
    """
    if not edits:
        return
    version = Configuration.bump(using)
    changes = {edit.stream: edit.definitions() for edit in edits}
    signals.configuration_edited.send(sender=sender, using=using, version=version, changes=changes)
    author, note, source = _editor.get()
    BindingRevision.objects.using(using).bulk_create(
        BindingRevision(
            stream=edit.stream,
            definition=edit.after,
            known=edit.known[1],
            version=version,
            **author_values(author),
            note=note[:500],
            source=source[:200],
        )
        for edit in edits
    )
