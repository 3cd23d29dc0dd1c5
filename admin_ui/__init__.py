"""The operator's console in Django's admin: show, edit, try, explain, undo, move and watch bindings.

- ``records``: the admin of binding records; ``list_page`` and ``actions`` are parts of it, ``listing`` loads what the
  list shows beside the records, ``filters`` holds its filters, ``summary`` describes a binding in an operator's words,
  and ``cells`` does so in table cells.
- ``form``: the form, made of ``fields``; beside it ``panel`` (problems, the change in words, one row) and ``snippets``
  (how to subscribe; ``example_user`` makes the user of its test); ``changes`` describes an edit and its confirmation,
  ``confirm`` is the page that asks for it.
- ``json_page``: a record as text, with ``documents`` to compare it and ``places`` to locate its mistakes.
- ``history``: revisions; ``undo``: rollback to one of them.
- ``elsewhere``: the pages of bindings that files and classes define.
- ``import_page``: import of a file of records, with a ``review`` of its changes; ``export_page``: the export.
- ``try_page``, ``why_page``, ``connections_page``, ``processes_page``, ``doctor_page``: a page each for the answers of
  ``declbind.console``; ``nodes``: how far a configuration has spread.
- ``live``: live traffic; ``wanted`` its filters, ``traffic`` the query for rows, ``rows`` its rows, ``row_page`` one of
  them, ``rates`` and ``deliveries`` the counts of processes, ``charts`` numbers as SVG, ``stream`` the push,
  ``answers`` the content of a poll or a push, ``export`` a download, ``watching`` the lease, ``links`` a row's links.
- ``faults``: the page that is shown when the database fails.
- ``pages``: what all pages have in common; ``screens`` adds them to the admin.

This package imports declbind, never the other way round. To add a page, write a module named after its noun with
``urls``, and name it in ``screens``.
"""
