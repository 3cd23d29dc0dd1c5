"""A site with users in one database, and bound models with declbind's tables in another.

``settings`` is its configuration and ``shop`` its app. ``course`` has the tests that run on it, in a process of their
own that ``tests/test_two_databases.py`` starts.
"""
