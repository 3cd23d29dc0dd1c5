"""The settings under which the examples of the documentation run: those of the suite, and the app that they use."""

from tests.settings import *  # noqa: F403 (settings have no other names than these)
from tests.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "rest_framework", "tests.docs.notes"]
