"""The test suite of declbind: `core/` runs without Django, every other file is named for what it tests.

Real servers come from `servers.py`, and their fixtures from `conftest.py`. Fakes are small real classes.
"""
