"""Trials of a subscription, which run the code that grants it, and check whether its snapshot would show a row."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import connections, transaction
from django.db.models import Model
from django.utils.translation import gettext

from declbind import value_validation
from declbind.bindings import Binding
from declbind.console.visibility import is_visible, subscriptions_to
from declbind.core import course
from declbind.core.course import Check
from declbind.core.errors import ClientError
from declbind.core.frames import Request
from declbind.core.spec import BindingSpec
from declbind.django_types import User
from declbind.inbound.permissions import Identity
from declbind.live import grants
from declbind.live.conversation import FAULT

#: The steps of a subscription in order.
STEPS = (Check.BINDING, Check.REQUEST, Check.DIRECTION, Check.WHO, Check.SCOPE, Check.GROUP, Check.PERMISSION)
#: Methods of a binding through which project code takes part in a subscription.
CODE = ("has_view_permission", "subscription_group", "group_names", "get_queryset", "scoped", "scope_values", "rule")


@dataclass
class Passage(course.Follower):
    """What happened during one tried subscription: the checks that were entered, and their results."""

    entered: list[Check] = field(default_factory=list)
    found: dict[str, Any] = field(default_factory=dict)

    def enter(self, step: Check, found: object) -> None:
        """Record a check and its result."""
        self.entered.append(step)
        if found is not None:
            self.found[step] = found


@dataclass(frozen=True)
class Grant:
    """The result of a tried subscription: the grant or the refusal. ``fault`` is the cause of an ``internal`` error."""

    passage: Passage
    params: Mapping[str, object]
    bound: Binding | None = None
    group: str = ""
    full: Mapping[str, object] = field(default_factory=dict)
    error: ClientError | None = None
    fault: BaseException | None = None

    @property
    def asker(self) -> Binding | None:
        """The binding with its user, if the request came that far, even if it was refused."""
        asker: Binding | None = self.bound or self.passage.found.get(Check.SCOPE)
        return asker


@dataclass(frozen=True)
class RowVisibility:
    """Whether a granted subscription shows a row, and if not, why. For operators, not for clients.

    ``scope`` are the fields by which the row belongs to another user, if that is the reason.
    """

    is_seen: bool
    text: str
    scope: tuple[str, ...] = ()


@contextlib.contextmanager
def rolled_back(binding: type[Binding], using: str, *methods: str) -> Iterator[None]:
    """Roll back everything that project code does inside the block.

    If there is no project code, no transaction is begun, because on SQLite it would block writers.
    """
    if not connections[using].in_atomic_block and not binding.runs_code() and not binding.overrides(*methods):
        yield
        return
    with transaction.atomic(using=using):
        try:
            yield
        finally:
            transaction.set_rollback(True, using=using)


def try_subscription(request: Request, binding: type[Binding], identity: Identity, using: str) -> Grant:
    """Request one subscription and return its grant. Nothing is subscribed."""
    passage = Passage()
    try:
        with rolled_back(binding, using, *CODE), course.followed(passage):
            bound, group, full = grants.check_request(using, binding, request, identity)
    except ClientError as error:
        return Grant(passage, request.params, error=error)
    except Exception as fault:
        return Grant(passage, request.params, error=ClientError("internal", FAULT), fault=fault)
    return Grant(passage, request.params, bound, group, full)


def find_row(binding: type[Binding], pk: object, using: str) -> Model | None:
    """Return the stored row with a key, even if the binding does not cover it; ``None`` if there is none."""
    model = binding.model_class()
    try:
        key = value_validation.coerce(model._meta.pk, pk)
    except ValueError:
        return None
    return model._base_manager.using(using).filter(pk=key).first()


def choose_params(binding: type[Binding], row: Model, user: User, using: str) -> list[dict[str, object]]:
    """Return the params of the subscriptions that include a row; an empty list if there are none."""
    bound = binding(user=user, using=using)
    try:
        with rolled_back(binding, using, *CODE):
            groups = list(bound.group_names(row)) if bound.is_inside(row) else []
            found = [params for _, params in subscriptions_to(bound, row, groups) if params is not None]
    except Exception:
        found = []  # The subscription itself will report it.
    return found or [{}]


def look_for_row(grant: Grant, row: Model | None, pk: object, using: str) -> RowVisibility:
    """Return whether the snapshot of a granted subscription would show the row."""
    assert grant.bound is not None
    bound, model = grant.bound, grant.bound.model_class()
    if row is None:
        return RowVisibility(False, describe_missing(model, pk))
    try:
        with rolled_back(type(bound), using, *CODE):
            if is_visible(bound, grant.group, grant.full, row.pk):
                return RowVisibility(True, gettext("The row is in group %(group)s.") % {"group": grant.group})
            return _explain_unseen(bound, row, grant.group)
    except Exception as fault:
        text = gettext("The binding's code failed: %(fault)s")
        return RowVisibility(False, text % {"fault": f"{type(fault).__name__}: {fault}"})


def describe_missing(model: type[Model], pk: object) -> str:
    """Return the sentence that there is no row with a key."""
    return gettext("There is no %(model)s with the key %(key)s.") % {"model": model._meta.label, "key": f"{pk!r:.60}"}


def describe_foreign(spec: BindingSpec) -> str:
    """Return the sentence that a row belongs to another user."""
    return gettext("The row belongs to another user (scope: %(fields)s).") % {"fields": ", ".join(spec.scope)}


def _explain_unseen(bound: Binding, row: Model, group: str) -> RowVisibility:
    kept_out = bound.outside_where(row)
    spec = bound.resolved().spec
    if kept_out:
        text = gettext("The row is outside 'where' (%(conditions)s): for this stream it does not exist.")
        return RowVisibility(False, text % {"conditions": ", ".join(kept_out)})
    if spec.scope and not bound.scoped(bound.get_queryset()).filter(pk=row.pk).exists():
        return RowVisibility(False, describe_foreign(spec), tuple(spec.scope))
    groups = list(bound.group_names(row))
    if not groups:
        return RowVisibility(False, gettext("The row is in no group: a field that its group template needs is null."))
    text = gettext("The row is in %(groups)s, not in %(group)s.")
    return RowVisibility(False, text % {"groups": ", ".join(groups), "group": group})
