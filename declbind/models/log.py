"""Store the event log: what happened, in an order that every reader agrees on."""

from __future__ import annotations

from django.db import models

from .columns import ExactCharField, ExactTextField, PartialIndex, PartialUnique


class Head(models.Model):
    """Mark the two ends of the log: one row, which the relay locks while it gives out numbers.

    ``seq`` is the last number given (unused on SQLite, where the event's id is its number); events below ``min_seq``
    have been trimmed. ``epoch`` is random, and new when the history is another one: older offsets mean nothing then.
    ``incarnation`` names the tables themselves, which a restore replaces.
    """

    epoch = ExactCharField(max_length=32)
    seq = models.BigIntegerField(default=0)
    min_seq = models.BigIntegerField(default=1)
    incarnation = ExactCharField(max_length=100, blank=True, default="")

    class Meta:
        db_table = "declbind_head"

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}"


class Event(models.Model):
    """Note one write of one row for one binding, or a change of rights or configuration.

    ``kind`` is "row" (the row was written), "gone" (it was deleted), "payload" (the binding makes its own payloads),
    "bulk" (more rows were written than are told of one by one), "control", "mark" (what a database trigger noted:
    events are made of it before anybody reads it), or "expired" (its values were taken out, because they were older
    than the retention of its binding). ``changes`` is a JSON list of ``[group, action]``; with "bulk" and "expired" the
    action is "resync", and the group "*" stands for all. ``data`` is the JSON text of the sent fields, with "payload"
    of ``{action: payload}``, with "control" of what changed. ``object_pk`` is the primary key as a JSON scalar.
    ``version`` is the configuration under which the writer made it. ``tenant`` is the one that it is for, "" for all
    tenants, of which most sites have one.
    """

    ROW = "row"
    GONE = "gone"
    PAYLOAD = "payload"
    BULK = "bulk"
    MARK = "mark"
    CONTROL = "control"
    EXPIRED = "expired"
    #: The kinds that tell nothing of a row, only that a snapshot has to be taken.
    WORDLESS = (BULK, EXPIRED)

    id = models.BigAutoField(primary_key=True)
    seq = models.BigIntegerField(null=True)
    kind = ExactCharField(max_length=8, default=ROW)
    stream = ExactCharField(max_length=64, blank=True, default="")
    model = ExactCharField(max_length=200, blank=True, default="")
    object_pk = ExactTextField(blank=True, default="")
    changes = ExactTextField(default="[]")
    data = ExactTextField(default="{}")
    version = models.BigIntegerField(default=0)
    actor = ExactCharField(max_length=150, blank=True, default="")
    origin = ExactCharField(max_length=150, blank=True, default="")
    tenant = ExactCharField(max_length=63, blank=True, default="")
    created_at = models.DateTimeField()

    class Meta:
        db_table = "declbind_event"
        ordering = ("id",)
        # Partial where possible: an insert pays for each index that it enters. On SQLite, seq stays null.
        constraints = (
            PartialUnique(fields=("seq",), name="declbind_event_sequenced", where=models.Q(seq__isnull=False)),
        )
        # Migrations remove the first on SQLite, and the last where it would be the same as the second.
        indexes = (
            PartialIndex(
                fields=("id",), name="declbind_event_unsequenced", where=models.Q(seq__isnull=True), whole=("seq",)
            ),
            PartialIndex(
                fields=("id",), name="declbind_event_control", where=models.Q(kind="control"), whole=("kind",)
            ),
            PartialIndex(fields=("id",), name="declbind_event_mark", where=models.Q(kind="mark"), whole=("kind",)),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.id} {self.stream} {self.object_pk}"
