"""Idempotency: a retried request gets the first answer; concurrent requests are distinguished, retried or refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection, connections, transaction
from django.utils import timezone

from declbind import WebsocketBinding
from declbind.core.errors import ClientError
from declbind.inbound import idempotency, writes
from declbind.models import IdempotencyKey
from tests.factories import AnimalFactory, UserFactory, make_user
from tests.zoo.clients import ANIMALS, Client, be, connect
from tests.zoo.models import Animal

pytestmark = pytest.mark.django_db(transaction=True)

WAIT = 20


def run_together(*calls: Callable[[], Any]) -> list[Any]:
    """Run each call in a thread of its own, all at once, and return what they return or raise."""
    results: list[Any] = [None] * len(calls)
    start = threading.Barrier(len(calls))

    def run(index: int, call: Callable[[], Any]) -> None:
        try:
            start.wait(WAIT)
            results[index] = call()
        except Exception as error:
            results[index] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=item) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    return results


# Keys -----------------------------------------------------------------------------------------------------------------


def check_retry(client: Client) -> None:
    """Assert that a create sent twice with one key makes one row and gives one answer."""
    first = client.send("create", data={"name": "Ada"}, key="k1")
    assert client.send("create", data={"name": "Ada"}, key="k1") == first
    assert Animal.objects.count() == 1


def test_a_retry_gets_the_first_answer():
    """The second request writes nothing, even where it would be refused by now."""
    client = connect()
    check_retry(client)
    client.send("create", data={"name": "Bea"}, key="k2")
    assert Animal.objects.count() == 2


def test_a_server_without_keys_is_detected(monkeypatch):
    """Negative control: a server that ignores keys fails the previous test."""
    monkeypatch.setattr(writes, "_answer_once", lambda request, bound, identity: writes._answer(request, bound))
    with pytest.raises((AssertionError, pytest.fail.Exception, ClientError)):
        check_retry(connect())


def test_a_delete_is_retried_like_any_other():
    """The row is gone, but the retry still gets the successful reply."""
    row = AnimalFactory.create()
    client = connect()
    assert client.send("delete", row.pk, key="k") == client.send("delete", row.pk, key="k") == {"pk": row.pk}


def test_only_successful_requests_keep_their_key():
    """A refused request stores no key, so it can be corrected and sent again."""
    client = connect()
    assert client.refused("create", data={"name": ""}, key="k").code == "invalid"
    assert not IdempotencyKey.objects.exists()
    client.send("create", data={"name": "Ada"}, key="k")
    assert Animal.objects.count() == 1


def test_keys_belong_to_a_user_and_a_stream():
    """The same key of another user, of another anonymous connection or on another stream is another key."""
    ann, bob = UserFactory.create(), UserFactory.create()
    client = connect()
    actors = [be(ann), be(bob), be(), type(be())(connection_id="c2"), type(be())(connection_id=str(ann.pk))]
    for number, client.identity in enumerate(actors, 1):
        client.send("create", data={"name": f"Animal {number}"}, key="k")
        assert Animal.objects.count() == number
    other = connect({**ANIMALS, "stream": "others"})
    other.send("create", data={"name": "Other"}, key="k")
    assert Animal.objects.count() == len(actors) + 1


def test_a_user_keeps_the_key_over_a_reconnect():
    """The answer was lost with the connection; on the next one the retry still finds it."""
    ann = UserFactory.create()
    client = connect(user=ann)
    first = client.send("create", data={"name": "Ada"}, key="k")
    client.identity = type(be())(user_pk=str(ann.pk), connection_id="another")
    assert client.send("create", data={"name": "Ada"}, key="k") == first


def test_an_old_key_can_be_used_again(settings):
    """After IDEMPOTENCY_SECONDS the key is free, whether or not its row was deleted."""
    client = connect()
    client.send("create", data={"name": "Ada"}, key="k")
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(seconds=601))
    second = client.send("create", data={"name": "Bea"}, key="k")
    assert Animal.objects.count() == 2
    assert client.send("create", data={"name": "Cid"}, key="k") == second


def test_a_key_that_no_database_stores_is_invalid():
    """The key is text from a client, and may be hostile."""
    for key in ("a\0", "\ud800"):
        assert connect().refused("create", data={"name": "a"}, key=key).code == "invalid"


def test_an_actor_always_fits_its_column():
    """A user's key may be any text. A long one is replaced by its hash."""
    user = type("LongUser", (), {"is_authenticated": True, "pk": "x" * 300})()
    assert len(idempotency.name_actor(user, "")) <= 100


