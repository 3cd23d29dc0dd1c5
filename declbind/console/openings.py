"""The permissions that an edit of a binding requires. Users cannot open by an edit what they may not do themselves.

:mod:`declbind.console.consequences` determines what an edit opens. This module adds the permission that each opening
requires. Every part of the console that puts a definition in force calls it. An edit that opens nothing requires only
the permission to edit bindings.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from django.db.models import Model
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from declbind import record_validation
from declbind.bindings import DJANGO_ACTIONS
from declbind.core.errors import ConfigError, Problem
from declbind.core.spec import ACTIONS, BindingSpec
from declbind.exposure import Exposed, exposed_fields
from declbind.fields import find_model, hold_back, writable_fields
from declbind.models import BindingRecord
from declbind.relations import find_hops
from declbind.rights_models import is_rights_column, is_rights_model

from .consequences import Consequence, consequences
from .plan import PlannedChange

EXPOSE_SENSITIVE = "declbind.expose_sensitive"
BIND_RIGHTS_MODELS = "declbind.bind_rights_models"
#: What a user does who opens an action, as a text that follows "may".
DEEDS = {
    "view": _("send rows of %(model)s"),
    "create": _("let clients create rows of %(model)s"),
    "update": _("let clients change rows of %(model)s"),
    "delete": _("let clients delete rows of %(model)s"),
}


class PermissionHolder(Protocol):
    """A user who edits bindings."""

    def has_perm(self, codename: str, /) -> bool:
        """Return whether the user has a permission."""


@dataclass(frozen=True)
class Opening:
    """One thing that an edit opens, and the permissions that this requires.

    ``permissions`` are codenames, any of which is enough. If there are none, no user may open it. ``deed`` describes
    the opening as a text that follows "may". ``path`` is its place in the record.
    """

    path: str
    deed: str
    permissions: tuple[str, ...]
    reason: str = ""

    def problem(self) -> Problem:
        """Return the problem for a user without any of the permissions."""
        if not self.permissions:
            text = gettext("Nobody may %(deed)s by a binding that is stored in the admin. %(reason)s")
            return Problem(self.path, text % {"deed": self.deed, "reason": self.reason})
        wanted = gettext(" or ").join(map(describe_permission, self.permissions))
        text = gettext(
            "Only users with the permission %(permissions)s may %(deed)s, and you do not have it. Ask a superuser or "
            "another user who has it to make this change, or leave this as it was."
        )
        return Problem(self.path, text % {"permissions": wanted, "deed": self.deed})


def missing_permissions(
    user: PermissionHolder,
    old: Mapping[str, object] | None,
    new: Mapping[str, object] | None,
    *,
    as_if_enabled: bool = False,
    held: Collection[str] = (),
    accepted: Collection[str] = (),
) -> list[Problem]:
    """Return what prevents a user from replacing ``old`` with ``new``. An empty document means no record.

    ``held`` and ``accepted`` are those of :func:`~declbind.console.consequences.consequences`. With ``as_if_enabled``,
    a disabled definition is treated as enabled. This is for pages that answer questions about it. Reads the user's
    permissions.
    """
    found = find_openings(old, new, as_if_enabled, held, accepted)
    return [opening.problem() for opening in found if not _holds(user, opening)]


def find_openings(
    old: Mapping[str, object] | None,
    new: Mapping[str, object] | None,
    as_if_enabled: bool = False,
    held: Collection[str] = (),
    accepted: Collection[str] = (),
) -> list[Opening]:
    """Return everything that an edit opens. Makes no query.

    An edit that cannot be read opens nothing here, because the validation rejects it.
    """
    if new and as_if_enabled:
        new = {**new, "enabled": True}
    after = _read(new, [name for name in held if name not in accepted])
    if after is None:
        return []
    found = _consequences(old, new or {}, held, accepted)
    opened = frozenset[str]().union(*(item.opens for item in found)) & after.open_actions
    return list(dict.fromkeys(_openings(_read(old, held), after, opened)))


def describe_change(change: PlannedChange) -> Sequence[Consequence]:
    """Return what a change of a plan does, in the words of the import page. Checks no permission."""
    return consequences(
        change.before,
        change.after,
        in_force=change.stream not in record_validation.reserved_streams(),
        held=change.held,
    )


def _consequences(
    old: Mapping[str, object] | None,
    new: Mapping[str, object],
    held: Collection[str] = (),
    accepted: Collection[str] = (),
) -> Sequence[Consequence]:
    in_force = not old or old.get("stream") not in record_validation.reserved_streams()
    return consequences(old or None, new, in_force=in_force, held=held, accepted=accepted)


def describe_permission(codename: str) -> str:
    """Return the admin's name of a permission, with its codename. Django stores these names, in English."""
    return f'"{_name_of(codename)}" ({codename})'


