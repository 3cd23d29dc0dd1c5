"""Database triggers, which also capture raw SQL and the writes of other programs.

They serve the bindings with ``"capture": "triggers"``. A trigger inserts a *mark* into the log, in the transaction of
the write. A mark is a row of kind "mark". It records one written row: the old and new values of the columns that
bindings need. It is not an event yet, because a trigger knows nothing of bindings and groups. The process that numbers
events replaces each mark by the events of that row (``marks``).

If all triggers of a table are installed, the ORM hooks do not report that table (``reporting``), so no write is
reported twice. If triggers are missing, the hooks report the table, and only raw SQL goes unreported.

``tables`` computes what bindings need, and ``postgresql`` and ``sqlite`` generate the SQL. ``upkeep`` installs, removes
and inspects triggers. ``histories`` combines the marks of one row. ``migrating`` removes SQLite's triggers during
migrations. To support another database, write a module like ``postgresql`` and name it in ``upkeep``, ``reporting`` and
``marks``.
"""
