"""The registry that is in force in this process, and its replacement when the configuration changes.

Each process has one registry, which is immutable and is replaced as a whole. A transaction that edits records sees its
own edits, through a registry of that transaction. All others see the edits after the commit.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from django.core.exceptions import SynchronousOnlyOperation
from django.core.signals import setting_changed
from django.db import connections, transaction

from declbind import record_validation, signals
from declbind.bindings import Binding
from declbind.conf import settings
from declbind.configuration_version import database_alias, is_migrated, read_version
from declbind.core.errors import ConfigError
from declbind.core.registry import Registry
from declbind.core.spec import BindingSpec
from declbind.registry_entries import BindingRegistry, build_entries, validate_given
from declbind.sources import SourceItem, code, files
from declbind.sources.baselines import stored_baselines
from declbind.sources.code import load_code
from declbind.sources.database import load_database, text_of
from declbind.sources.files import load_files

logger = logging.getLogger("declbind")


class _Holder:
    """The state behind the functions of this module. ``lock`` guards every change of it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.registry: BindingRegistry | None = None
        self.overridden: BindingRegistry | None = None
        self.static: list[SourceItem] | None = None
        #: The valid database records in force with their classes, by text. An edit rebuilds only the edited record.
        self.built: dict[str, SourceItem] = {}
        #: The time, by ``time.monotonic()``, at which the version is read from the database again.
        self.stale_at = float("-inf")
        #: Whether a setting has changed since the registry was loaded.
        self.is_outdated = False
        #: Whether a transaction of this process has ever edited records. Most processes never do.
        self.has_edited = False


_holder = _Holder()
#: The registry of a trial, which is in force only in the context of the trial.
_tried: ContextVar[BindingRegistry | None] = ContextVar("declbind_tried_registry", default=None)


def _free_lock() -> None:
    """Give a forked child a new lock, because a thread that exists only in the parent may hold the old one."""
    _holder.lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_free_lock)


class _Edited:
    """An ``on_commit`` callback that marks its transaction as one that has edited records.

    Django drops the callback when the savepoint or the transaction is rolled back, so the mark disappears with the
    edit.
    """

    def __init__(self) -> None:
        self.registry: BindingRegistry | None = None

    def take_effect(self) -> None:
        """Load the committed configuration.

        This is a method because Django logs the ``__qualname__`` of a robust callback that fails.
        """
        check_version(force=True)


def get_registry() -> BindingRegistry:
    """Return the registry in force, at most ``VERSION_CHECK_SECONDS`` behind the database.

    Inside a transaction that has edited records, it includes those edits. In async code it is the registry that was
    loaded last. If the database does not answer, the last registry stays in force and nothing is raised.
    """
    tried = _tried.get()
    if tried is not None:
        return tried
    if _holder.overridden is not None:
        return _holder.overridden
    edited = _edited_here()
    if edited is not None:
        if edited.registry is None:
            edited.registry = _build(database_alias(), *read_version(database_alias()))
        return edited.registry
    check_version()
    return current_registry()


def is_settled(registry: BindingRegistry) -> bool:
    """Return whether ``registry`` is known to be in force here, without a query.

    If the result is ``False``, call ``get_registry``. This function runs for each write of any model.
    """
    return (
        _holder.registry is registry
        and not _holder.is_outdated
        and time.monotonic() < _holder.stale_at
        and _holder.overridden is None
        and _tried.get() is None
        and (not _holder.has_edited or _edited_here() is None)
    )


def current_registry() -> BindingRegistry:
    """Return the registry in force, without asking the database for a newer one."""
    if _holder.overridden is not None:
        return _holder.overridden
    registry = _holder.registry
    if registry is None or _holder.static is None:
        with _holder.lock:
            registry = _holder.registry
            if registry is None or _holder.static is None:
                # The records of the last registry stay in force. Without them, sockets would lose their subscriptions.
                old: BindingRegistry = registry or Registry()
                stored = [entry for entry in old.entries if entry.source == "database"]
                entries = (*build_entries(_static_items()), *stored)
                registry = _holder.registry = Registry(entries, old.generation, old.version)
    return registry


