"""Signals that tell one part of declbind, or a project, what another part did.

Unless said otherwise they are sent with ``send_robust``: a receiver that fails never breaks a write.
"""

from django.dispatch import Signal

#: The process-wide registry was replaced. Arguments: ``old``, ``new`` (``core.registry.Registry``).
registry_changed = Signal()

#: A class of a binding was defined, other than those that are built from records. Sent with plain ``send``, before the
#: module of the class has it. The sender is the class.
binding_defined = Signal()

#: A binding failed while a write was captured. Arguments: ``stream``, ``error``, ``instance``: the row, which has a
#: ``pk``, or ``None`` if the row could not be read.
binding_failed = Signal()

#: Values that code of a binding returns were held back, because their names look like those of secrets. Sent once an
#: hour for each set of names and process. Arguments: ``stream``, ``names``: the places of the keys, ``using``.
values_withheld = Signal()

#: Binding records were edited; sent inside the transaction of the edit, with plain ``send``: a receiver that fails
#: undoes the edit. Arguments: ``using``, ``version``, ``changes`` (stream -> (old definition, new definition)).
configuration_edited = Signal()