def test_two_concurrent_requests_with_one_key_write_once():
    """The second waits for the first, and gets its answer."""
    user = make_user("zoo.add_animal")
    inside, go = threading.Event(), threading.Event()

    class Slow(WebsocketBinding):
        model, stream, fields = Animal, "animals", ["name"]

        def create(self, data):
            row = super().create(data)
            inside.set()
            assert go.wait(WAIT)
            return row

    client = connect(Slow, user=user)

    def late() -> Any:
        assert inside.wait(WAIT)
        threading.Timer(0.2, go.set).start()
        return client.send("create", data={"name": "Ada"}, key="k")

    first, second = run_together(lambda: client.send("create", data={"name": "Ada"}, key="k"), late)
    assert first == second == {"pk": Animal.objects.get().pk}


def test_a_request_that_waited_for_a_failure_is_carried_out():
    """The first request with the key fails while the second one waits. The second is then carried out."""
    inside, go = threading.Event(), threading.Event()

    class FirstFails(WebsocketBinding):
        model, stream, fields = Animal, "animals", ["name"]
        permissions = ANIMALS["permissions"]

        def create(self, data):
            row = super().create(data)
            if not inside.is_set():
                inside.set()
                assert go.wait(WAIT)
                raise ClientError("conflict", "No.")
            return row

    client = connect(FirstFails)

    def late() -> Any:
        assert inside.wait(WAIT)
        threading.Timer(0.2, go.set).start()
        return client.send("create", data={"name": "Ada"}, key="k")

    first, second = run_together(lambda: client.send("create", data={"name": "Ada"}, key="k"), late)
    assert isinstance(first, ClientError)
    assert second == {"pk": Animal.objects.get().pk}


# Concurrent requests --------------------------------------------------------------------------------------------------


