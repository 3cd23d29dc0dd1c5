"""The writes of clients: one request, one transaction, one reply.

The order of the checks is part of the protection, because each step discloses more to the client: whether it may write
at all, which fields it may send, whether the row exists for it, and whether its values are valid.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, Final

from django.core.exceptions import ObjectDoesNotExist, PermissionDenied, ValidationError
from django.db import DataError, IntegrityError, OperationalError, connections, models, router, transaction
from django.http import Http404

from declbind import row_validation, tenancy, validation_errors, value_validation
from declbind.bindings import Binding
from declbind.core import course
from declbind.core.errors import ClientError
from declbind.core.frames import MUTATIONS, Request, describe
from declbind.fields import concrete_field
from declbind.outbound import entries, log
from declbind.outbound.locks import take_write_lock
from declbind.registry import database_alias
from declbind.serializers import encode_key
from declbind.stored_values import comparable

from . import idempotency, permissions
from .conditions import check_condition

logger = logging.getLogger("declbind")

ATTEMPTS: Final = 3
#: After this many seconds a conflict is not retried but reported, because SQLite waits long before it raises the error.
RETRY_SECONDS: Final = 5.0
#: PostgreSQL's codes for deadlocks and serialization failures.
_SQLSTATES: Final = frozenset({"40001", "40P01"})
#: MySQL's numbers for a lock wait timeout, a deadlock and a changed record (MariaDB, under snapshot isolation).
_MYSQL_ERRORS: Final = frozenset({1205, 1213, 1020})
#: More error numbers of MySQL and MariaDB for a value that does not fit its column: an incorrect date, UUID or the
#: like, or text outside the character set.
_MYSQL_UNFIT: Final = frozenset({1292, 1366, 1367, 1411})
_UNFIT: Final = "The database refuses this row: a value does not fit its column."
#: The error message for an internal fault.
INTERNAL: Final = "The server could not carry this out. Its operators can see why."
#: The time limits of a rehearsal for a lock and for one statement, in seconds, because an operator waits for the
#: result.
_LOCK_SECONDS, _STATEMENT_SECONDS = 2, 10


def handle(request: Request, binding: type[Binding], identity: permissions.Identity) -> dict[str, object]:
    """Carry out a create, update or delete; after the commit, return the content of the reply, ``{"pk": ...}``.

    Blocks on the database, so call it in a worker thread.

    Raises:
        ClientError: The request is refused. Any other error is logged and raised as ``internal``, without its text.
    """
    try:
        with tenancy.activate(identity.tenant):
            return _carry_out_patiently(request, binding, identity)
    except ClientError:
        raise
    except tenancy.TenantError as error:
        logger.warning("Stream %r: a client's %s was refused: %s", binding.stream, request.action, error)
        raise ClientError("denied", "Not allowed.") from None
    except Exception:
        logger.exception("Stream %r: a client's %s failed.", binding.stream, request.action)
        raise ClientError("internal", INTERNAL) from None


def rehearse(request: Request, binding: type[Binding], identity: permissions.Identity) -> dict[str, object]:
    """Run the code of :func:`handle` for a trial, and roll everything back.

    The trial observes the steps (``core.course``). Nothing is stored, no event stays in the log, and no ``on_commit``
    callback is called. If the trial does not allow the write itself, SQLite's write lock is not taken either.

    Raises:
        ClientError: The error that a client would get. An ``internal`` error has the original error as its cause.
    """
    using = router.db_for_write(binding.model_class())
    follower = course.current()
    # The outer transaction is rolled back even if the inner one commits by mistake.
    with tenancy.activate(identity.tenant), transaction.atomic(using=using):
        try:
            with _limited_waiting(using):
                if follower is not None and follower.stores:
                    _take_write_lock(using)
                return _carry_out(request, binding, identity, using)
        except (ClientError, course.EnoughError):
            raise
        except OperationalError as error:
            if is_collision(error):
                raise _busy() from error
            raise ClientError("internal", INTERNAL) from error
        except Exception as error:
            raise ClientError("internal", INTERNAL) from error
        finally:
            transaction.set_rollback(True, using=using)


@contextmanager
def _limited_waiting(using: str) -> Iterator[None]:
    """Limit the time that statements in the block wait for locks and, if the database supports it, their duration."""
    connection: Any = connections[using]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
            cursor.execute(f"SET LOCAL statement_timeout = '{_STATEMENT_SECONDS}s'")
        yield
    elif connection.vendor == "mysql":
        # MySQL has no setting for one transaction, so the setting of the session is changed and restored.
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@innodb_lock_wait_timeout")
            (before,) = cursor.fetchone()
            cursor.execute("SET SESSION innodb_lock_wait_timeout = %s", [_LOCK_SECONDS])
        try:
            yield
        finally:
            # Django's cursors raise an error in a failed transaction, so they are not used here.
            with suppress(connection.Database.Error), connection.connection.cursor() as cursor:
                cursor.execute("SET SESSION innodb_lock_wait_timeout = %s", [before])
    else:
        yield


def _busy() -> ClientError:
    return ClientError("conflict", "Others are writing the same rows. Try again.")


def _carry_out_patiently(request: Request, binding: type[Binding], identity: permissions.Identity) -> dict[str, object]:
    using = router.db_for_write(binding.model_class())
    started = time.monotonic()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _carry_out(request, binding, identity, using)
        except OperationalError as error:
            if not is_collision(error):
                raise
            # If the caller has begun a transaction, it has failed as a whole and cannot be retried here.
            if connections[using].in_atomic_block or time.monotonic() - started > RETRY_SECONDS:
                break
        if attempt < ATTEMPTS:
            time.sleep(random.uniform(0, 0.05) * attempt)
    raise _busy()


def is_collision(error: OperationalError) -> bool:
    """Return whether an error means that two transactions conflicted, so that one of them can be retried."""
    cause = error.__cause__
    if getattr(cause, "sqlstate", None) in _SQLSTATES:
        return True
    return "database is locked" in str(error) or bool(error.args and error.args[0] in _MYSQL_ERRORS)


class _Write:
    """The state of one transaction. The first ``on_commit`` callback sets ``committed``."""

    def __init__(self) -> None:
        self.reply: dict[str, object] | None = None
        self.committed = False

    def commit(self) -> None:
        self.committed = True


def _carry_out(
    request: Request, binding: type[Binding], identity: permissions.Identity, using: str
) -> dict[str, object]:
    course.enter(course.Check.WHO)
    user = permissions.load_current_user(identity)
    if user is None:
        raise ClientError("denied", "The session is over.")
    course.enter(course.Check.DIRECTION, user)
    if not binding.resolved().spec.inbound:
        raise ClientError("closed_direction", f"Stream {binding.stream!r} accepts no changes.")
    bound = binding(user=user, using=using)
    write = _Write()
    username = str(user.get_username()) if user.is_authenticated else ""
    follower = course.current()
    try:
        with entries.acting(username if follower is None else follower.signature), transaction.atomic(using=using):
            transaction.on_commit(write.commit, using=using)
            if follower is None or follower.stores:
                _take_write_lock(using)
            write.reply = _answer_once(request, bound, identity)
            course.enter(course.Check.DONE, write.reply)
    except Exception as error:
        if not write.committed:
            answer = _as_client_error(error, request, bound)
            if answer is None:
                raise
            raise answer from error
        # An ``on_commit`` callback of the project failed. The write is stored, so the client must not repeat it.
        logger.exception("Stream %r: what a client's %s caused after its commit failed.", bound.stream, request.action)
    assert write.reply is not None
    return write.reply


def _take_write_lock(using: str) -> None:
    if log.is_here(using):
        take_write_lock(using)


def _answer_once(request: Request, bound: Binding, identity: permissions.Identity) -> dict[str, object]:
    if request.key is None:
        return _answer(request, bound)
    if not value_validation.is_storable_text(request.key):
        raise ClientError("invalid", "Expected a key without NUL and surrogates.")
    using = database_alias()
    assert bound.user is not None
    actor = idempotency.name_actor(bound.user, identity.connection_id, identity.tenant)
    asked = (request.action, request.pk)
    # A model in another database has its own transaction, inside that of the key.
    with nullcontext() if using == bound.using else transaction.atomic(using=using):
        row, reply = idempotency.claim(actor, str(bound.stream), request.key, using, asked)
        if reply is None:
            reply = _answer(request, bound)
            idempotency.keep(row, reply, asked)
    return reply


def _answer(request: Request, bound: Binding) -> dict[str, object]:
    course.enter(course.Check.REQUEST, bound)
    action, pk, data = bound.deserialize(request.payload)
    if not isinstance(action, str) or action not in MUTATIONS:
        raise ClientError("unknown_action", f"Expected create, update or delete, got {describe(action)}.")
    if action == "delete":
        data = {}
    elif not isinstance(data, Mapping):
        raise ClientError("invalid", f"Expected an object under 'data', got {describe(data)}.")
    key = None if action == "create" else _row_key(bound, action, pk)
    course.enter(course.Check.PERMISSION, key)
    if not _may(bound, action, key):
        raise ClientError("denied", "Not allowed.")
    if action == "create":
        data = _without_key(bound, data)
    course.enter(course.Check.FIELDS, data)
    _check_text(data)
    row_validation.check_whitelist(data, bound.writable_fields())
    course.enter(course.Check.SCOPE)
    _check_scope(bound, action, data)
    check_condition(bound, action, key, request.condition)
    return {"pk": _write(bound, action, key, data, pk)}


def _may(bound: Binding, action: str, key: object) -> bool:
    try:
        return bound.has_permission(bound.user, action, key)
    except ObjectDoesNotExist:
        # Project code looked for the row. The reply must be the same for a missing row and a forbidden one.
        return False


def _write(bound: Binding, action: str, key: object, data: Mapping[str, object], pk: object) -> object:
    """Call the binding's method between two checks of ``where`` and ``scope``; return the row's key as a JSON value.

    A method of the project may find a row in its own way, and may return nothing. It must not reach rows outside
    ``where`` and ``scope``.
    """
    spec = bound.resolved().spec
    found = None
    if action != "create" and bound.overrides(action) and (spec.where or spec.scope):
        found = bound.get_object(key)
    course.enter(course.Check.WRITE, action)
    if action == "delete":
        bound.delete(key)
        return pk
    stored = bound.create(data) if action == "create" else bound.update(key, data)
    row = stored if isinstance(stored, models.Model) else found
    if row is not None:
        bound.check_inside(row)
    if isinstance(stored, models.Model):
        return json.loads(encode_key(stored.pk, stored._meta.pk))
    return None if action == "create" else pk


def _row_key(bound: Binding, action: str, pk: object) -> object:
    """Return the key for a client's ``pk``. A value that cannot be a key is treated like that of a missing row."""
    if isinstance(pk, str | int | float) and not (isinstance(pk, str) and not value_validation.is_storable_text(pk)):
        try:
            return value_validation.coerce(bound.model_class()._meta.pk, pk)
        except ValueError:
            # Project code may look up rows by another value than their key.
            if not isinstance(pk, bool) and bound.overrides("deserialize", "get_object", action):
                return pk
    if not bound.overrides("has_permission"):
        course.enter(course.Check.PERMISSION)
        if not _may(bound, action, None):
            raise ClientError("denied", "Not allowed.")
    course.enter(course.Check.ROW, pk)
    raise ClientError("not_found", f"There is no {bound.model_class()._meta.verbose_name} of this key.")


