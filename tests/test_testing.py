"""The testing tools for users: they report an unmet requirement at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.test import SimpleTestCase, TestCase, TransactionTestCase

from declbind import testing
from declbind.testing import Client, override_bindings
from tests.live import NUMBERS, store, subscribe

TEXT = (
    "declbind.testing.Client needs committed data, and this test runs in a transaction of database 'default', which "
    "the threads that serve the socket cannot see. Use TransactionTestCase instead of TestCase. With pytest-django, "
    "use the mark django_db(transaction=True) or the fixture transactional_db."
)
#: In seconds. It used to be ten, and then a TimeoutError.
AT_ONCE = 3.0


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < AT_ONCE


async def speak() -> dict[str, object]:
    with override_bindings(NUMBERS):
        async with Client() as client:
            return await subscribe(client)


class InTestCase(TestCase):
    """A Django test case, whose transaction is rolled back at the end."""

    async def test_an_async_test_gets_an_error(self) -> None:
        with self.assertRaisesMessage(RuntimeError, TEXT):
            await speak()

    def test_a_sync_test_gets_an_error(self) -> None:
        with self.assertRaisesMessage(RuntimeError, TEXT):
            async_to_sync(speak)()

    def test_a_loop_of_its_own_gets_an_error(self) -> None:
        with self.assertRaisesMessage(RuntimeError, TEXT):
            asyncio.run(speak())


class InTransactionTestCase(TransactionTestCase):
    """Negative control: a test case that commits."""

    async def test_it_is_accepted(self) -> None:
        assert (await speak())["ok"]

    def test_it_is_accepted_in_sync_code(self) -> None:
        assert async_to_sync(speak)()["ok"]


@pytest.mark.django_db
async def test_the_transaction_of_pytest_django_is_an_error() -> None:
    with pytest.raises(RuntimeError) as raised:
        await speak()
    assert str(raised.value) == TEXT


def test_the_fixture_db_is_an_error(db: None) -> None:
    with pytest.raises(RuntimeError) as raised:
        async_to_sync(speak)()
    assert str(raised.value) == TEXT


@pytest.mark.django_db(transaction=True)
async def test_committed_data_is_accepted() -> None:
    """Negative control: a finished transaction does not count."""
    await store()
    assert (await speak())["ok"]


@pytest.mark.django_db(transaction=True)
def test_a_transaction_of_the_test_itself_is_an_error() -> None:
    with transaction.atomic(), pytest.raises(RuntimeError):
        async_to_sync(speak)()
    assert not connection.in_atomic_block
    assert async_to_sync(speak)()["ok"]


class WithoutDatabase(SimpleTestCase):
    """A test case without access to a database: the search for a transaction makes no query."""

    def test_no_query_is_made(self) -> None:
        assert testing.find_transactions() == []
