"""Configure the site that operators are measured on: that of the tests, with its queries counted."""

import tests.settings
from tests.settings import *  # noqa: F403 - settings are what the module before has, and this

MIDDLEWARE = ["tests.benchmarks.counting.QueryCount", *tests.settings.MIDDLEWARE]
