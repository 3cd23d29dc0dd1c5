"""Carry model writes out: capture them, log them in their own transaction, number them, and ring.

``capture`` hooks into the writes of the ORM; ``plans`` says what it must know of a model, ``rows`` reads stored rows,
``drafts`` makes events of them. ``log`` stores, numbers, reads and trims the events; ``relay`` rings the doorbell and
runs the sequencer. Who hears an event is not decided here: see ``declbind.core.hub`` and ``declbind.live``. A new kind
of write is captured in ``capture``; a new database quirk of the log belongs in ``log``.
"""
