"""The settings of the suite on SQLite as Django sets it up by default: no WAL, and transactions that begin to read."""

from tests.settings import *  # noqa: F403 - a settings module is made of all names of the other one
from tests.settings import DATABASES

DATABASES["default"].pop("OPTIONS", None)
