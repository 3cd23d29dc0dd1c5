"""The wording for the parts of a binding record in descriptions of an edit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from declbind.core.wording import AUDIENCE_WORDS

#: What a rule allows, by action.
MAY: Final = {
    "view": _("%(who)s may subscribe"),
    "create": _("%(who)s may create rows"),
    "update": _("%(who)s may change rows"),
    "delete": _("%(who)s may delete rows"),
}
MAY_FOR_OWN_ROWS: Final = {
    "view": _("%(who)s may subscribe, own rows only"),
    "create": _("%(who)s may create rows, own rows only"),
    "update": _("%(who)s may change rows, own rows only"),
    "delete": _("%(who)s may delete rows, own rows only"),
}
CAPTURES_ALL: Final = _("also captures raw SQL and other programs, once its triggers are installed")
SUBSCRIBES_ALL: Final = _("subscribes new connections automatically")


def any_of(names: Sequence[str]) -> str:
    """Return names as alternatives. There must be at least one."""
    if len(names) == 1:
        return names[0]
    return gettext("%(names)s or %(last)s") % {"names": ", ".join(names[:-1]), "last": names[-1]}


def audience_in_words(rule: str | bool) -> str:
    """Return in words whom a permission rule admits."""
    return AUDIENCE_WORDS.get(rule) or gettext("users with the permission %(permission)s") % {"permission": rule}


def values_as_json(value: object) -> list[str]:
    """Return the values of a condition as JSON, because Python treats 1 and true as equal."""
    return [json.dumps(item) for item in (value if isinstance(value, tuple) else (value,))]


def condition_in_words(name: str, values: Sequence[str]) -> str:
    """Return a condition of ``where`` or ``scope`` in words."""
    return gettext("%(field)s is %(value)s") % {"field": name, "value": gettext(" or ").join(values)}


def related_in_words(rule: str | Mapping[str, str]) -> str:
    """Return in words which related rows a rule of ``relate`` allows clients to choose."""
    if isinstance(rule, str):
        return gettext("any row")
    conditions = (condition_in_words(name, [source]) for name, source in rule.items())
    return gettext("rows whose %(conditions)s") % {"conditions": gettext(" and ").join(conditions)}
