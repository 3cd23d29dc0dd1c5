"""Benchmarks of declbind, its peers, and the limits of server and machine, in one run: `make bench`.

All contenders use the same model, database, server and client program; only the way from a `save()` to the browsers
differs (`contenders.py`). Server, writer and clients are processes of their own, driven from `__main__.py` by lines
of JSON. A figure of a run that lost a frame does not count, and is marked.

To add a measure: a module with a function that takes an `Arena` and returns a `report.Section`, and a line in
`__main__.PARTS`. To add a contender: a name in `contenders.py`, its branch in `settings.py` and `asgi.py`.
"""
