"""From model writes to events: writes are captured, logged in their own transaction, numbered and announced.

``seams`` lists the private names of other packages, and ``hooks`` wraps methods and finds out whether the wrappers are
still called. ``capture`` installs the hooks. Each kind of write has a module: ``saves``, ``deletes``, ``updates``,
``inserts`` and ``lists``; ``writes`` has what they share, a captured write. ``plans`` says what these must know of a
model, and ``index`` which bindings listen to a table. ``batch`` gathers what one call
does to rows, and ``also`` finds related rows that are sent again. ``rows`` reads stored rows, ``statements``
extends the statements that Django writes, and ``drafts`` makes events of rows. ``entries`` writes events; ``log``
appends, reads and trims. ``sequencer`` numbers events; ``relay`` runs it and rings the doorbell. ``triggers`` reports
writes that do not pass through the ORM, and ``detector`` counts the writes that left no event.

Which clients receive an event is decided in ``declbind.core.hub`` and ``declbind.live``. A new kind of write gets a
module and a line in ``capture.HOOKS``; a new database quirk of the log belongs in ``entries`` or ``log``.
"""
