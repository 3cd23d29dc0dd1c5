"""The settings of the site for the console's measurements: those of the tests, with queries counted."""

import tests.settings
from tests.settings import *  # noqa: F403 - settings are what the module before has, and this

MIDDLEWARE = ["tests.benchmarks.counting.QueryCount", *tests.settings.MIDDLEWARE]
