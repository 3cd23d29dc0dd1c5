"""The processes that serve sockets, and the configuration that each of them runs."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .columns import ExactCharField, ExactTextField


class Node(models.Model):
    """The heartbeat of one ASGI process. If the row is not renewed, the process is dead."""

    id = ExactCharField(max_length=32, primary_key=True)
    host = ExactCharField(_("host"), max_length=200)
    pid = models.PositiveIntegerField(_("process number"))
    generation = ExactCharField(_("epoch of the configuration"), max_length=32, blank=True, default="")
    version = models.BigIntegerField(_("version of the configuration"), default=0)
    digest = ExactCharField(
        _("hash of the configuration"),
        max_length=16,
        blank=True,
        default="",
        help_text=_("Hash of the configuration in force."),
    )
    code = ExactCharField(
        _("hash of the code"),
        max_length=16,
        blank=True,
        default="",
        help_text=_("Hash of the models, files and binding classes."),
    )
    connections = models.PositiveIntegerField(_("connections"), default=0)
    subscriptions = models.PositiveIntegerField(_("subscriptions"), default=0)
    offset = models.BigIntegerField(_("offset"), default=0, help_text=_("The last event handed to the connections."))
    streams = models.JSONField(_("streams"), default=dict, help_text=_("Subscriptions by stream."))
    dropped = models.PositiveBigIntegerField(
        _("unrecorded refusals and errors"),
        default=0,
        help_text=_("Refusals and errors that were not recorded, because there were too many."),
    )
    last_error = ExactTextField(_("last error"), blank=True, default="")
    started_at = models.DateTimeField(_("started at"))
    seen_at = models.DateTimeField(_("last seen at"))

    class Meta:
        db_table = "declbind_node"
        verbose_name = _("process")
        verbose_name_plural = _("processes")
        ordering = ("started_at", "id")

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"
