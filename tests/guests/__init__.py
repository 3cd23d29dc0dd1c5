"""Put packages of others beside declbind, write in their ways, and compare what is reported with what is stored.

`roster.py` lists the guests. For each one `sites.py` makes a project of its own: what ``startproject`` and declbind's
tutorial give, and the lines of the package's instructions. The module of the guest's name in `shops/` becomes its
models. In a process of that project, `run.py` runs the course (`course.py`): the usual writes of any project
(`usual.py`) and the steps of the shop, once noticed by hooks and once by triggers. `watching.py` knows by plain SQL
what subscribers should hold, and `writes.py` which rows the database has seen written.

`test_guests.py` runs the guests of its interpreter's Python and Django. `test_controls.py` breaks capture
(`sabotage.py`), and the course must notice. `python -m tests.guests` (`make guests`) runs all of them and writes the
table of docs/capture.md (`table.py`), which `test_claims.py` compares with the roster and the pinned versions.
"""
