"""Carry model writes out: capture them, log them in their own transaction, number them, and ring.

``capture`` turns writes of the ORM into events, ``log`` stores, numbers, reads and trims them, ``relay`` rings the
doorbell and runs the sequencer. Who hears an event is not decided here: see ``declbind.core.hub`` and
``declbind.live``. A new kind of write is captured in ``capture``; a new database quirk of the log belongs in ``log``.
"""