@dataclass(frozen=True)
class _Definition:
    spec: BindingSpec
    model: type[Model]
    exposed: Sequence[Exposed]
    open_actions: frozenset[str]

    @property
    def label(self) -> str:
        return str(self.model._meta.label)

    def codename(self, action: str, model: type[Model] | None = None) -> str:
        options = (model or self.model)._meta
        return f"{options.app_label}.{DJANGO_ACTIONS[action]}_{options.model_name}"


def _read(document: Mapping[str, object] | None, held: Collection[str]) -> _Definition | None:
    # Other problems are ignored here, because the validation always runs as well.
    if not document:
        return None
    try:
        spec = BindingSpec.from_dict(document)
    except ConfigError:
        return None
    model = find_model(spec.model)
    if model is None:
        return None
    if not spec.grow:
        spec = hold_back(model, spec, held)
    closed = {"view"} if not spec.outbound else set() if spec.inbound else set(ACTIONS[1:])
    actions = {action for action in ACTIONS if spec.permissions.get(action) is not False} - closed
    return _Definition(spec, model, exposed_fields(model, spec), frozenset(actions))


def _openings(before: _Definition | None, after: _Definition, opened: frozenset[str]) -> Iterator[Opening]:
    known = set() if before is None or before.model is not after.model else _places(before)
    # Newly exposed fields count even if the definition is disabled or narrows the rows.
    newly_exposed = after.exposed if opened else [item for item in after.exposed if (item.key, item.field) not in known]
    yield from _withheld(after, newly_exposed)
    for item in newly_exposed:
        if item.is_sensitive and not item.withheld:
            deed = gettext("%(deed)s, which looks like a secret") % {"deed": _exposing(after, item)}
            yield Opening(item.path, deed, (EXPOSE_SENSITIVE,))
    yield from _own_keys(before, after)
    if not opened:
        return
    for action in ACTIONS:
        if action in opened:
            yield Opening(_path(after.spec, action), _deed(after, action), (after.codename(action),))
    yield from _asking(after, opened)
    yield from _permission_givers(after, opened)
    yield from _relations(after, opened)


def _own_keys(before: _Definition | None, after: _Definition) -> Iterator[Opening]:
    """Yield a serializer's additional keys that a definition newly exposes."""
    known = {field.name for field in after.model._meta.get_fields()}
    same = before is not None and before.spec.serializer == after.spec.serializer
    was = before.spec.sensitive if before is not None and same else ()
    for index, name in enumerate(after.spec.sensitive):
        if name not in known and name not in was:
            deed = gettext("expose %(key)r of the serializer %(serializer)r, which looks like a secret") % {
                "key": name,
                "serializer": after.spec.serializer,
            }
            yield Opening(f"$.sensitive[{index}]", deed, (EXPOSE_SENSITIVE,))


def _asking(after: _Definition, opened: frozenset[str]) -> Iterator[Opening]:
    """Yield what clients can learn about values by writing, if nothing is sent."""
    if after.spec.outbound or not opened & {"update", "delete"}:
        return
    rule = after.spec.permissions.get("view")
    if rule not in (None, False, after.codename("view")) and any(item.key == "fields" for item in after.exposed):
        deed = gettext("let clients that write rows of %(model)s ask for their values") % {"model": after.label}
        yield Opening("$.permissions.view", deed, (after.codename("view"),))
    if "delete" in opened and after.spec.where:
        # As in Django's admin, users who may change rows may see them.
        deed = gettext("let clients that delete rows of %(model)s find out which ones meet its conditions")
        permissions = after.codename("view"), after.codename("update")
        yield Opening("$.where", deed % {"model": after.label}, permissions)