def test_a_unique_value_sent_twice_at_once_is_stored_once(monkeypatch):
    """If both validations succeed, the database decides: one value is stored, and the other is invalid."""
    both = threading.Barrier(2)
    save = Animal.save

    def save_together(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            both.wait(0.5)
        except threading.BrokenBarrierError:
            pass  # SQLite lets one writer in at a time
        save(self, *args, **kwargs)

    monkeypatch.setattr(Animal, "save", save_together)
    client = connect()
    results = run_together(*[lambda: client.send("create", data={"name": "Ada"})] * 2)
    errors = [result for result in results if isinstance(result, ClientError)]
    assert [error.code for error in errors] == ["invalid"]
    assert Animal.objects.count() == 1


def test_concurrent_conditional_writes_overwrite_nothing():
    """Each writer adds one to the value that it read. With ``if`` no addition is lost."""
    row = AnimalFactory.create(legs=0)
    client = connect()

    def add_one() -> int:
        for tries in range(200):
            legs = Animal.objects.get(pk=row.pk).legs
            try:
                client.send("update", row.pk, {"legs": legs + 1}, condition={"legs": legs})
            except ClientError as error:
                if error.code != "conflict":
                    raise
            else:
                return tries
        raise AssertionError("never got through")

    results = run_together(*[add_one] * 6)
    assert [result for result in results if isinstance(result, Exception)] == []
    row.refresh_from_db()
    assert row.legs == 6


class Colliding(WebsocketBinding):
    """A function that fails a number of times, like one of two transactions in a deadlock."""

    model, stream, fields = Animal, "animals", ["name"]
    permissions = ANIMALS["permissions"]
    failures = 0
    tries = 0

    def create(self, data):
        type(self).tries += 1
        row = super().create(data)
        if self.tries <= self.failures:
            raise OperationalError("deadlock") from type("Deadlock", (Exception,), {"sqlstate": "40P01"})()
        return row


@pytest.mark.parametrize(("failures", "code"), [(0, None), (2, None), (3, "conflict")])
def test_a_collision_is_tried_three_times(failures, code):
    """The whole transaction is repeated, and a failed one leaves nothing behind."""
    binding: Any = type("Binding", (Colliding,), {"failures": failures})
    client = connect(binding)
    if code is None:
        client.send("create", data={"name": "Ada"})
    else:
        assert client.refused("create", data={"name": "Ada"}).code == code
    assert binding.tries == min(failures + 1, 3)
    assert Animal.objects.count() == (code is None)


def test_a_collision_inside_a_transaction_is_not_retried():
    """A failed transaction cannot continue, so its caller gets the collision at once."""
    binding: Any = type("Binding", (Colliding,), {"failures": 1})
    client = connect(binding)
    with transaction.atomic():
        assert client.refused("create", data={"name": "Ada"}).code == "conflict"
    assert binding.tries == 1


@pytest.mark.parametrize(
    ("error", "collision"),
    [
        (OperationalError("database is locked"), True),
        (OperationalError(1213, "Deadlock found"), True),
        (OperationalError("server closed the connection unexpectedly"), False),
        (OperationalError(), False),
    ],
)
def test_a_lost_connection_is_not_retried(error, collision):
    """Only faults that a retry may resolve are retried."""
    assert writes.is_collision(error) is collision


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one lock, so no deadlock")
def test_real_deadlocks_are_resolved():
    """Two requests that lock two rows in opposite order both succeed."""
    one, two = AnimalFactory.create(), AnimalFactory.create()
    met = threading.Barrier(2)

    class Crossing(WebsocketBinding):
        model, stream, fields = Animal, "animals", ["name"]
        permissions = ANIMALS["permissions"]

        def update(self, pk, data):
            row = super().update(pk, data)
            try:
                met.wait(1)
            except threading.BrokenBarrierError:
                pass  # the second try of one finds the other gone
            self.get_object(two.pk if pk == one.pk else one.pk)
            return row

    client = connect(Crossing)
    results = run_together(
        lambda: client.send("update", one.pk, {"name": "Ada"}), lambda: client.send("update", two.pk, {"name": "Bea"})
    )
    assert results == [{"pk": one.pk}, {"pk": two.pk}]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite checks foreign keys at once")
def test_an_error_at_the_commit_is_answered():
    """PostgreSQL checks foreign keys at the commit. Such a fault is the client's as well."""

    class Dangling(WebsocketBinding):
        model, stream, fields = Animal, "animals", ["name"]
        permissions = ANIMALS["permissions"]

        def create(self, data):
            return Animal.objects.create(keeper_id=999_999, **data)

    assert connect(Dangling).refused("create", data={"name": "Ada"}).code == "invalid"
    assert not Animal.objects.exists()


# After the commit -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raised", [RuntimeError("mail server down"), IntegrityError("in a callback")])
def test_a_fault_after_the_commit_does_not_undo_the_answer(raised, caplog):
    """The row is stored: an answer that says otherwise would make the client send it again."""

    def fail() -> None:
        raise raised

    class Mailing(WebsocketBinding):
        model, stream, fields = Animal, "animals", ["name"]
        permissions = ANIMALS["permissions"]

        def create(self, data):
            row = super().create(data)
            transaction.on_commit(fail)
            return row

    assert connect(Mailing).send("create", data={"name": "Ada"}) == {"pk": Animal.objects.get().pk}
    assert "after its commit" in caplog.text


def write_at_once(monkeypatch: Any) -> list[Any]:
    """Let four threads write to SQLite in its default mode, each request tried once."""
    row = AnimalFactory.create(legs=0)
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "transaction_mode", "DEFERRED")
    monkeypatch.setattr(writes, "ATTEMPTS", 1)
    client = connect()

    def write_often(value: int) -> None:
        connection.ensure_connection()
        assert vars(connections["default"])["transaction_mode"] == "DEFERRED"
        for _ in range(20):
            client.send("update", row.pk, {"legs": value})

    return run_together(*[lambda value=value: write_often(value) for value in range(4)])


only_sqlite = pytest.mark.skipif(connection.vendor != "sqlite", reason="only SQLite has modes of beginning")


@only_sqlite
def test_writers_wait_in_the_default_mode_of_sqlite(monkeypatch):
    """A transaction that reads first and writes later would fail at once when another one wrote in between."""
    assert write_at_once(monkeypatch) == [None] * 4


@only_sqlite
def test_writers_that_do_not_wait_are_detected(monkeypatch):
    """Negative control: without taking the lock first, the writers of the previous test collide."""
    monkeypatch.setattr(writes, "_take_write_lock", lambda using: None)
    assert any(isinstance(result, ClientError) for result in write_at_once(monkeypatch))
