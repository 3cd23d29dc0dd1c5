"""Database triggers, for bindings with ``"capture": "triggers"``: they report raw SQL and other programs as well.

A trigger inserts a *mark* into the log, in the transaction of the write. It is a row of kind "mark" with the old and
new values of the columns that bindings need. The process that numbers events replaces a mark by its events
(``marks``). The ORM hooks stand down for a table whose triggers are all installed (``reporting``), so that each
table has one reporter. A table that lacks triggers is left to the hooks and loses raw SQL only.

``tables`` computes what bindings need, and ``postgresql`` and ``sqlite`` generate the SQL. ``upkeep`` installs,
removes and inspects triggers. ``histories`` combines the marks of one row. ``migrating`` removes SQLite's triggers
during migrations. To support another database, write a module like these two, and name it in ``upkeep``,
``reporting`` and ``marks``.
"""
