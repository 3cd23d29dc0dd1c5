"""Tests beside third-party packages: write in their ways, and compare the events with the stored rows.

`roster.py` lists the packages, called guests. For each one `sites.py` makes a project: the result of
``startproject`` and declbind's tutorial, with the lines of the package's instructions. The module with the guest's
name in `shops/` becomes its models. In a process of that project, `run.py` runs the course (`course.py`): the usual
writes of any project (`usual.py`) and the steps of the shop, once captured by hooks and once by triggers.
`watching.py` computes by plain SQL what subscribers should hold, and `writes.py` which rows the database has
written.

`test_guests.py` runs the guests of its interpreter's Python and Django. `test_controls.py` breaks capture
(`sabotage.py`), which the course must detect. `python -m tests.guests` (`make guests`) runs all of them and writes
the table of docs/capture.md (`table.py`), which `test_claims.py` compares with the roster and the pinned versions.
"""
