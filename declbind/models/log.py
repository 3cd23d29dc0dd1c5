"""The event log: all captured changes, in an order that is the same for every reader."""

from __future__ import annotations

from django.db import models

from .columns import ExactCharField, ExactTextField, PartialIndex, PartialUnique


class Head(models.Model):
    """The two ends of the log: one row, which the relay locks while it gives out numbers.

    ``seq`` is the last number given. It is unused on SQLite, where the id of an event is its number. Events below
    ``min_seq`` have been trimmed. ``epoch`` is random and changes when a new history begins, which makes older offsets
    meaningless. ``trimmed_until`` is the time of the last trimmed event. ``incarnation`` identifies the tables
    themselves, which a restore replaces.
    """

    epoch = ExactCharField(max_length=32)
    seq = models.BigIntegerField(default=0)
    min_seq = models.BigIntegerField(default=1)
    trimmed_until = models.DateTimeField(null=True)
    incarnation = ExactCharField(max_length=100, blank=True, default="")

    class Meta:
        db_table = "declbind_head"

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}"


class Event(models.Model):
    """One write of one row for one binding, or a change of permissions or configuration.

    ``kind`` is one of:

    - "row": the row was written.
    - "gone": the row was deleted.
    - "payload": the row was written, and the binding makes its own payloads.
    - "bulk": more rows were written than are reported one by one.
    - "control": permissions or the configuration changed.
    - "mark": a note of a database trigger. It is replaced by events before the log is read.
    - "expired": the values were removed because they were older than the retention of the binding.

    ``changes`` is a JSON list of ``[group, action]``. For "bulk" and "expired" the action is "resync", and "*" as the
    group means all groups. ``data`` is the JSON text of the sent fields; for "payload" it is ``{action: payload}``, and
    for "control" it describes the change. ``object_pk`` is the primary key as a JSON scalar. ``version`` is the
    configuration with which the event was written. ``tenant`` is the tenant of the event, or "" for all tenants. Most
    sites have only one. ``process`` is the host and the number of the process that made the event, and ``code`` the
    digest of its models, files and binding classes.
    """

    ROW = "row"
    GONE = "gone"
    PAYLOAD = "payload"
    BULK = "bulk"
    MARK = "mark"
    CONTROL = "control"
    EXPIRED = "expired"
    #: The kinds that hold no row and only say that a new snapshot is needed.
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
    process = ExactCharField(max_length=100, blank=True, default="")
    code = ExactCharField(max_length=16, blank=True, default="")
    created_at = models.DateTimeField()

    class Meta:
        db_table = "declbind_event"
        ordering = ("id",)
        # The index is partial where possible, because each insert pays for each index. On SQLite, seq stays null.
        constraints = (
            PartialUnique(fields=("seq",), name="declbind_event_sequenced", where=models.Q(seq__isnull=False)),
        )
        # Migrations remove the first index on SQLite, and the last one on databases where it would equal the second.
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