def check_version(force: bool = False) -> None:
    """Load the registry again if the version of the configuration has changed.

    Args:
        force: Read the version now. By default it is read at most once per ``VERSION_CHECK_SECONDS``.
    """
    now = time.monotonic()
    is_fresh = now < _holder.stale_at and not _holder.is_outdated
    if _holder.overridden is not None or (is_fresh and not force):
        return
    using = database_alias()
    if _edited_here() is not None:
        return
    try:
        generation, version = read_version(using)
        registry = current_registry()
        has_new_sources = _holder.is_outdated or code.has_new_classes()
        if has_new_sources or (generation, version) != (registry.generation, registry.version):
            _replace(using, generation, version, has_new_sources)
        _holder.stale_at = now + settings.VERSION_CHECK_SECONDS
    except SynchronousOnlyOperation:
        return
    except Exception as error:
        _holder.stale_at = now + settings.VERSION_CHECK_SECONDS
        logger.warning("The configuration could not be read, the last one stays in force: %s", error)


def refresh(force: bool = False) -> BindingRegistry:
    """Load the registry again.

    Args:
        force: Read files and classes again as well.

    Returns:
        The new registry.
    """
    if not force:
        check_version(force=True)
        return get_registry()
    using = database_alias()
    with _holder.lock:
        old = current_registry()
        _holder.static, _holder.built, _holder.is_outdated = None, {}, False
        try:
            new = _build(using, *read_version(using))
        except Exception as error:
            # Without the database no records can be loaded. The last ones stay in force.
            logger.warning("The configuration could not be read, the last one stays in force: %s", error)
            return old
        edited = _edited_here()
        if edited is not None:
            # Uncommitted edits are in force only in their own transaction.
            edited.registry = new
            return new
        _holder.registry = new
    signals.registry_changed.send_robust(sender=Registry, old=old, new=new)
    return get_registry()


def load_configuration(using: str | None = None) -> tuple[list[SourceItem], BindingRegistry]:
    """Read every source now, without changing the registry in force.

    Args:
        using: The database of the records. By default it is chosen by the routers.

    Returns:
        The items of all sources, and the registry that they would make. Its ``entries`` are in the order of the items.
    """
    using = using or database_alias()
    generation, version = read_version(using)
    items = [*load_code(), *load_files()]
    if is_migrated(using):
        items += load_database(using)
    return items, Registry(tuple(build_entries(items, stored_baselines(using))), generation, version)


def static_specs() -> list[BindingSpec]:
    """Return the valid specs of files and classes, without the baselines that are stored for them. Makes no query."""
    return [item.spec for item in _static_items() if item.spec is not None and item.is_usable]


@contextlib.contextmanager
def override(*bindings: type[Binding] | BindingSpec | Mapping[str, object]) -> Iterator[BindingRegistry]:
    """Put exactly these bindings in force in all threads of this process. For tests.

    Args:
        *bindings: Binding classes, specs, or records as dicts.

    Yields:
        The registry of these bindings.

    Raises:
        ConfigError: A binding is not valid.
    """
    items = [validate_given(binding) for binding in bindings]
    problems = [problem for item in items for problem in item.problems]
    if problems:
        raise ConfigError(problems)
    before, earlier = current_registry(), _holder.overridden
    registry = Registry(tuple(build_entries(items)), before.generation, before.version)
    if registry.problems:
        raise ConfigError([problem for _, problem in registry.problems])
    _holder.overridden = registry
    signals.registry_changed.send_robust(sender=Registry, old=before, new=registry)
    try:
        yield registry
    finally:
        _holder.overridden = earlier
        signals.registry_changed.send_robust(sender=Registry, old=registry, new=current_registry())


