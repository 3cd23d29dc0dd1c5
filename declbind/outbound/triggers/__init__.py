"""Database triggers, for bindings with ``"capture": "triggers"``: they report raw SQL and other programs as well.

A trigger puts a *mark* into the log, in the transaction of the write: a row of kind "mark" with the columns that
bindings need, as they were and as they are. Whoever numbers events makes the events of a mark in its place (``marks``).
The hooks of the ORM stand down for a table whose triggers are all in place (``reporting``), so that each table has one
reporter. A table that lacks triggers is left to the hooks and loses raw SQL only.

``tables`` says what bindings want, and ``postgresql`` and ``sqlite`` say it in SQL. ``upkeep`` puts triggers in, takes
them out and looks at them. ``histories`` combines the marks of one row. ``migrating`` takes SQLite's triggers out of
the way of migrations. To support another database, write a module like the two, and name it in ``upkeep``,
``reporting`` and ``marks``.
"""
