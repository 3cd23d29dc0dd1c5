from __future__ import annotations

import pytest

from .kinds import KINDS
from .sample import empty, make_tables


@pytest.fixture(scope="session")
def matrix_tables(django_db_setup, django_db_blocker):
    """Make the tables of all kinds; they are dropped with the database."""
    with django_db_blocker.unblock():
        make_tables()


@pytest.fixture
def arena(matrix_tables, transactional_db):
    """Provide a database that tests can commit to, with empty tables of all kinds."""
    empty(KINDS)
