"""Control events for changes of permissions. Hubs read them in order with all other events and check their sockets.

If the change is in the database of the log, its control event is stored in the same transaction. A process that reads
the event therefore also reads the new permissions. If users and permissions are in another database, the control event
is stored right after the commit of the change. If the process dies between the two commits, the event is missing.

Changes without an event are found by the check that each process repeats every ``REVALIDATE_SECONDS``, and by every
request, which loads the permissions again. There is no event for raw SQL, for rows of a many-to-many table that are
deleted directly, for the rules of a permission backend, or for a session that expires.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.signals import user_logged_out
from django.core.exceptions import ImproperlyConfigured
from django.db import models, transaction
from django.db.models.signals import m2m_changed, post_delete, post_save
from django.utils import timezone

from declbind import signals, tenancy
from declbind.django_types import Key, Rows, User, through_of
from declbind.models import SavedView
from declbind.models.author import key_of
from declbind.outbound import log, observers
from declbind.registry import database_alias

from .permissions import session_digest

#: Columns of a user that do not affect permissions. ``last_login`` is written at every login.
HARMLESS_USER_FIELDS = frozenset({"last_login"})
#: The maximum number of users and sessions that one control event names. If there are more, all sockets are checked.
MAX_NAMED = 1_000
_LIST_CHANGES = ("post_add", "post_remove", "post_clear")


def kick(connection: str | None = None, user: Key = None, reason: str = "", tenant: str | None = None) -> None:
    """Close one connection, or all connections of a user, in all processes.

    The close code is 1012, as when a process ends, so clients connect again and resume. To keep a user away, use
    :func:`declbind.inbound.blocks.block`.

    Args:
        connection: The id of a connection.
        user: An instance of the user model, or a primary key.
        reason: The text that the client receives.
        tenant: The tenant whose connections are closed; "" means all tenants. By default it is the tenant of the
            database connection. If operators of that tenant see all tenants, a connection is found in any tenant, and
            a user in any tenant that shares users.

    Raises:
        ValueError: Neither ``connection`` nor ``user`` was given.
    """
    if connection is None and user is None:
        raise ValueError("kick() expected a connection or a user, got neither.")
    key = None if user is None else str(user.pk if isinstance(user, models.Model) else user)
    append_kick({"connection": connection, "user": key, "reason": reason}, reach_of_kick(key, tenant))


def append_kick(content: Mapping[str, object], tenant: str) -> None:
    """Append the control event that closes connections.

    Args:
        content: The values ``connection``, ``user`` and ``reason`` of :func:`kick`, and ``blocked``, which is true if
            the client must not connect again.
        tenant: The tenant whose connections are closed; "" means all tenants.
    """
    with transaction.atomic(using=database_alias()):
        _append({"type": "kick", **content}, database_alias(), tenant)


def reach_of_kick(user: str | None, tenant: str | None) -> str:
    """Return the tenant in which connections are closed; "" means all tenants.

    Args:
        user: The primary key of the user, or ``None`` if a single connection is closed.
        tenant: The tenant that the caller gave, or ``None``.

    Returns:
        The name of the tenant.

    Raises:
        TenantError: The tenant is not known.
    """
    if tenant is not None or not tenancy.is_on():
        return tenant or tenancy.EVERYBODY
    current = tenancy.of_connection(database_alias())
    is_everywhere = user is None or tenancy.may_be_shared(get_user_model())
    return tenancy.EVERYBODY if is_everywhere and tenancy.sees_all(current) else current


def recheck(users: Iterable[Key] | None = None) -> None:
    """Check the permissions of users on their open sockets, before any later event is delivered to them.

    Use this for permissions whose changes declbind cannot detect: those of a permission backend or of the project's own
    tables. Call it in the transaction of the change, so that a process that reads the event also reads the change.

    Args:
        users: Instances of the user model, or primary keys. ``None`` means all users.
    """
    keys = None if users is None else [user.pk if isinstance(user, models.Model) else user for user in users]
    with transaction.atomic(using=database_alias()):
        _append_users(keys, database_alias())


def install() -> None:
    """Connect to the signals. Called once, when the app is ready. Makes no query."""
    signals.configuration_edited.connect(_on_configuration_edited, dispatch_uid="declbind.revocation")
    if apps.is_installed("django.contrib.auth"):
        user_logged_out.connect(_on_logged_out, dispatch_uid="declbind.revocation")
        _watch_users(get_user_model())
        _watch_groups()
    for session_model in _session_models():
        observers.delete_observers[session_model] = _on_session_deleted
        observers.bulk_observers[session_model] = _on_sessions_written


def _append(content: Mapping[str, object], using: str | None, tenant: str) -> None:
    """Append a control event in the transaction of a change, or after its commit if it is in another database."""
    alias = database_alias()
    if log.is_here(alias):
        _after_change(lambda: log.append_control(content, alias, tenant=tenant), using, alias)


def _after_change(act: Callable[[], object], using: str | None, alias: str) -> None:
    if using in (None, alias):
        act()
    else:
        transaction.on_commit(act, using=using, robust=True)


def _append_users(pks: Iterable[Key] | None, using: str, model: type[models.Model] | None = None) -> None:
    """Append a control event for rows of a model that affect permissions, by default users."""
    users = None if pks is None else [str(pk) for pk in pks]
    if users != []:
        # The event is only for tenants that have these rows, because user 1 of another tenant is another user.
        _append({"type": "users", "users": users}, using, tenancy.concerned(model or get_user_model(), using))


# --- users -----------------------------------------------------------------------------------------------------------


def _watch_users(user_model: type[models.Model]) -> None:
    # The sender of a signal is the saved class, which may be a proxy or a child of the user model.
    for model in _family(user_model):
        post_save.connect(_on_user_saved, sender=model, dispatch_uid="declbind.revocation")
        post_delete.connect(_on_user_deleted, sender=model, dispatch_uid="declbind.revocation")
        observers.bulk_observers[model] = _on_users_written
    for name in ("groups", "user_permissions"):
        through = _through(user_model, name)
        if through is not None:
            m2m_changed.connect(_on_user_lists_changed, sender=through, dispatch_uid="declbind.revocation")


def _on_user_saved(
    *, instance: models.Model, created: bool, update_fields: Iterable[str] | None, using: str, **kwargs: object
) -> None:
    if created or (update_fields is not None and HARMLESS_USER_FIELDS.issuperset(update_fields)):
        return
    _append_users([instance.pk], using)


def _on_user_deleted(*, instance: AbstractBaseUser, using: str, **kwargs: object) -> None:
    alias, key = database_alias(), key_of(instance)
    _append_users([key], using)
    if log.is_here(alias):
        # Saved views have no foreign key that cascades, because users may be in another database.
        views = SavedView.objects.using(alias).filter(owner_pk=tenancy.owner_key(get_user_model(), key, using))
        _after_change(views.delete, using, alias)


def _on_users_written(rows: Rows, names: frozenset[str] | None, using: str) -> None:
    if names is not None and HARMLESS_USER_FIELDS.issuperset(names):
        return
    keys = list(rows.using(using).order_by("pk").values_list("pk", flat=True)[: MAX_NAMED + 1])
    _append_users(None if len(keys) > MAX_NAMED else keys, using)


def _on_user_lists_changed(
    *, instance: models.Model, action: str, reverse: bool, pk_set: Iterable[Key] | None, using: str, **kwargs: object
) -> None:
    if action in _LIST_CHANGES:
        # From the group's side, pk_set holds the users. After a clear from there, the users are not known.
        _append_users(pk_set if reverse else [instance.pk], using)


# --- groups and permissions ------------------------------------------------------------------------------------------


def _watch_groups() -> None:
    from django.contrib.auth.models import Group, Permission

    for model in (*_family(Group), *_family(Permission)):
        post_delete.connect(_on_rights_deleted, sender=model, dispatch_uid="declbind.revocation")
    for model in _family(Permission):
        observers.bulk_observers[model] = _on_permissions_written
        post_save.connect(_on_permission_saved, sender=model, dispatch_uid="declbind.revocation")
    through = _through(Group, "permissions")
    m2m_changed.connect(_on_group_permissions_changed, sender=through, dispatch_uid="declbind.revocation")


def _on_rights_deleted(*, instance: models.Model, using: str, **kwargs: object) -> None:
    _append_users(None, using, type(instance))


def _on_permission_saved(*, instance: models.Model, created: bool, using: str, **kwargs: object) -> None:
    # A new permission has not been granted to anyone. An existing one may have a new codename.
    if not created:
        _append_users(None, using, type(instance))


def _on_permissions_written(rows: Rows, names: frozenset[str] | None, using: str) -> None:
    _append_users(None, using, rows.model)


def _on_group_permissions_changed(*, sender: type[models.Model], action: str, using: str, **kwargs: object) -> None:
    if action in _LIST_CHANGES:
        _append_users(None, using, sender)


# --- sessions --------------------------------------------------------------------------------------------------------


def _on_logged_out(*, request: object, user: User | None, **kwargs: object) -> None:
    # This signal is sent before the session is flushed, so it still has its key.
    if user is None:
        return
    # The session may be unknown, because Channels' logout() passes no request and some sessions have no key. The user
    # is always named, because the session may have opened sockets under an earlier key.
    key = getattr(getattr(request, "session", None), "session_key", None)
    content = {"type": "session", "session": session_digest(key), "user": str(user.pk)}
    _append(content, None, tenancy.concerned(get_user_model(), database_alias()))


def _on_session_deleted(session: Any, using: str) -> None:
    # Expired sessions and sessions without a login authenticate no user.
    if session.expire_date > timezone.now() and SESSION_KEY in session.get_decoded():
        content = {"type": "session", "session": session_digest(session.session_key)}
        _append(content, using, tenancy.concerned(type(session), using))


def _on_sessions_written(rows: Rows, names: frozenset[str] | None, using: str) -> None:
    valid = rows.using(using).order_by("pk").filter(expire_date__gt=timezone.now())
    sessions = list(valid[: MAX_NAMED + 1])
    if len(sessions) > MAX_NAMED:
        _append_users(None, using, rows.model)
        return
    for session in sessions:
        _on_session_deleted(session, using)


def _session_models() -> set[type[models.Model]]:
    """Return the models that hold sessions: Django's own if installed, and the model of the configured engine."""
    found: set[type[models.Model]] = set()
    if apps.is_installed("django.contrib.sessions"):
        found.add(apps.get_model("sessions", "Session"))
    try:
        store = import_module(settings.SESSION_ENGINE).SessionStore
        if hasattr(store, "get_model_class"):
            found.add(store.get_model_class())
    except (ImportError, AttributeError, ImproperlyConfigured, RuntimeError):
        # The project notices an engine that cannot be imported at its first request. It must not prevent the start.
        pass
    return found


# --- configuration ---------------------------------------------------------------------------------------------------


def _on_configuration_edited(
    *, using: str, version: int, changes: Mapping[str, tuple[object, object]], **kwargs: object
) -> None:
    if log.is_here(using):
        content = {
            "type": "config",
            "version": version,
            "changes": {stream: [old, new] for stream, (old, new) in changes.items()},
        }
        log.append_control(content, using, version=version)


def _family(model: type[models.Model]) -> Iterator[type[models.Model]]:
    return (member for member in apps.get_models() if issubclass(member, model))


def _through(model: type[models.Model], name: str) -> type[models.Model] | None:
    field = next((field for field in model._meta.many_to_many if field.name == name), None)
    return None if field is None else through_of(field)
