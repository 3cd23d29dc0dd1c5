"""Fault tests: processes crash, servers die and connections break under load, and the outcome is checked.

Writers record what they committed, what they rolled back and what they cannot know (`writer.py`, `ledger.py`):
programs, threads of a web process (`wsgi.py`, `views.py`) and forked workers (`prefork.py`). Clients keep every
frame across their reconnects (`client.py`), and some write through their sockets (`editor.py`). A pure checker
compares all of it with the rows at the end (`checker.py`; `mutations.py` for the answers to clients' writes).
`arena.py` starts the processes, `faults.py` defines the faults, and `crashes.py` kills or freezes a process at a
named place in the product's code. `sabotage.py` breaks that code on purpose, to show that the checker detects it.

The short form is `test_faults.py`; the long one is `python -m tests.faults`. To add a fault: a function of a round
and an entry in `faults.py: FAULTS`. This folder is also a small Django app, for its processes only: the processes
that run pytest must not import its models.
"""
