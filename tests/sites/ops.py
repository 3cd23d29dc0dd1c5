"""A site with an admin of its own, under another name and another address, and without the standard one."""

from tests.settings import *  # noqa: F403 - settings are what the module before has, and this

ROOT_URLCONF = "tests.sites.ops_urls"
