"""The rows that a user sees, and the users who see a row, computed by the code of snapshots and subscriptions."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.db import router
from django.db.models import Model
from django.utils.translation import gettext

from declbind.bindings import Binding
from declbind.core.errors import ClientError
from declbind.core.groups import match_template
from declbind.fields import concrete_field
from declbind.live import grants, snapshots
from declbind.serializers import encode_key, encode_value

SHOWN_ROWS = 50
#: The number of rows that are examined if project code computes groups, because it is called for each row.
EXAMINED_ROWS = 500
SHOWN_VIEWERS = 50
EXAMINED_USERS = 200
#: The seconds after which no further user is examined, because a rule may be slow project code.
EXAMINED_SECONDS = 5.0


@dataclass(frozen=True)
class VisibleRow:
    """One row as a snapshot would send it."""

    pk: object
    data: Mapping[str, object]


@dataclass(frozen=True)
class VisibleRows:
    """The first rows of a subscription; ``is_all`` says that there are no more."""

    group: str
    shown: tuple[VisibleRow, ...]
    is_all: bool
    fault: str = ""
    is_shape: bool = False

    def words(self) -> str:
        """Return the number of rows in words."""
        words = {"group": self.group, "fault": self.fault, "count": len(self.shown)}
        if self.fault:
            return gettext("Rows in group %(group)s cannot be shown: %(fault)s") % words
        if self.is_all:
            return gettext("Rows in group %(group)s: %(count)s.") % words
        return gettext("Rows in group %(group)s: the first %(count)s, there are more.") % words

    def as_json(self) -> dict[str, object]:
        """Return the rows as JSON values."""
        rows = [{"pk": row.pk, "data": dict(row.data)} for row in self.shown]
        return {"group": self.group, "rows": rows, "is_all": self.is_all, "fault": self.fault}


@dataclass(frozen=True)
class Viewer:
    """One user who may have a subscription that includes the row."""

    user_pk: str
    username: str
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Viewers:
    """The users who may see a row, among the first active users.

    ``found`` is their number. ``is_all`` says whether all users were examined.
    """

    shown: tuple[Viewer, ...]
    found: int
    examined: int
    is_all: bool
    anonymous: bool
    fault: str = ""

    def words(self) -> str:
        """Return in words the number of viewers and the number of examined users."""
        count = {"found": self.found, "examined": self.examined}
        if self.is_all and self.anonymous:
            text = gettext("The row is seen by %(found)s of all %(examined)s active users, and anonymous visitors.")
        elif self.is_all:
            text = gettext("The row is seen by %(found)s of all %(examined)s active users, anonymous visitors do not.")
        elif self.anonymous:
            text = gettext(
                "The row is seen by %(found)s of the first %(examined)s active users, and anonymous visitors."
            )
        else:
            text = gettext(
                "The row is seen by %(found)s of the first %(examined)s active users, anonymous visitors do not."
            )
        sentences = [text % count]
        if self.shown:
            sentences.append(f"{', '.join(viewer.username for viewer in self.shown)}.")
        if self.fault:
            sentences.append(gettext("For some the binding's code failed: %(fault)s") % {"fault": self.fault})
        return " ".join(sentences)

    def as_json(self) -> dict[str, object]:
        """Return the viewers as JSON values."""
        return {**vars(self), "shown": [vars(viewer) for viewer in self.shown]}


def subscriptions_to(bound: Binding, row: Model, groups: Iterable[str]) -> list[tuple[str, dict[str, object] | None]]:
    """Return each group of the row with the params of a subscription to it.

    The params are JSON values, or ``None`` if project code determines them. Fields of the scope are left out, because
    the server fills them in.
    """
    if bound.overrides("group_names", "subscription_group"):
        try:
            own = bound.subscription_group(bound.user, {})
        except ClientError:
            own = None
        return [(group, {} if group == own else None) for group in groups]
    model, scope = bound.model_class(), bound.resolved().spec.scope
    wanted = set(groups)
    found: list[tuple[str, dict[str, object] | None]] = []
    for template in bound.resolved().spec.group_templates:
        values = {name: getattr(row, concrete_field(model, name).attname) for name in template.placeholders}
        group = template.render(bound.group_values(values))
        if group in wanted:
            params = {
                name: json.loads(encode_key(value, concrete_field(model, name)))
                for name, value in values.items()
                if name not in scope
            }
            found.append((str(group), params))
    return found


def has_fixed_groups(binding: type[Binding]) -> bool:
    """Return whether the names of a binding's groups contain no values of its rows."""
    by_code = binding.overrides("group_names", "subscription_group")
    return not by_code and all(template.is_constant for template in binding.spec().group_templates)


