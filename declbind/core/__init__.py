"""Decide, without doing: the part of declbind that knows no framework.

Here live the binding record (:mod:`~declbind.core.spec`), the judgement of its shape
(:mod:`~declbind.core.schema`), group names (:mod:`~declbind.core.groups`), the wire format
(:mod:`~declbind.core.frames`), the immutable registry (:mod:`~declbind.core.registry`) and who hears what in
one process (:mod:`~declbind.core.hub`).

Nothing in here imports Django or Channels, opens a socket or reads a clock: settings, times and connections
come in as arguments. What needs a model, a database or a channel layer belongs to a package above this one.
To add a module, keep to that rule (a test walks the imports) and to one noun for each file.
"""
