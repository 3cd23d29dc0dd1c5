"""Signals by which declbind notifies its own parts and projects.

Unless stated otherwise they are sent with ``send_robust``: a failing receiver never breaks a write.
"""

from django.dispatch import Signal

#: The process-wide registry was replaced. Arguments: ``old``, ``new`` (``core.registry.Registry``).
registry_changed = Signal()

#: A binding class was defined, other than those built from records. Sent with plain ``send``, before the class is an
#: attribute of its module. The sender is the class.
binding_defined = Signal()

#: A serializer was registered in code, under a name that was free. Sent with plain ``send``. The sender is the
#: serializer.
serializer_registered = Signal()

#: A binding failed while a write was captured. Arguments: ``stream``, ``error`` and ``instance``, the row. The row has
#: a ``pk``; it is ``None`` if it could not be read.
binding_failed = Signal()

#: Values that code of a binding returns were held back, because their names look like those of secrets. Sent once an
#: hour for each set of names and process. Arguments: ``stream``, ``names``: the places of the keys, ``using``.
values_withheld = Signal()

#: Binding records were edited. Sent inside the transaction of the edit, with plain ``send``: a receiver that fails
#: undoes the edit. Arguments: ``using``, ``version``, ``changes`` (stream -> (old definition, new definition)).
configuration_edited = Signal()
