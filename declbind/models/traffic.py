"""Data for operators: requests with their outcome, refusals and errors. Also the keys of retried requests."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .author import MAX_KEY
from .columns import ExactCharField, ExactTextField


class Traffic(models.Model):
    """One request, refusal, connection or error. Written in batches, bounded, trimmed by the relay."""

    REQUEST = "request"
    REFUSED = "refused"
    ERROR = "error"
    CONNECTION = "connection"
    KINDS = ((REQUEST, _("request")), (REFUSED, _("refused")), (ERROR, _("error")), (CONNECTION, _("connection")))

    at = models.DateTimeField(db_index=True)
    kind = ExactCharField(max_length=10, choices=KINDS)
    node = ExactCharField(max_length=32, blank=True, default="")
    connection = ExactCharField(max_length=32, blank=True, default="")
    tenant = ExactCharField(max_length=63, blank=True, default="")
    user_pk = ExactCharField(max_length=64, blank=True, default="")
    username = ExactCharField(max_length=150, blank=True, default="")
    stream = ExactCharField(max_length=64, blank=True, default="")
    action = ExactCharField(max_length=20, blank=True, default="")
    object_pk = ExactCharField(max_length=200, blank=True, default="")
    groups = models.JSONField(default=list)
    outcome = ExactCharField(max_length=40, blank=True, default="")
    message = ExactTextField(blank=True, default="")
    milliseconds = models.FloatField(null=True)
    detail = ExactTextField(blank=True, default="", help_text=_("JSON: what else is known; shapes, never values."))

    class Meta:
        db_table = "declbind_traffic"
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{self.kind} {self.stream} {self.action} {self.outcome}"


class Watch(models.Model):
    """A viewer's lease on the full traffic of all processes. Without a live lease no requests are recorded."""

    viewer = ExactCharField(max_length=64, unique=True)
    until = models.DateTimeField()

    class Meta:
        db_table = "declbind_watch"

    def __str__(self) -> str:
        return self.viewer


class SavedView(models.Model):
    """A named filter of the live page; ``query`` is the query string of the page's address."""

    owner_pk = ExactCharField(max_length=MAX_KEY, help_text=_("The primary key of the user, as text."))
    name = ExactCharField(max_length=60)
    query = ExactCharField(max_length=500, blank=True, default="")

    class Meta:
        db_table = "declbind_savedview"
        ordering = ("name",)
        constraints = (models.UniqueConstraint(fields=("owner_pk", "name"), name="declbind_savedview_unique"),)

    def __str__(self) -> str:
        return self.name


class IdempotencyKey(models.Model):
    """The reply to a mutation. A retry with the same key gets the reply again instead of writing a second time."""

    actor = ExactCharField(max_length=100)
    stream = ExactCharField(max_length=64)
    key = ExactCharField(max_length=200)
    reply = ExactTextField(default="")
    created_at = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "declbind_idempotencykey"
        constraints = (
            models.UniqueConstraint(fields=("actor", "stream", "key"), name="declbind_idempotencykey_unique"),
        )

    def __str__(self) -> str:
        return f"{self.actor} {self.stream} {self.key}"
