"""The suite of declbind: `core/` runs without Django, every other file is named for the edge that it tests.

Real servers come from `servers.py`, the fixtures that hand them out from `conftest.py`. Fakes are small real
classes.
"""
