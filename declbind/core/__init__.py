"""The decisions of declbind, free of any framework.

The package holds the binding record (:mod:`~declbind.core.spec`), the validation of its shape
(:mod:`~declbind.core.schema`), group names (:mod:`~declbind.core.groups`) and the wire format
(:mod:`~declbind.core.frames`). It also holds the immutable registry (:mod:`~declbind.core.registry`) and the
subscriptions of one process (:mod:`~declbind.core.hub`).

Nothing in here imports Django or Channels, opens a socket or reads a clock. Settings, times and connections are
passed in as arguments. Code that needs a model, a database or a channel layer belongs to a package above this one. A
test checks the imports. Each module is about one noun.
"""
