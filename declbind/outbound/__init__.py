"""From model writes to events: writes are captured, logged in their own transaction, numbered and announced.

``seams`` lists the private names of other packages, ``seam_checks`` checks them, and ``hooks`` wraps methods and finds
out whether the wrappers are still called. ``capture`` installs the hooks. Each kind of write has a module:

- ``saves``: ``Model.save`` of a table; ``parents``: the tables of its parents before that; ``joint_update``: an update
  and its events in one statement; ``saved_rows``: the groups and events of a saved row;
- ``deletes``: ``delete`` with its cascades, and what is set null;
- ``updates``: ``QuerySet.update`` and ``bulk_update``;
- ``inserts``: ``bulk_create`` and what ends in it, such as ``add`` of a list;
- ``lists``: ``set`` of a list, and the rows that own what through rows list.

``writes`` has what they share, a captured write, and ``django_types`` the names of types. ``plans`` says what these
must know of a model, and ``index`` which bindings listen to a table. ``batch`` gathers what one call does to rows, with
those of each model in ``written_rows``, and ``also`` finds related rows that are sent again. ``rows`` reads stored
rows, ``statements`` extends the statements that Django writes, and ``drafts`` makes events of rows. ``entries`` writes
events; ``log`` appends, reads and trims. ``sequencer`` numbers events; ``relay`` runs it and rings the doorbell.
``triggers`` reports writes that do not pass through the ORM, and ``detector`` counts the writes that left no event.

Which clients receive an event is decided in ``declbind.core.hub`` and ``declbind.live``. A new kind of write gets a
module and a line in ``capture.HOOKS``; a new database quirk of the log belongs in ``entries`` or ``log``.
"""
