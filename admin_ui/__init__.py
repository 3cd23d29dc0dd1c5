"""The operator's console in Django's admin: show, edit, try, explain, undo, move and watch bindings.

- ``records``: the admin of binding records; ``list_page`` and ``actions`` are parts of it, ``listing`` is what the list
  needs beside the records, ``filters`` its filters, ``summary`` a binding in an operator's words, ``cells`` the same as
  table cells.
- ``form``: the form, made of ``fields``; beside it ``panel`` (problems, the change in words, one row) and ``snippets``
  (how to subscribe; ``example_user`` makes the user of its test); ``changes`` an edit in words and its tick,
  ``confirm`` the page that asks.
- ``json_page``: a record as text, with ``documents`` to compare it and ``places`` for its mistakes.
- ``history``: revisions; ``undo`` going back to one.
- ``elsewhere``: the pages of bindings that files and classes define.
- ``import_page``: a file of records, with ``review`` of what it would do; ``export_page`` the way out.
- ``try_page``, ``why_page``, ``connections_page``, ``processes_page``, ``doctor_page``: a page each, of questions in
  ``declbind.console``; ``nodes`` how far a configuration has come.
- ``live``: live traffic; ``wanted`` its filters, ``traffic`` a look at all of it, ``rows`` its rows, ``row_page`` one
  of them, ``rates`` and ``deliveries`` what processes counted, ``charts`` numbers as SVG, ``stream`` the push,
  ``answers`` what a poll or a push carries, ``export`` a download, ``watching`` the lease, ``links`` where a row leads.
- ``faults``: the page that is shown when the database fails.
- ``pages``: what all of them have in common; ``screens`` hangs them in.

This package imports declbind, never the other way round. To add a page, write a module of its noun with ``urls`` and
name it in ``screens``.
"""
