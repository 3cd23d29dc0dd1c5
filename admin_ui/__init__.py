"""The operator's console in Django's admin: show, edit, try, explain, undo, move and watch bindings.

- ``records``: the admin of binding records; ``admin`` registers it, and ``menu`` adds the pages to the admin's index.
- ``bindings``: the list, the page of one binding, revisions, import and export.
- ``editor``: the form, the panel beside it, the JSON view, and the question before a change.
- ``traffic``: live traffic, as a page, a poll and a push.
- ``pages``: *Why?*, try it, connections, processes and the doctor.
- ``common``: what all pages share. It imports no other room. ``editor`` and ``traffic`` import only ``common``.

This package imports declbind, never the other way round. To add a page, write a module named after its noun with
``urls``, and name it in ``screens``.
"""
