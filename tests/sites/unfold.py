"""A site whose admin is themed by django-unfold."""

from tests.settings import *  # noqa: F403 - settings are what the module before has, and this
from tests.settings import INSTALLED_APPS as STOCK_APPS
from tests.settings import MIDDLEWARE as STOCK_MIDDLEWARE

INSTALLED_APPS = ["unfold", *STOCK_APPS]
# Its pages are full of inline scripts, which the policy would stop.
MIDDLEWARE = [name for name in STOCK_MIDDLEWARE if name != "tests.csp.StrictPolicy"]
