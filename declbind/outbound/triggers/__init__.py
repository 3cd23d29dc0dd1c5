"""Hear of what other programs write, and of raw SQL: database triggers, for bindings with ``"capture": "triggers"``.

A trigger puts a *mark* into the log, in the transaction of the write: a row of kind "mark" with the columns that
bindings need, as they were and as they are. Whoever numbers events makes the events of a mark in its place (``marks``).
Writes that the ORM's hooks report are made in a way that keeps the triggers quiet (``quiet``), so that nothing is told
twice, and a table whose triggers are missing loses no more than raw SQL.

``tables`` says what bindings want, ``postgresql`` and ``sqlite`` how that is said in SQL, ``upkeep`` puts triggers in,
takes them out and looks at them, ``migrating`` takes SQLite's out of the way of migrations. To support another
database, write a module like the two, and name it in ``upkeep``, ``quiet`` and ``marks``.
"""
