from __future__ import annotations

import pytest

from .kinds import KINDS
from .stage import empty, make_tables


@pytest.fixture(scope="session")
def matrix_tables(django_db_setup, django_db_blocker):
    """Make the tables of all kinds; they go with the database."""
    with django_db_blocker.unblock():
        make_tables()


@pytest.fixture
def arena(matrix_tables, transactional_db):
    """Give a test a database that it can commit to, with nothing in the tables of any kind."""
    empty(KINDS)
