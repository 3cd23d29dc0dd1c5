"""System checks: say at start what is wrong with the configuration, and how to mend it.

Each has an id and a hint, and a line in ``docs/checks.md``. Errors are mistakes in the settings. A faulty binding is a
warning: an error would stop ``migrate``, which may be what mends it. Only the checks of the database tag make a query.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning
from django.db import DatabaseError, connections, router
from django.utils.module_loading import import_string

from declbind import judgement
from declbind.bindings import Binding
from declbind.conf import DEFAULTS, settings
from declbind.core.errors import Problem
from declbind.core.registry import Entry
from declbind.models import BindingRecord
from declbind.outbound.index import Index
from declbind.outbound.triggers import upkeep
from declbind.registry import BindingRegistry, current_registry, database_alias, load_configuration

#: What the ids stand for; the documentation lists the same.
CHECKS = {
    "declbind.E001": "DECLBIND is not a dict",
    "declbind.E002": "DECLBIND has an unknown key",
    "declbind.E003": "a key of DECLBIND has a wrong value",
    "declbind.E004": "a serializer cannot be imported",
    "declbind.E005": "a folder of RECORD_DIRS does not exist",
    "declbind.E006": "CHANNEL_LAYER names no channel layer",
    "declbind.W001": "a binding of a file or class is invalid",
    "declbind.W002": "a binding record of the database is invalid",
    "declbind.W003": "a binding does what is probably not meant",
    "declbind.W004": "a bound model is written to another database than the log",
    "declbind.W005": "the channel layer loses its connections when idle",
    "declbind.W006": "the channel layer has a small pool of connections",
    "declbind.W007": "a table lacks the triggers that a binding asks for",
}
CORE_LAYER = "channels_redis.core.RedisChannelLayer"
WORKING_HOST = (
    '{"address": "redis://127.0.0.1:6379/0", "socket_timeout": None, "socket_keepalive": True, '
    '"health_check_interval": 30, "max_connections": 10000}'
)

Expectation = tuple[Callable[[Any], bool], str]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_origin(value: object) -> bool:
    if not isinstance(value, str):
        return False
    parts = urlsplit(value)
    return bool(parts.scheme and parts.hostname) and not (parts.path or parts.query or parts.fragment)


def _is_list_of(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list | tuple) and all(map(accepts, value))


#: What a key's value must be, where its default does not say it. Other keys: a bool, a whole number above 0, or a
#: number above 0, as their default is.
EXPECTATIONS: dict[str, Expectation] = {
    "RECORD_DIRS": (_is_list_of(lambda item: isinstance(item, str | Path)), "a list of folders (str or Path)"),
    "SERIALIZERS": (
        lambda value: isinstance(value, dict) and all(isinstance(text, str) for pair in value.items() for text in pair),
        "a dict from names to dotted paths",
    ),
    "CHANNEL_LAYER": (lambda value: value is None or isinstance(value, str), "an alias of CHANNEL_LAYERS or None"),
    "ALLOWED_ORIGINS": (
        lambda value: value is None or _is_list_of(_is_origin)(value),
        'None or a list like ["https://example.com"]',
    ),
    "VERSION_CHECK_SECONDS": (lambda value: _is_number(value) and value >= 0, "a number of at least 0"),
}


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Check the dict ``DECLBIND`` (E001 to E006). No query."""
    given = getattr(django_settings, "DECLBIND", {})
    if not isinstance(given, dict):
        return [
            Error(
                f"settings.DECLBIND: expected a dict, got {given!r}.",
                hint='Write DECLBIND = {"POLL_SECONDS": 0.25}, or leave it out: every key has a default.',
                id="declbind.E001",
            )
        ]
    found: list[CheckMessage] = [
        Error(
            f"settings.DECLBIND: there is no key {key}.",
            hint=f"Remove it. The keys are: {', '.join(sorted(DEFAULTS))}.",
            id="declbind.E002",
        )
        for key in settings.unknown_keys()
    ]
    wrong = {key for key, value in given.items() if key in DEFAULTS and not _expectation(key)[0](value)}
    found += [
        Error(
            f"settings.DECLBIND[{key!r}]: expected {_expectation(key)[1]}, got {given[key]!r}.",
            hint=f"The default is {DEFAULTS[key]!r}.",
            id="declbind.E003",
        )
        for key in sorted(wrong)
    ]
    for key, check in (("SERIALIZERS", _serializers), ("RECORD_DIRS", _record_dirs), ("CHANNEL_LAYER", _layer_alias)):
        if key in given and key not in wrong:
            found += check(given[key])
    return found


