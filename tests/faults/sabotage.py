"""Broken variants of the product, to show that the checker detects what each rule prevents.

`FAULTS_SABOTAGE` names a broken variant for a process of a fault test. Each is plausible code of a developer who
does not know why the product does it differently.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import time
from collections.abc import Callable
from typing import Any, TypeAlias

from django.core.exceptions import ObjectDoesNotExist

from declbind.bindings import Binding

#: A module of declbind, whose functions a variant replaces.
Module: TypeAlias = Any

VARIABLE = "FAULTS_SABOTAGE"
#: The advisory lock on which a broken sequencer waits between reading and locking.
GATE = 4_711


def send_in_post_save(log: Module) -> None:
    """Append and commit at once, like code in ``post_save``: work that is rolled back later was sent."""
    from django.db import connections

    from declbind.outbound import entries

    def append(drafts, using, began_in=None):
        other = connections[using].copy()
        try:
            entries.insert(drafts, other)
        finally:
            other.close()

    log.append = append
    append_always()


def send_on_commit(log: Module) -> None:
    """Append after the commit, like code in ``on_commit``: a crash in between loses the event."""
    from django.db import transaction

    from . import crashes

    original = log.append

    def append(drafts, using, began_in=None):
        def send() -> None:
            crashes.reach("before_sending")
            original(drafts, using)

        transaction.on_commit(send, using=using)

    log.append = append
    append_always()


def append_always() -> None:
    """Disable the joint update: the variants that send by themselves replace ``append``."""
    from declbind.outbound import saves

    module: Module = saves
    module.can_join = lambda *args: False


def read_by_id(log: Module) -> None:
    """Use ids as the order of the log, on a database where they become visible out of order."""
    from declbind.live import log_reader
    from declbind.outbound import history, sequencer

    modules: tuple[Module, ...] = log, history, sequencer
    for module in modules:
        module.needs_sequencer = lambda using: False
    log.LAST_ID = history.LAST_ID = "(SELECT MAX(id) FROM declbind_event)"
    # A reader by ids cannot require that none is missing.
    log_reader.Tick.is_whole = lambda self, cursor: True  # type: ignore[method-assign]


def ignore_waiting(sequencer: Module) -> None:
    """Use a snapshot as the state at the head's offset, although it holds rows whose events have no number yet."""
    sequencer.unsequenced_ids = lambda using: frozenset()


def read_before_lock(sequencer: Module) -> None:
    """Read the events without a number before locking. In between it waits for the test's gate."""
    from django.db import connections, transaction

    def sequence(using: str, limit: int = 0) -> int:
        with connections[using].cursor() as cursor:
            cursor.execute("SELECT id FROM declbind_event WHERE seq IS NULL ORDER BY id")
            ids = [id_ for (id_,) in cursor.fetchall()]
            if not ids:
                return 0
            cursor.execute("SELECT pg_advisory_lock(%s), pg_advisory_unlock(%s)", [GATE, GATE])
            with transaction.atomic(using=using):
                cursor.execute("SELECT seq FROM declbind_head WHERE id = 1 FOR UPDATE")
                (last,) = cursor.fetchone()
                for offset, id_ in enumerate(ids, last + 1):
                    cursor.execute("UPDATE declbind_event SET seq = %s WHERE id = %s", [offset, id_])
                cursor.execute("UPDATE declbind_head SET seq = %s WHERE id = 1", [last + len(ids)])
        return len(ids)

    sequencer.sequence = sequence


def trust_the_tables(history: Module) -> None:
    """Assume that the tables are those of before, whatever happened while this process was down."""
    history.check_incarnation = lambda using: None


def ignore_the_key(writes: Module) -> None:
    """Ignore the key: the retry of a committed write without an answer writes again."""
    writes._answer_once = lambda request, bound, identity: writes._answer(request, bound)


def keep_the_key_apart(writes: Module) -> None:
    """Store the answer after the commit, like keys in a cache: a crash in between forgets it."""
    from django.db import transaction

    from declbind.inbound import idempotency
    from declbind.models import IdempotencyKey

    def answer_once(request, bound, identity):
        actor = idempotency.name_actor(bound.user, identity.connection_id)
        stream = str(bound.stream)
        kept = IdempotencyKey.objects.filter(actor=actor, stream=stream, key=request.key).first()
        if kept is not None:
            answer: dict[str, Any] = json.loads(kept.reply)["reply"]
            return answer
        reply: dict[str, Any] = writes._answer(request, bound)

        def keep() -> None:
            with transaction.atomic():
                row, _ = idempotency.claim(actor, stream, request.key, bound.using)
                idempotency.keep(row, reply)

        transaction.on_commit(keep)
        return reply

    writes._answer_once = answer_once


class _Unlocked:
    """A binding that finds rows without locking them."""

    def __init__(self, bound: Binding) -> None:
        self.bound = bound

    def __getattr__(self, name: str) -> object:
        return getattr(self.bound, name)

    def get_object(self, key: Any) -> Any:
        return self.bound.get_queryset().get(pk=key)


def look_without_locking(writes: Module) -> None:
    """Check a condition on a row that is not locked, on a slow machine: two concurrent writes both succeed."""
    original = writes.check_condition

    def check_condition(bound, action, key, condition):
        with contextlib.suppress(ObjectDoesNotExist):
            original(_Unlocked(bound), action, key, condition)
        if condition:
            time.sleep(0.1)  # the fault is that this takes time

    writes.check_condition = check_condition


LOG, HISTORY, SEQUENCER = "declbind.outbound.log", "declbind.outbound.history", "declbind.outbound.sequencer"
WRITES = "declbind.inbound.writes"
#: Each variant with the module that it changes.
VARIANTS: dict[str, tuple[Callable[[object], None], str]] = {
    "send in post_save": (send_in_post_save, LOG),
    "send on commit": (send_on_commit, LOG),
    "read by id": (read_by_id, LOG),
    "ignore waiting": (ignore_waiting, SEQUENCER),
    "read before lock": (read_before_lock, SEQUENCER),
    "trust the tables": (trust_the_tables, HISTORY),
    "ignore the key": (ignore_the_key, WRITES),
    "keep the key apart": (keep_the_key_apart, WRITES),
    "look without locking": (look_without_locking, WRITES),
}


def install() -> None:
    """Install the variant that the environment names; without one, do nothing."""
    name = os.environ.get(VARIABLE)
    if not name:
        return
    if name not in VARIANTS:
        raise ValueError(f"{VARIABLE}: expected one of {', '.join(VARIANTS)}, got {name!r}")
    variant, module = VARIANTS[name]
    variant(importlib.import_module(module))