def _withheld(after: _Definition, newly_exposed: Sequence[Exposed]) -> Iterator[Opening]:
    if after.model._meta.app_label == "declbind":
        deed = gettext("bind %(model)s") % {"model": after.label}
        yield Opening("$.model", deed, (), gettext("It is a model of declbind."))
        return
    for item in newly_exposed:
        if item.withheld:
            reason = (
                gettext("It holds %(content)s. Bind another model.")
                if item.key == "model"
                else gettext("It holds %(content)s. Remove %(field)r from '%(key)s'.")
            )
            words = {"content": item.withheld, "field": item.name, "key": item.key}
            yield Opening(item.path, _exposing(after, item), (), reason % words)


def _permission_givers(after: _Definition, opened: frozenset[str]) -> Iterator[Opening]:
    """Yield the models and columns that grant or record permissions."""
    if is_rights_model(after.model):
        deed = gettext("bind %(model)s, whose rows give or record permissions") % {"model": after.label}
        yield Opening("$.model", deed, (BIND_RIGHTS_MODELS,))
        return
    for item in after.exposed:
        if item.gives_rights:
            deed = gettext("%(deed)s, which gives permissions") % {"deed": _exposing(after, item)}
            yield Opening(item.path, deed, (BIND_RIGHTS_MODELS,))
    if opened & {"create", "update"}:
        for field in writable_fields(after.model, after.spec):
            if is_rights_column(field):
                deed = gettext("let clients write %(field)r of %(model)s, which gives permissions")
                words = {"field": field.name, "model": after.label}
                yield Opening("$.writable", deed % words, (BIND_RIGHTS_MODELS,))


def _relations(after: _Definition, opened: frozenset[str]) -> Iterator[Opening]:
    if "view" not in opened:
        return
    for index, name in enumerate(after.spec.also):
        path = f"$.also[{index}]"
        try:
            hops = find_hops(after.model, name)
        except LookupError:
            continue  # The validation reports it.
        for model in dict.fromkeys(hop.model for hop in hops if not hop.model._meta.auto_created):
            words = {"model": model._meta.label, "relation": name}
            if model._meta.app_label == "declbind":
                deed = gettext("disclose when rows of %(model)s change") % words
                yield Opening(path, deed, (), gettext("It is a model of declbind."))
                continue
            deed = gettext("disclose by %(relation)r when rows of %(model)s change") % words
            yield Opening(path, deed, (after.codename("view", model),))
            if is_rights_model(model):
                deed = gettext(
                    "disclose by %(relation)r when rows of %(model)s change, which give or record permissions"
                )
                yield Opening(path, deed % words, (BIND_RIGHTS_MODELS,))


def _places(definition: _Definition) -> set[tuple[str, object]]:
    return {(item.key, item.field) for item in definition.exposed}


def _exposing(after: _Definition, item: Exposed) -> str:
    words = {"field": item.name, "model": after.label, "key": item.key}
    if item.key == "fields":
        return gettext("expose %(field)r of %(model)s") % words
    if item.key == "model":
        return gettext("expose %(field)r of %(model)s as the key of rows") % words
    return gettext("expose %(field)r of %(model)s by %(key)r") % words


def _path(spec: BindingSpec, action: str) -> str:
    return f"$.permissions.{action}" if action in spec.permissions else "$.permissions"


def _deed(after: _Definition, action: str) -> str:
    return DEEDS[action] % {"model": after.label}


def _holds(user: PermissionHolder, opening: Opening) -> bool:
    return any(user.has_perm(codename) for codename in opening.permissions)


def _name_of(codename: str) -> str:
    own = {f"declbind.{name}": text for name, text in BindingRecord._meta.permissions}
    if codename in own:
        return str(own[codename])
    app_label, _, name = codename.partition(".")
    action, _, model_name = name.partition("_")
    model = find_model(f"{app_label}.{model_name}")
    return f"Can {action} {model._meta.verbose_name_raw}" if model is not None else name
