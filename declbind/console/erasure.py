"""The erasure of stored data about a row or a user, for requests under privacy law.

The log keeps the values of written rows for as long as clients may resume. An erased event becomes a ``resync``.
Offsets therefore have no gap, and subscribers take a snapshot. The project's own rows are not changed.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeVar

from django.apps import apps
from django.contrib.auth.models import AnonymousUser
from django.db import models, transaction
from django.db.models import Model
from django.utils.translation import gettext

from declbind import tenancy
from declbind.core.errors import ConfigError
from declbind.core.frames import EVERY_GROUP, RESYNC
from declbind.django_types import User, concrete_model
from declbind.inbound.idempotency import name_actor
from declbind.models import (
    BindingRevision,
    Block,
    Connection,
    Event,
    IdempotencyKey,
    SavedView,
    Traffic,
    Watch,
)
from declbind.models.author import MAX_NAME
from declbind.outbound import entries, expiry, log, sequencer
from declbind.registry import current_registry
from declbind.serializers import encode_key

from .shown import viewed_tenant

Stored = TypeVar("Stored", bound=Model)


@dataclass(frozen=True)
class Erasure:
    """The result of an erasure.

    Attributes:
        counts: The number of erased rows by table; tables without any are left out.
        streams: The streams whose subscribers are sent a ``resync``.
    """

    counts: dict[str, int]
    streams: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """Return the result as JSON values."""
        return {"erased": self.counts, "streams": list(self.streams)}


def forget_row(label: str, pk: str, using: str) -> Erasure:
    """Erase the values of a row from the log and the traffic. The row need not exist any more.

    Args:
        label: The model, as ``app_label.ModelName``. Its parents and children count as the same row.
        pk: The primary key as text.

    Raises:
        ConfigError: There is no such model, or no row can have this key.
    """
    model = _find_model(label)
    tenant = _tenant_of(model)
    try:
        key = model._meta.pk.to_python(pk)
    except Exception:  # A field of the project may raise anything for an invalid text.
        text = gettext("Expected the primary key of a %(model)s, got %(given)r.")
        raise ConfigError(text % {"model": label, "given": pk}) from None
    sequencer.settle(using)
    with transaction.atomic(using=using):
        return _forget_rows(_family(model), encode_key(key, model._meta.pk), using, tenant)


def forget_user(user: User, using: str) -> Erasure:
    """Erase a user's name from the log, traffic, connections and revisions, and the values of the user's row.

    The rows of open connections stay. Call this again after the connections are closed.

    Raises:
        ConfigError: The user is an anonymous one, or belongs to a tenant that must be named.
    """
    if isinstance(user, AnonymousUser):
        raise ConfigError(gettext("Expected the name or the key of a user: anonymous visitors are not stored by name."))
    key, name = str(user.pk), str(user.get_username())
    model = concrete_model(type(user))
    tenant = _tenant_of(model)
    sequencer.settle(using)
    with transaction.atomic(using=using):
        erased = _forget_rows(_family(model), encode_key(user.pk, model._meta.pk), using, tenant)
        counts = dict(erased.counts)

        def count(what: type[models.Model], number: int) -> None:
            if number:
                label = what._meta.db_table
                counts[label] = counts.get(label, 0) + number

        events = _of(tenant, Event, using).exclude(kind=Event.CONTROL)
        count(Event, events.filter(actor=name).update(actor=""))
        traffic = _of(tenant, Traffic, using)
        count(
            Traffic,
            traffic.filter(models.Q(user_pk=key) | models.Q(username=name)).update(
                user_pk="", username="", connection="", message="", detail="", object_pk="", groups=[]
            ),
        )
        closed = _of(tenant, Connection, using).filter(user_pk=key, closed_at__isnull=False)
        count(Connection, closed.delete()[0])
        for written in (BindingRevision, Block):
            authored = written.objects.using(using).filter(author_pk=key)
            if tenant is not None:
                # These rows have no tenant: users of two tenants with the same key may have the same name.
                authored = authored.filter(author_name=name[:MAX_NAME])
            count(written, authored.update(author_pk="", author_name=""))
        count(Block, _of(tenant, Block, using).filter(user_pk=key).delete()[0])
        owner = tenancy.owner_key(model, key, using)
        count(SavedView, SavedView.objects.using(using).filter(owner_pk=owner).delete()[0])
        count(Watch, Watch.objects.using(using).filter(viewer=f"admin:{key}").delete()[0])
        count(IdempotencyKey, IdempotencyKey.objects.using(using).filter(_by(user, key, tenant)).delete()[0])
    return Erasure(counts, erased.streams)


def _tenant_of(model: type[Model]) -> str | None:
    """Return the tenant to which a row or user of ``model`` belongs, or ``None`` for all tenants.

    Raises:
        ConfigError: The tenant must be named.
    """
    tenant = viewed_tenant()
    if not tenancy.is_on() or tenancy.is_shared(model) or (tenant is None and tenancy.may_be_shared(model)):
        return None
    if not tenant:
        text = gettext("Expected the name of a tenant with --tenant: each has a %(model)s of its own with this key.")
        raise ConfigError(text % {"model": model._meta.label})
    return tenant


def _of(tenant: str | None, model: type[Stored], using: str) -> models.QuerySet[Stored]:
    """Return the rows of one of declbind's tables that belong to a tenant; ``None`` means all tenants."""
    rows: models.QuerySet[Stored] = model._default_manager.using(using)
    return rows if tenant is None else rows.filter(tenant=tenant)


