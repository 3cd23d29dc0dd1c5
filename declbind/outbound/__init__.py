"""Carry model writes out: capture them, log them in their own transaction, number them, and ring.

``capture`` puts the hooks into the ORM, a module for each kind of write: ``saves``, ``deletes``, ``updates``,
``inserts`` and ``lists``. ``plans`` and ``index`` say what they must know of a model, ``batch`` gathers what one call
does to rows, ``also`` whom else that concerns, ``rows`` and ``returning`` read stored rows, ``drafts`` makes events of
them. ``entries`` writes events, ``log`` appends, reads and trims; ``sequencer`` numbers, ``relay`` runs that and rings
the doorbell. ``triggers`` hears of what the ORM does not write, ``detector`` notices what nobody hears of.

Who hears an event is not decided here: see ``declbind.core.hub`` and ``declbind.live``. A new kind of write gets a
module and a line in ``capture.HOOKS``; a new database quirk of the log belongs in ``entries`` or ``log``.
"""
