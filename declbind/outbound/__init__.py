"""The outbound path: model writes are captured, logged in their own transaction, numbered and announced.

``seams`` lists the private names of other packages, ``seam_checks`` checks them, and ``hooks`` wraps methods and checks
whether the wrappers are still called. ``capture`` installs the hooks. Each kind of write has a module:

- ``saves``: ``Model.save`` of one table.
- ``parents``: the parents' tables, which a child's save writes first.
- ``joint_update``: an update and its events in one statement.
- ``saved_rows``: the groups and events of a saved row.
- ``deletes``: ``delete`` with its cascades, and rows whose foreign key is set to null.
- ``updates``: ``QuerySet.update`` and ``bulk_update``.
- ``inserts``: ``bulk_create`` and methods that call it, such as ``add`` of a many-to-many list.
- ``lists``: ``set`` of a list, and the rows whose lists change with through rows.

These modules share ``writes`` (a captured write), ``plans`` (what capture needs to know about a model) and ``index``
(the bindings that listen to a table). ``batch`` gathers the rows of one call, ``written_rows`` those of one model, and
``also`` the related rows that are sent again. ``rows`` reads stored rows, ``statements`` extends the statements that
Django writes, and ``drafts`` turns rows into events.

``entries`` inserts events; ``log`` appends, reads and trims. ``sequencer`` numbers events; ``relay`` runs it and sends
wake-ups over the channel layer. ``triggers`` reports writes that bypass the ORM, and ``detector`` counts the writes
that left no event.

Which clients receive an event is decided in ``declbind.core.hub`` and ``declbind.live``. A new kind of write gets a
module and a line in ``capture.HOOKS``. Code for one database's peculiarities of the log belongs in ``entries`` or
``log``.
"""
