"""Settings of a site that keeps the rows of its tenants in schemas of PostgreSQL."""

from tests.settings import *  # noqa: F403 - settings are what the module before has, and these
from tests.settings import DATABASES

DATABASES = {"default": {**DATABASES["default"], "ENGINE": "tests.tenant_backend"}}
