"""Connections, with one row for each WebSocket, and temporary blocks of users."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .author import Authored
from .columns import ExactCharField, ExactTextField


class Connection(models.Model):
    """One WebSocket, open or recently closed. Its process writes the row, in batches, once a second.

    ``subscriptions`` is JSON text without blanks, a list of ``[stream, group, until, after, reason]``: the
    subscription received the events with offsets above ``after`` up to ``until``, which is ``null`` while it is
    active. ``reason`` says why it ended ("client", "permission", "disabled", "removed", "changed"). The text form,
    in this order, lets each database find the subscribers of a group by the text ``["stream","group",null,``.
    ``offset`` and ``queued`` (waiting frames) date from the last write: while nobody watches the connections page,
    only changes are written. A closed connection keeps its row for a time, so that its last deliveries can still be
    explained.
    """

    id = ExactCharField(max_length=32, primary_key=True)
    node = ExactCharField(max_length=32)
    tenant = ExactCharField(max_length=63, blank=True, default="")
    user_pk = ExactCharField(max_length=64, blank=True, default="")
    username = ExactCharField(max_length=150, blank=True, default="")
    address = ExactCharField(max_length=64, blank=True, default="", help_text=_("Masked: the network, not the host."))
    client = ExactCharField(max_length=150, blank=True, default="", help_text=_("What the client calls itself."))
    credential = ExactCharField(
        max_length=16, blank=True, default="", help_text=_('"session", "token", "scope" (set by middleware) or "".')
    )
    credential_ends_at = models.DateTimeField(null=True, help_text=_("When the token ends, if it does."))
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    close_code = models.PositiveIntegerField(null=True)
    close_reason = ExactCharField(max_length=120, blank=True, default="")
    offset = models.BigIntegerField(default=0, help_text=_("The last event handed to the connection's process."))
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
    """A temporary block of a tenant's user, created together with the disconnect of open sockets."""

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
