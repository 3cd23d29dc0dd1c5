"""Store who is connected: one row for each WebSocket, and whom operators keep out for a while."""

from __future__ import annotations

from django.db import models

from .author import Authored
from .columns import ExactCharField, ExactTextField


class Connection(models.Model):
    """Note one WebSocket, open or lately closed. Its process writes it, in batches, once a second.

    ``subscriptions`` is JSON text without blanks, a list of ``[stream, group, until, after, reason]``: the subscription
    heard the events with offsets above ``after`` up to ``until``, which is ``null`` while it goes on; ``reason`` says
    why it ended ("client", "permission", "disabled", "removed", "changed"). Text, and in this order, so that each
    database finds who hears a group by the text ``["stream","group",null,``. ``offset`` and ``queued`` (frames that
    wait) are of the last write: while nobody watches only changes are written. A closed connection keeps its row for a
    time, so that it can be told later what it heard.
    """

    id = ExactCharField(max_length=32, primary_key=True)
    node = ExactCharField(max_length=32)
    tenant = ExactCharField(max_length=63, blank=True, default="")
    user_pk = ExactCharField(max_length=64, blank=True, default="")
    username = ExactCharField(max_length=150, blank=True, default="")
    address = ExactCharField(max_length=64, blank=True, default="", help_text="Masked: the network, not the host.")
    client = ExactCharField(max_length=150, blank=True, default="", help_text="What the client calls itself.")
    credential = ExactCharField(
        max_length=16, blank=True, default="", help_text='"session", "token", "scope" (set by middleware) or "".'
    )
    credential_ends_at = models.DateTimeField(null=True, help_text="When the token ends, if it does.")
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    close_code = models.PositiveIntegerField(null=True)
    close_reason = ExactCharField(max_length=120, blank=True, default="")
    offset = models.BigIntegerField(default=0, help_text="The last event handed to the connection's process.")
    queued = models.PositiveIntegerField(default=0)
    subscriptions = ExactTextField(default="[]")

    class Meta:
        db_table = "declbind_connection"
        ordering = ("opened_at", "id")
        permissions = (("disconnect", "Can disconnect clients and block users"),)
        indexes = (
            models.Index(fields=("user_pk",), name="declbind_connection_user"),
            models.Index(fields=("closed_at",), name="declbind_connection_closed"),
            models.Index(fields=("node",), name="declbind_connection_node"),
        )

    def __str__(self) -> str:
        return f"{self.username or 'anonymous'} {self.id}"


class Block(Authored):
    """Keep a user of a tenant from connecting until a time; made together with the kick that closes what is open."""

    tenant = ExactCharField(max_length=63, blank=True, default="")
    user_pk = ExactCharField(max_length=64)
    username = ExactCharField(max_length=150, blank=True, default="")
    until = models.DateTimeField()
    reason = ExactCharField(max_length=120, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "declbind_block"
        ordering = ("-created_at",)
        constraints = (models.UniqueConstraint(fields=("tenant", "user_pk"), name="declbind_block_unique"),)

    def __str__(self) -> str:
        return f"{self.username or self.user_pk} until {self.until}"
