"""BindingSpec: one binding record, as an immutable value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, Literal

from .errors import ConfigError
from .groups import GroupTemplate
from .schema import problems as schema_problems

Direction = Literal["both", "outbound", "inbound"]
Capture = Literal["orm", "triggers"]
Scalar = str | int | float | bool | None

#: Stands in ``fields`` for every field of the model that does not look sensitive.
ALL_FIELDS: Final = "__all__"
#: What a rule may say in place of a codename: any active user who is logged in, or any active user with staff status.
AUTHENTICATED: Final = "authenticated"
STAFF: Final = "staff"
AUDIENCES: Final = (AUTHENTICATED, STAFF)
#: What may be asked of a row, in the order in which a record names it.
ACTIONS: Final = ("view", "create", "update", "delete")


class FrozenMapping(Mapping[str, Any]):
    """Hold a mapping that can neither be changed nor lose its order; equal to any mapping of the same "
    "content."""

    __slots__ = ("_items",)
    _items: dict[str, Any]

    def __init__(self, items: Mapping[str, Any] | None = None) -> None:
        self._items = {key: _freeze(value) for key, value in (items or {}).items()}

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)


@dataclass(frozen=True)
class BindingSpec:
    """Be one binding record: what is sent, to whom, and who may write it back.

    The attributes are the record's keys, in the order of the published table. Lists are tuples, objects are
    frozen mappings, so a spec can be hashed and is compared by content. Made from a record by
    :meth:`from_dict`, which judges it; the constructor only brings values into form.
    """

    stream: str
    model: str
    #: Names, or ``("__all__",)``; None where ``exclude`` is used.
    fields: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    #: Empty means one constant group named like the stream: see :attr:`group_templates`.
    groups: tuple[str, ...] = ()
    #: From an action of :data:`ACTIONS` to a codename, a word of :data:`AUDIENCES`, True (anyone) or False (nobody).
    #: An action that is missing asks for Django's own codename of the model.
    permissions: Mapping[str, str | bool] = field(default_factory=FrozenMapping)
    direction: Direction = "both"
    #: None means the editable ones of the bound fields.
    writable: tuple[str, ...] | None = None
    where: Mapping[str, Scalar | tuple[Scalar, ...]] = field(default_factory=FrozenMapping)
    scope: Mapping[str, str] = field(default_factory=FrozenMapping)
    #: From a writable relation to ``"any"``, or to conditions like those of ``scope`` on the related model.
    relate: Mapping[str, str | Mapping[str, str]] = field(default_factory=FrozenMapping)
    #: Whether ``"__all__"`` and ``exclude`` send fields that the model gets later.
    grow: bool = False
    auto_subscribe: bool = False
    sensitive: tuple[str, ...] = ()
    serializer: str = "default"
    capture: Capture = "orm"
    also: tuple[str, ...] = ()
    #: For how many seconds values are kept in the log; None means for as long as the setting says.
    retention: int | None = None
    enabled: bool = True
    description: str = ""
    #: No key of the record: the fields that ``"__all__"`` or ``exclude`` may send, as they were when somebody last said
    #: so. None means all that there are. See ``declbind.fields.bound_fields``.
    known: frozenset[str] | None = None

    def __post_init__(self) -> None:
        set_value = object.__setattr__
        given: Any = self.fields
        if given == ALL_FIELDS:
            set_value(self, "fields", (ALL_FIELDS,))
        for name in ("fields", "exclude", "writable"):
            value = getattr(self, name)
            set_value(self, name, None if value is None else tuple(value))
        for name in ("groups", "sensitive", "also"):
            set_value(self, name, tuple(getattr(self, name)))
        for name in ("where", "scope"):
            set_value(self, name, FrozenMapping(getattr(self, name)))
        if self.retention is not None:
            # 60.0 is a whole number in JSON, too.
            set_value(self, "retention", int(self.retention))
        if self.known is not None:
            set_value(self, "known", frozenset(self.known))
        related = {name: rule if isinstance(rule, str) else FrozenMapping(rule) for name, rule in self.relate.items()}
        set_value(self, "relate", FrozenMapping(related))
        asked: Any = self.permissions
        if isinstance(asked, str):
            asked = dict.fromkeys(ACTIONS, asked)
        set_value(self, "permissions", FrozenMapping({key: asked[key] for key in ACTIONS if key in asked}))

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> BindingSpec:
        """Make a spec of a record; raise ConfigError with every problem when the record breaks the schema.

        Whether the model and its fields exist is not asked here: that is the second judgement, which needs
        Django.
        """
        found = schema_problems(document)
        if found:
            raise ConfigError(found)
        return cls(**{key: document[key] for key in KEYS if key in document})

    def to_dict(self) -> dict[str, Any]:
        """Write the record in its one canonical form: JSON values, keys in table order, none that is at its "
        "default."""
        document: dict[str, Any] = {}
        for key in KEYS:
            value = getattr(self, key)
            if key in ("stream", "model") or value != DEFAULTS[key]:
                document[key] = _thaw(value)
        return document

    @cached_property
    def group_templates(self) -> tuple[GroupTemplate, ...]:
        """The parsed templates; for a record without ``groups`` the one constant group named like the "
        "stream."""
        return tuple(
            GroupTemplate.parse(text, f"$.groups[{index}]") for index, text in enumerate(self.groups or (self.stream,))
        )

    @property
    def outbound(self) -> bool:
        """Whether changes are sent to clients."""
        return self.direction != "inbound"

    @property
    def inbound(self) -> bool:
        """Whether clients may create, update and delete."""
        return self.direction != "outbound"

    @property
    def all_fields(self) -> bool:
        """Whether ``fields`` is ``"__all__"``."""
        return self.fields == (ALL_FIELDS,)

    @property
    def is_open(self) -> bool:
        """Whether fields are sent that the record does not name: ``"__all__"`` or ``exclude``."""
        return self.fields is None or self.all_fields

    @property
    def grows(self) -> bool:
        """Whether fields that the model gets later are sent without anybody saying so."""
        return self.grow and self.is_open


#: The record's keys in the order of the published table (a file may carry ``$schema`` beside them).
KEYS: Final = tuple(item.name for item in fields(BindingSpec) if item.name != "known")
#: What a key that is left out stands for, in the spec's own form.
DEFAULTS: Final[Mapping[str, Any]] = MappingProxyType(
    {key: getattr(BindingSpec(stream="", model=""), key) for key in KEYS if key not in ("stream", "model")}
)


def _freeze(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _thaw(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Mapping):
        return {key: _thaw(item) for key, item in value.items()}
    return value