def check_bindings(**kwargs: Any) -> list[CheckMessage]:
    """Check the bindings of files and classes (W001, W003, W004). No query."""
    if not _is_readable():
        return []
    missing = {str(folder).rstrip("/\\") for folder in settings.RECORD_DIRS if not Path(folder).is_dir()}
    found: list[CheckMessage] = []
    for entry in current_registry().entries:
        if entry.source == "database" or entry.where in missing:  # E005 has named those
            continue
        found += [_invalid(entry, problem, "declbind.W001") for problem in entry.problems]
        found += _doubtful(entry)
    return found


def check_records(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check the records of the database (W002, W003, W004), if it is among those that may be asked and is migrated."""
    registry = _stored_registry(databases)
    if registry is None:
        return []
    found: list[CheckMessage] = []
    for entry in registry.entries:
        if entry.source == "database":
            found += [_invalid(entry, problem, "declbind.W002") for problem in entry.problems]
            found += _doubtful(entry)
    return found


def check_triggers(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check that the triggers of bindings that ask for them are in place (W007), like ``check_records``."""
    registry = _stored_registry(databases)
    if registry is None:
        return []
    return [
        CheckWarning(
            f"Raw SQL and other programs may go unheard: the triggers of table {state.table!r} are {state.state}, and "
            f"{', '.join(map(repr, state.streams))} asked for them.",
            hint="Run `manage.py declbind triggers --install`; `--sql` prints what it does.",
            id="declbind.W007",
        )
        for state in upkeep.load_states(database_alias(), Index(registry))
        if state.streams and not state.is_well
    ]


def _stored_registry(databases: Sequence[str] | None) -> BindingRegistry | None:
    """Return the registry that is stored, ``None`` where it must not or cannot be asked for."""
    using = database_alias()
    if using not in (databases or ()) or not _is_readable():
        return None
    try:
        if BindingRecord._meta.db_table not in connections[using].introspection.table_names():
            return None
        return load_configuration(using)[1]
    except DatabaseError:
        # In the middle of a migration the table may lack a column, and migrate runs these checks first.
        return None


def check_channel_layer(**kwargs: Any) -> list[CheckMessage]:
    """Check that the layer of the doorbell keeps its connections and has enough (W005, W006). None is made."""
    config = _doorbell_config()
    if config is None or config.get("BACKEND") != CORE_LAYER:
        return []
    hosts = (config.get("CONFIG") or {}).get("hosts") or [{}]
    name = f"CHANNEL_LAYERS[{settings.CHANNEL_LAYER!r}]"
    found: list[CheckMessage] = []
    wait = _core_layer_wait()
    timeouts = [_socket_timeout(host) for host in hosts]
    short = [timeout for timeout in timeouts if timeout is not None and wait is not None and timeout <= wait]
    if short:
        found.append(
            CheckWarning(
                f"{name}: {CORE_LAYER} waits {wait:g} s for a message, and its "
                f"connection gives up reading after {min(short):g} s (socket_timeout; 5 s is the default of "
                "redis-py 8): a consumer that hears nothing is ended by a TimeoutError.",
                hint=f'Name the host as a dict without that limit: "hosts": [{WORKING_HOST}]. '
                "Or use channels_redis.pubsub.RedisPubSubChannelLayer, which does not read that way.",
                id="declbind.W005",
            )
        )
    limit = _default_pool_size()
    if limit is not None and not all(map(_names_pool_size, hosts)):
        found.append(
            CheckWarning(
                f"{name}: its connections to Redis are at most {limit} in each process (max_connections; the default "
                "of redis-py 8), and each consumer of the project may need one: with more clients at once they fail "
                "with 'Too many connections'. declbind itself needs two.",
                hint=f'Name the host as a dict with a limit of your own: "hosts": [{WORKING_HOST}].',
                id="declbind.W006",
            )
        )
    return found


def foreign_database(binding: type[Binding]) -> str:
    """Return the alias that a binding's model is written to, or "" if it is the log's own, as it must be."""
    alias = router.db_for_write(binding.model_class())
    return "" if alias == database_alias() else alias


def install() -> None:
    """Register the checks, under the tag ``declbind``; the one that queries under Django's ``database`` too."""
    register(check_settings, "declbind")
    register(check_bindings, "declbind")
    register(check_channel_layer, "declbind")
    register(check_records, "declbind", Tags.database)
    register(check_triggers, "declbind", Tags.database)


def _expectation(key: str) -> Expectation:
    default = DEFAULTS[key]
    if key in EXPECTATIONS:
        return EXPECTATIONS[key]
    if isinstance(default, bool):
        return (lambda value: isinstance(value, bool)), "True or False"
    if isinstance(default, int):
        return (
            lambda value: isinstance(value, int) and not isinstance(value, bool) and value > 0
        ), "a whole number above 0"
    if isinstance(default, float):
        return (lambda value: _is_number(value) and value > 0), "a number above 0"
    return (lambda value: True), "anything"


def _serializers(serializers: dict[str, str]) -> Iterator[CheckMessage]:
    for name, path in serializers.items():
        try:
            if callable(import_string(path)):
                continue
            fault = "which is not callable"
        except Exception as error:  # whatever the module does when it is imported
            fault = f"which cannot be imported: {error}"
        yield Error(
            f"settings.DECLBIND['SERIALIZERS'][{name!r}]: expected the dotted path of a callable "
            f"(instance, binding) -> dict, got {path!r}, {fault}.",
            hint="Every binding with this serializer would fail. Correct the path, or remove the entry.",
            id="declbind.E004",
        )


def _record_dirs(folders: Sequence[str | Path]) -> Iterator[CheckMessage]:
    for folder in folders:
        if not Path(folder).is_dir():
            yield Error(
                f"settings.DECLBIND['RECORD_DIRS']: expected a folder at {str(folder)!r}, found none.",
                hint=f"Make it, or remove it from the setting. A relative path starts at {str(Path.cwd())!r}.",
                id="declbind.E005",
            )


def _layer_alias(alias: str | None) -> Iterator[CheckMessage]:
    layers = getattr(django_settings, "CHANNEL_LAYERS", None) or {}
    if alias is not None and alias not in layers:
        known = ", ".join(map(repr, layers)) or "nothing"
        yield Error(
            f"settings.DECLBIND['CHANNEL_LAYER']: expected an alias of CHANNEL_LAYERS, got {alias!r}.",
            hint=f"CHANNEL_LAYERS has {known}. None means no doorbell: processes look at the log every POLL_SECONDS.",
            id="declbind.E006",
        )


def _invalid(entry: Entry[Any], problem: Problem, id_: str) -> CheckMessage:
    return CheckWarning(
        f"{entry.where}: {problem}",
        hint="This binding is left out, the others work. `manage.py declbind check` lists all problems.",
        id=id_,
    )


def _doubtful(entry: Entry[Any]) -> Iterator[CheckMessage]:
    binding = entry.binding
    if binding is None or entry.problems or not binding.enabled:
        return
    for problem in judgement.warnings(binding.spec()):
        yield CheckWarning(
            f"{entry.where}: {problem}",
            hint='If it is meant, silence it: SILENCED_SYSTEM_CHECKS = ["declbind.W003"].',
            id="declbind.W003",
        )
    alias = foreign_database(binding)
    if alias and binding.spec().outbound:
        yield CheckWarning(
            f"{entry.where}: binding {entry.stream!r} hears no writes: {binding.model_class()._meta.label} "
            f"is written to database {alias!r}, the log is in {database_alias()!r}.",
            hint="An event is stored in the transaction of its write, which takes one database for both. "
            "Route the models of app 'declbind' to the database of the bound models.",
            id="declbind.W004",
        )


def _doorbell_config() -> dict[str, Any] | None:
    if not _is_readable() or settings.CHANNEL_LAYER is None:
        return None
    layers: dict[str, Any] = getattr(django_settings, "CHANNEL_LAYERS", None) or {}
    return layers.get(settings.CHANNEL_LAYER)


def _is_readable() -> bool:
    """Tell whether the settings can be worked with; where they cannot, ``check_settings`` has said why."""
    return not {message.id for message in check_settings()} & {"declbind.E001", "declbind.E003"}


def _core_layer_wait() -> float | None:
    try:
        layer = import_string(CORE_LAYER)
    except ImportError:
        return None
    return float(layer.brpop_timeout)


def _default_pool_size() -> int | None:
    """Return how many connections a pool of redis-py opens at most when nothing is said; ``None`` for no limit."""
    try:
        from redis.asyncio.connection import ConnectionPool
    except ImportError:
        return None
    size = ConnectionPool().max_connections
    return size if size < 2**31 else None


def _names_pool_size(host: Any) -> bool:
    options = host if isinstance(host, dict) else {}
    address = options.get("address", host)
    return "max_connections" in options or (
        isinstance(address, str) and "max_connections" in parse_qs(urlsplit(address).query)
    )


def _socket_timeout(host: Any) -> float | None:
    """Return after how many seconds a connection to a host gives up reading; ``None`` for never."""
    options = host if isinstance(host, dict) else {}
    if "socket_timeout" in options:
        return None if options["socket_timeout"] is None else float(options["socket_timeout"])
    address = options.get("address", host)
    if isinstance(address, str) and (asked := parse_qs(urlsplit(address).query).get("socket_timeout")):
        return float(asked[-1])
    try:
        from redis.asyncio.connection import AbstractConnection
    except ImportError:
        return None
    default = inspect.signature(AbstractConnection.__init__).parameters["socket_timeout"].default
    return None if default is None else float(default)


__all__ = [
    "CHECKS",
    "check_bindings",
    "check_channel_layer",
    "check_records",
    "check_settings",
    "check_triggers",
    "foreign_database",
    "install",
]
