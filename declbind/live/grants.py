"""The grant of a subscription: the check of the user's permission, and the group that the params select.

All functions read the database, unless they say otherwise, and belong in a worker thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from declbind import registry as registries
from declbind.bindings import Binding
from declbind.core import course, frames
from declbind.core.errors import ClientError
from declbind.fields import concrete_field
from declbind.inbound import permissions
from declbind.outbound import log
from declbind.stored_values import comparable

from . import replays
from .proofs import Holder

#: The error message if the token does not cover the stream. It does not disclose whether the stream exists.
NOT_COVERED = "The token is not for this stream."


@dataclass(frozen=True)
class Granted:
    """A subscription that is allowed.

    Attributes:
        params: The params, with the values that the scope filled in.
        resync: The reason why missed events cannot be replayed, or ``None``.
        head: The last offset of the log when the permission was checked; 0 if nothing is to be replayed.
        held_from: The offset since which the user has held the permission, according to the client's proof.
    """

    bound: Binding
    group: str
    params: Mapping[str, object]
    resync: str | None = None
    head: int = 0
    held_from: int | None = None


def grant(
    using: str, epoch: str, binding: type[Binding], request: frames.Request, identity: permissions.Identity
) -> Granted:
    """Return the grant of a ``subscribe`` request.

    Raises:
        ClientError: The subscription is not allowed.
    """
    registries.check_version()
    bound, group, params = check_request(using, binding, request, identity)
    if request.since is None or request.snapshot:
        return Granted(bound, group, params)
    since, head = request.since, log.load_head(using)
    held_from = holder_of(since.epoch, request, group, identity).read(since.resume)
    if held_from is None or since.offset < held_from:
        return Granted(bound, group, params, resync="unproven", head=head.offset)
    obstacle = replays.find_obstacle(head, epoch, since) or replays.find_break(
        request.stream, since.offset, identity, using
    )
    return Granted(bound, group, params, obstacle, head.offset, held_from if obstacle is None else None)


def holder_of(epoch: str, request: frames.Request, group: str, identity: permissions.Identity) -> Holder:
    """Return the holder of the permission that a request asks for. Makes no query."""
    return Holder(epoch, identity.user_pk, request.stream, group, identity.tenant)


def check_request(
    using: str, binding: type[Binding], request: frames.Request, identity: permissions.Identity
) -> tuple[Binding, str, dict[str, object]]:
    """Check a subscription against the current state of the database.

    Returns:
        The binding for the user, the group, and the params.

    Raises:
        ClientError: The subscription is not allowed.
    """
    course.enter(course.Check.DIRECTION)
    if not binding.spec().outbound:
        raise ClientError("closed_direction", f"Stream {request.stream!r} sends nothing.")
    course.enter(course.Check.WHO)
    user = permissions.load_current_user(identity)
    if user is None:
        raise ClientError("denied", "The session is over.")
    if not identity.covers(request.stream):
        # The token was replaced by a token for other streams after the request arrived.
        raise ClientError("denied", NOT_COVERED)
    # Rows are read from the database of the log, in one transaction with it, and never from a replica.
    bound = binding(user=user, using=using)
    group, params = check_subscriber(bound, request.params)
    return bound, group, params


def check_subscriber(bound: Binding, sent: Mapping[str, object]) -> tuple[str, dict[str, object]]:
    """Return the group and the params of a subscription, if the binding's user may have it.

    Raises:
        ClientError: The user may not have it.
    """
    if not bound.overrides("has_view_permission") and not bound.has_view_permission(bound.user, {}):
        # The rule is checked first, because it needs no params, and errors about params would disclose field names.
        course.enter(course.Check.SCOPE, bound)
        course.enter(course.Check.PERMISSION, {})
        raise ClientError("denied", "Not allowed.")
    group, params = locate(bound, sent)
    course.enter(course.Check.PERMISSION, params)
    if not bound.has_view_permission(bound.user, params):
        raise ClientError("denied", "Not allowed.")
    return group, params


def locate(bound: Binding, sent: Mapping[str, object]) -> tuple[str, dict[str, object]]:
    """Return the group, and the params converted to values of the fields.

    The conversion matters for permission rules: a rule that knows room 3 must not be called with "03".
    """
    course.enter(course.Check.SCOPE, bound)
    params = _full_params(bound, sent)
    course.enter(course.Check.GROUP, params)
    group = bound.subscription_group(bound.user, params)
    if group is None:
        raise ClientError("invalid", f"Stream {bound.stream!r} cannot be subscribed to with params.")
    return group, params if bound.overrides("group_names", "subscription_group") else bound.param_values(params)


def _full_params(bound: Binding, params: Mapping[str, object]) -> dict[str, object]:
    """Fill in the scope's params from the user.

    Raises:
        ClientError: The client has sent other values (``denied``).
    """
    full = dict(params)
    for name, value in bound.scope_values().items():
        if value is None:
            raise ClientError("denied", "Not allowed.")
        if name in full:
            field = concrete_field(bound.model_class(), name)
            sent = bound.param_values({name: full[name]})[name]
            if comparable(field, sent) != comparable(field, value):
                raise ClientError("denied", "Not allowed.")
        full[name] = value
    return full


def group_of(
    binding: type[Binding], params: Mapping[str, object], identity: permissions.Identity, is_subscriber: bool
) -> str:
    """Return the group that params select. A client without a subscription must hold the permission to subscribe.

    Raises:
        ClientError: The params select no group, or the user lacks the permission.
    """
    bound = binding(user=permissions.load_user(identity))
    group, _ = locate(bound, params) if is_subscriber else check_subscriber(bound, params)
    return group