def _without_key(bound: Binding, data: Mapping[str, object]) -> dict[str, object]:
    """Drop a primary key that the client sent, because the server chooses it."""
    key = bound.model_class()._meta.pk
    writable = {field.name for field in bound.writable_fields()}
    ignored = {"pk", key.name, key.attname} - writable
    return {name: value for name, value in data.items() if name not in ignored}


def _check_text(data: Mapping[str, object]) -> None:
    """Refuse text that a database cannot store, at any depth of the values."""
    if not all(map(value_validation.is_storable_text, data)):
        raise ClientError("invalid", "Expected names of fields without NUL and surrogates.")
    errors = {
        name: ["Expected text without NUL and surrogates."] for name, value in data.items() if not _is_storable(value)
    }
    if errors:
        raise ClientError("invalid", f"Not valid: {', '.join(sorted(errors))}.", errors)


def _is_storable(value: object) -> bool:
    if isinstance(value, str):
        return value_validation.is_storable_text(value)
    if isinstance(value, dict):
        return all(_is_storable(item) for pair in value.items() for item in pair)
    return all(map(_is_storable, value)) if isinstance(value, list) else True


def _check_scope(bound: Binding, action: str, data: Mapping[str, object]) -> None:
    """Refuse a request that would give a row to another user or create a row without an owner."""
    model = bound.model_class()
    errors: dict[str, list[str]] = {}
    for name, own in bound.scope_values().items():
        field = concrete_field(model, name)
        if own is None and action == "create":
            raise ClientError("denied", "Not allowed.")
        if field.name not in data:
            continue
        try:
            sent = value_validation.coerce(field, data[field.name])
            differs = comparable(field, sent) != comparable(field, own)
        except ValueError:
            differs = True
        if differs:
            errors[field.name] = ["Expected your own value. Correct it or leave it out."]
    if errors:
        raise ClientError("invalid", f"Not accepted: {', '.join(sorted(errors))}.", errors)


def _as_client_error(error: Exception, request: Request, bound: Binding) -> ClientError | None:
    """Return the error for the client; ``None`` if the client did not cause the error of Django or the database."""
    match error:
        case ValidationError():
            return validation_errors.as_client_error(error, bound, request.data)
        case PermissionDenied():
            return ClientError("denied", "Not allowed.")
        case ObjectDoesNotExist() | Http404():
            return ClientError("not_found", f"There is no such {bound.model_class()._meta.verbose_name}.")
        case IntegrityError() if request.action == "delete":
            return ClientError("conflict", "Other rows refer to this one. Delete them first.")
        case IntegrityError():
            return ClientError(
                "invalid", "The database refuses this row: a value is missing or conflicts with another row."
            )
        case DataError():
            return ClientError("invalid", _UNFIT)
        case OperationalError() if error.args and error.args[0] in _MYSQL_UNFIT:
            return ClientError("invalid", _UNFIT)
    return None