def missing_params(bound: Binding, params: Mapping[str, object]) -> bool:
    """Return whether no group template matches these params together with those that the scope adds."""
    if bound.overrides("group_names", "subscription_group"):
        return False
    try:
        match_template(bound.resolved().spec.group_templates, {**params, **bound.resolved().spec.scope})
    except ClientError:
        return True
    return False


def load_rows(bound: Binding, group: str, params: Mapping[str, object]) -> VisibleRows:
    """Return the first rows of a granted subscription, by the query of its snapshot."""
    limit = EXAMINED_ROWS if snapshots.has_group_code(bound) else SHOWN_ROWS
    try:
        selected = list(snapshots.select_rows(bound, params)[: limit + 1])
        found = [row for row in selected[:limit] if snapshots.is_in_group(bound, group, row)]
        shown = tuple(
            VisibleRow(json.loads(encode_key(row.pk, row._meta.pk)), json.loads(encode_value(bound.outgoing_data(row))))
            for row in found[:SHOWN_ROWS]
        )
    except Exception as error:
        return VisibleRows(group, (), False, fault=f"{type(error).__name__}: {error}")
    return VisibleRows(group, shown, is_all=len(selected) <= limit and len(found) <= SHOWN_ROWS)


def is_visible(bound: Binding, group: str, params: Mapping[str, object], pk: object) -> bool:
    """Return whether the snapshot of a granted subscription would contain the row."""
    row = snapshots.select_rows(bound, params).filter(pk=pk).first()
    return row is not None and snapshots.is_in_group(bound, group, row)


def load_viewers(binding: type[Binding], row: Model, groups: Iterable[str], using: str) -> Viewers:
    """Examine the first active users, and return those who could subscribe to a group of the row."""
    groups = list(groups)
    model: Any = get_user_model()
    users = model._default_manager.using(router.db_for_write(model)).order_by("pk")
    if any(field.name == "is_active" for field in model._meta.fields):
        users = users.filter(is_active=True)
    candidates = list(users[: EXAMINED_USERS + 1])
    found: list[Viewer] = []
    fault = ""
    examined = 0
    until = time.monotonic() + EXAMINED_SECONDS
    for user in candidates[:EXAMINED_USERS]:
        if time.monotonic() > until:
            break
        examined += 1
        try:
            visible = _visible_groups(binding(user=user, using=using), row, groups)
        except Exception as error:
            visible, fault = (), f"{type(error).__name__}: {error}"
        if visible:
            found.append(Viewer(str(user.pk), str(user.get_username()), visible))
    try:
        anonymous = bool(_visible_groups(binding(user=AnonymousUser(), using=using), row, groups))
    except Exception as error:
        anonymous, fault = False, f"{type(error).__name__}: {error}"
    return Viewers(
        shown=tuple(found[:SHOWN_VIEWERS]),
        found=len(found),
        examined=examined,
        is_all=examined == len(candidates),
        anonymous=anonymous,
        fault=fault,
    )


def _visible_groups(bound: Binding, row: Model, groups: Iterable[str]) -> tuple[str, ...]:
    visible = []
    for group, params in subscriptions_to(bound, row, groups):
        if params is None:
            continue
        try:
            granted, full = grants.check_subscriber(bound, params)
        except ClientError:
            continue
        # The scope fills in the user's own values, so another user's row is in another group.
        if granted == group and (
            not bound.overrides("get_queryset", "scoped") or is_visible(bound, group, full, row.pk)
        ):
            visible.append(group)
    return tuple(visible)
