"""Let real processes crash, servers die and connections break under load, and hold the outcome against a ledger.

Writers note what they committed, what they rolled back and what they cannot know (`writer.py`, `ledger.py`): programs,
threads of a web process (`wsgi.py`, `views.py`) and forked workers (`prefork.py`). Clients keep every frame across
their reconnects (`client.py`), and some write through their sockets (`editor.py`). A pure checker compares all that
with the rows that are there in the end (`checker.py`; `mutations.py` for what clients were answered). `arena.py` starts
the processes, `faults.py` names what is done to them, `crashes.py` kills or freezes a process at a named place in the
product's code. `sabotage.py` breaks that code on purpose, so that the checker is seen to catch what it is there for.

The short form is `test_faults.py`; the long one is `python -m tests.faults`. To add a fault: a function of a round and
an entry in `faults.py: FAULTS`. This folder is also a small Django app, for its processes only: the processes that run
pytest must not import its models.
"""
