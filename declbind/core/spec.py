"""One binding record as an immutable value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
#: What ``where`` compares a column with: a value, or any of several.
Condition = Scalar | Sequence[Scalar]

#: The value of ``fields`` that means every field of the model that does not look sensitive.
ALL_FIELDS: Final = "__all__"
#: Words that a rule may use in place of a codename: any active user who is logged in, or any active staff user.
AUTHENTICATED: Final = "authenticated"
STAFF: Final = "staff"
AUDIENCES: Final = (AUTHENTICATED, STAFF)
#: The actions that rules apply to, in the order of the record.
ACTIONS: Final = ("view", "create", "update", "delete")


class FrozenMapping(Mapping[str, Any]):
    """An immutable, ordered mapping, which equals any mapping with the same content."""

    __slots__ = ("_items",)
    _items: dict[str, Any]

    def __init__(self, items: Mapping[str, object] | None = None) -> None:
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
    """One binding record: what is sent, to whom, and who may write it back.

    The attributes are the keys of the record, in the order of the published table. Lists are tuples and objects are
    frozen mappings, so that a spec is hashable and is compared by content. :meth:`from_dict` validates a record and
    makes a spec of it. The constructor only converts the values.
    """

    stream: str
    model: str
    #: Names, or ``("__all__",)``; ``None`` if ``exclude`` is used.
    fields: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    #: If empty, there is one constant group with the name of the stream: see :attr:`group_templates`.
    groups: tuple[str, ...] = ()
    #: Maps an action of :data:`ACTIONS` to a codename, a word of :data:`AUDIENCES`, ``True`` (anyone) or ``False``
    #: (nobody). A missing action requires the codename of Django's own permission.
    permissions: Mapping[str, str | bool] = field(default_factory=FrozenMapping)
    direction: Direction = "both"
    #: ``None`` means the bound fields that are editable.
    writable: tuple[str, ...] | None = None
    where: Mapping[str, Scalar | tuple[Scalar, ...]] = field(default_factory=FrozenMapping)
    scope: Mapping[str, str] = field(default_factory=FrozenMapping)
    #: Maps a writable relation to ``"any"``, or to conditions like those of ``scope`` on the related model.
    relate: Mapping[str, str | Mapping[str, str]] = field(default_factory=FrozenMapping)
    #: Whether ``"__all__"`` and ``exclude`` send fields that are added to the model later.
    grow: bool = False
    auto_subscribe: bool = False
    sensitive: tuple[str, ...] = ()
    serializer: str = "default"
    capture: Capture = "orm"
    also: tuple[str, ...] = ()
    #: The number of seconds for which values are kept in the log. ``None`` means as long as the setting says.
    retention: int | None = None
    enabled: bool = True
    description: str = ""
    #: The fields that ``"__all__"`` or ``exclude`` may send, as they were last accepted. This is not a key of the
    #: record. ``None`` means all fields. See ``declbind.fields.bound_fields``.
    known: frozenset[str] | None = None

    def __post_init__(self) -> None:
        set_value = object.__setattr__
        given: object = self.fields
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
            # 60.0 is an integer in JSON, too.
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
    def from_dict(cls, document: Mapping[str, object]) -> BindingSpec:
        """Make a spec of a record.

        Whether the model and its fields exist is not checked here, because that check needs Django.

        Args:
            document: The record, as a dict of JSON values.

        Raises:
            ConfigError: The record breaks the schema. The error lists every problem.
        """
        found = schema_problems(document)
        if found:
            raise ConfigError(found)
        given: dict[str, Any] = {key: document[key] for key in KEYS if key in document}
        return cls(**given)

    def to_dict(self) -> dict[str, object]:
        """Return the record in its canonical form: JSON values, keys in table order, no default values."""
        document: dict[str, object] = {}
        for key in KEYS:
            value = getattr(self, key)
            if key in ("stream", "model") or value != DEFAULTS[key]:
                document[key] = _thaw(value)
        return document

    @cached_property
    def group_templates(self) -> tuple[GroupTemplate, ...]:
        """The parsed templates. A record without ``groups`` has one constant group with the name of the stream."""
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
        """Whether the record sends fields that it does not name: ``"__all__"`` or ``exclude``."""
        return self.fields is None or self.all_fields

    @property
    def grows(self) -> bool:
        """Whether fields that are added to the model later are sent without being accepted first."""
        return self.grow and self.is_open


#: The keys of the record in the order of the published table. A file may also have ``$schema``.
KEYS: Final = tuple(item.name for item in fields(BindingSpec) if item.name != "known")
#: The value of each key that is left out, in the form of the spec.
DEFAULTS: Final[Mapping[str, object]] = MappingProxyType(
    {key: getattr(BindingSpec(stream="", model=""), key) for key in KEYS if key not in ("stream", "model")}
)


def _freeze(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _thaw(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Mapping):
        return {key: _thaw(item) for key, item in value.items()}
    return value