def _by(user: User, key: str, tenant: str | None) -> models.Q:
    """Return the condition for idempotency keys that a user has used."""
    by = models.Q(actor=name_actor(user, "", tenant or ""))
    # If tenants share their users, the keys of all tenants are included.
    return by | models.Q(actor__endswith=f', "user:{key}"]') if tenancy.is_on() and tenant is None else by


def _forget_rows(family: Collection[type[models.Model]], key: str, using: str, tenant: str | None) -> Erasure:
    labels = {model._meta.label_lower for model in family}
    events = _of(tenant, Event, using).filter(model__in=labels, object_pk=key).exclude(kind__in=_WITHOUT_ROW)
    streams = set(events.values_list("stream", flat=True))
    counts = {}
    # The groups are replaced as well, because a template may have put a value of the row into a name.
    if erased := expiry.empty(events, Event.BULK):
        counts[Event._meta.db_table] = erased
    bound = {
        stream
        for stream, binding in current_registry().by_stream.items()
        if binding.model_class()._meta.label_lower in labels
    }
    plain = json.loads(key)
    shown = _of(tenant, Traffic, using).filter(stream__in=streams | bound, object_pk__in=(key, str(plain)))
    if erased := shown.update(object_pk="", groups=[], message="", detail=""):
        counts[Traffic._meta.db_table] = erased
    if streams:
        # Processes keep recent events in memory, and clients keep the rows that they have received.
        reach = tenancy.EVERYBODY if tenant is None else tenant
        log.append_control({"type": "forgotten", "streams": sorted(streams)}, using, tenant=reach)
        log.append_for(reach, [_resync_of(stream) for stream in sorted(streams)], using)
    return Erasure(counts, tuple(sorted(streams)))


_WITHOUT_ROW = (Event.CONTROL, Event.BULK, Event.EXPIRED, Event.MARK)


def _resync_of(stream: str) -> entries.Draft:
    return entries.Draft(
        stream, "", "null", ((EVERY_GROUP, RESYNC),), version=current_registry().version, kind=Event.BULK
    )


def _find_model(label: str) -> type[models.Model]:
    try:
        return apps.get_model(label)
    except (LookupError, ValueError):
        text = gettext("Expected a model as app_label.ModelName, got %(given)r: there is no such model.")
        raise ConfigError(text % {"given": label}) from None


def _family(model: type[models.Model]) -> list[type[models.Model]]:
    """Return the models whose rows share a key: the model, its parents, its children and their proxies."""
    roots = {*model._meta.all_parents, model}
    return [member for member in apps.get_models() if any(issubclass(member, root) for root in roots)]
