"""The compatibility course: one sequence of steps that every supported set-up must complete.

A *cell* is one set-up: a server, a database, a session store, a channel layer, settings (``cells.py``). The course
(``course.py``) starts the cell's processes, drives clients and writers through them, and checks every frame.
``make test`` runs a short selection (``test_course.py``). ``make compat`` runs all cells and writes the table in
``docs/compatibility.md``, on which ``test_claims.py`` bases the project's claims.

To add a cell, add a line to ``cells.py``. To add a step, add a method to ``Course``.
"""