@contextlib.contextmanager
def trying(registry: BindingRegistry) -> Iterator[None]:
    """Put a registry in force inside the block, for this thread (or task) only.

    Args:
        registry: The registry to put in force.

    Yields:
        ``None``.
    """
    token = _tried.set(registry)
    try:
        yield
    finally:
        _tried.reset(token)


def reserved_streams() -> dict[str, str]:
    """Return the streams that files and classes define, with the places of their definitions.

    A database record cannot use these streams.
    """
    return {item.stream: item.where for item in _static_items() if item.stream}


def _edited_here() -> _Edited | None:
    if not _holder.has_edited:
        return None
    connection: Any = connections[database_alias()]
    # This search runs only after an edit, because a transaction with thousands of writes has as many callbacks.
    if not connection.in_atomic_block or not getattr(connection, "declbind_edited", False):
        return None
    for entry in reversed(connection.run_on_commit):
        edited = getattr(entry[1], "__self__", None)
        if isinstance(edited, _Edited):
            return edited
    connection.declbind_edited = False
    return None


def _replace(using: str, generation: str, version: int, has_new_sources: bool = False) -> None:
    with _holder.lock:
        old = current_registry()
        if has_new_sources:
            _holder.static, _holder.is_outdated = None, False
        elif (generation, version) == (old.generation, old.version):
            return
        new = _build(using, generation, version)
        # A slow thread that has read an older version must not replace a newer one.
        if not new.may_replace(old):
            return
        _holder.registry = new
    signals.registry_changed.send_robust(sender=Registry, old=old, new=new)


def _build(using: str, generation: str, version: int) -> BindingRegistry:
    items = list(_static_items())
    if is_migrated(using):
        items += load_database(using, _holder.built)
    entries = tuple(build_entries(items, stored_baselines(using)))
    _holder.built = {
        text_of(item.document): replace(item, binding=entry.binding)
        for item, entry in zip(items, entries, strict=True)
        if item.source == "database" and item.document is not None and entry.binding is not None
    }
    return Registry(entries, generation, version)


def _static_items() -> list[SourceItem]:
    with _holder.lock:
        static = _holder.static
        if static is None:
            static = _holder.static = [*load_code(), *load_files()]
        return static


def _on_edit(*, using: str, **kwargs: object) -> None:
    connection: Any = connections[using]
    _holder.has_edited = connection.declbind_edited = True
    transaction.on_commit(_Edited().take_effect, using=using, robust=True)


def _on_definition(sender: type[Binding], **kwargs: object) -> None:
    # The next write or request finds the class in its module. A class that a function makes may never be found there.
    if "<locals>" not in sender.__qualname__:
        _holder.stale_at = float("-inf")


def _on_registration(**kwargs: object) -> None:
    # What was loaded before an app's ready() knew nothing of its serializer. This takes no lock, because a module may
    # register one while another thread, which loads the registry, waits for the import of that module.
    if _holder.registry is not None or _holder.static is not None:
        _holder.static, _holder.is_outdated = None, True


def _on_setting_changed(*, setting: str, **kwargs: object) -> None:
    if setting in ("DECLBIND", "INSTALLED_APPS", "AUTH_USER_MODEL"):
        with _holder.lock:
            _holder.static, _holder.built, _holder.is_outdated = None, {}, True


def install() -> None:
    """Connect the registry to edits and settings. Called once, when the app is ready. Makes no query."""
    record_validation.reserved_streams = reserved_streams
    code.install()
    files.install()
    signals.binding_defined.connect(_on_definition, dispatch_uid="declbind.registry")
    signals.serializer_registered.connect(_on_registration, dispatch_uid="declbind.registry")
    signals.configuration_edited.connect(_on_edit, dispatch_uid="declbind.registry")
    setting_changed.connect(_on_setting_changed, dispatch_uid="declbind.registry")


__all__ = [
    "BindingRegistry",
    "check_version",
    "current_registry",
    "database_alias",
    "get_registry",
    "install",
    "is_settled",
    "load_configuration",
    "override",
    "refresh",
    "reserved_streams",
    "static_specs",
    "trying",
]
