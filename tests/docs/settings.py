"""The settings under which the examples of the documentation run: those of the suite, and the app that they use."""

from tests.settings import *
from tests.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "rest_framework", "tests.docs.notes"]
