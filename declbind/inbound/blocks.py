"""Temporary blocks of users: their connections are closed, and new ones are refused until the block ends."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from declbind.django_types import User
from declbind.models import Block
from declbind.models.author import author_values
from declbind.registry import database_alias
from declbind.tenancy import EVERYBODY

from .revocation import append_kick, reach_of_kick

LONGEST = timedelta(days=365)


def block(
    user_pk: str,
    length: timedelta,
    *,
    username: str = "",
    reason: str = "",
    author: User | None = None,
    tenant: str | None = None,
) -> Block:
    """Block a user, given by key, from now on for ``length``, and close all connections of that user.

    An existing block is replaced. ``tenant`` is the tenant of the user; the default is the same as that of
    :func:`declbind.inbound.revocation.kick`. Anonymous clients cannot be blocked, because they cannot be told apart.

    Raises:
        ValueError: The length is not positive, or is more than a year.
    """
    if not user_pk:
        raise ValueError("block() expected the key of a user, got none.")
    if not timedelta(0) < length <= LONGEST:
        raise ValueError(f"block() expected a length of up to {LONGEST.days} days, got {length}.")
    using = database_alias()
    tenant = reach_of_kick(user_pk, tenant)
    with transaction.atomic(using=using):
        # The block must be stored first. A connection that does not see it yet exists when the kick is read, and is
        # closed.
        row, _ = Block.objects.using(using).update_or_create(
            tenant=tenant,
            user_pk=user_pk,
            defaults={
                "username": username[:150],
                "until": timezone.now() + length,
                "reason": reason[:120],
                **author_values(author),
            },
        )
        text = reason or "Blocked by an operator."
        append_kick({"connection": None, "user": user_pk, "reason": text, "blocked": True}, tenant)
    return row


def unblock(user_pk: str, tenant: str | None = None) -> bool:
    """End the block of a user; return whether there was one."""
    blocks = Block.objects.using(database_alias())
    count, _ = blocks.filter(user_pk=user_pk, tenant=reach_of_kick(user_pk, tenant)).delete()
    return bool(count)


def find_block(user_pk: str | None, tenant: str = "") -> Block | None:
    """Return the block that is in force for a user of a tenant."""
    if user_pk is None:
        return None
    blocks = Block.objects.using(database_alias()).filter(user_pk=user_pk, until__gt=timezone.now())
    return blocks.filter(tenant__in=(EVERYBODY, tenant)).first()
