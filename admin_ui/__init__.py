"""Show and edit bindings in Django's admin, and watch the traffic.

``records``   the list and the form of binding records; ``form`` and ``fields`` are what the form is made of
``documents`` records as JSON text: canonical form, differences, the JSON page's input
``summary``   a binding of whatever source in an operator's words; ``cells`` writes them as table cells
``filters``   the filters of the list
``elsewhere`` the pages of bindings that files and classes define
``import_page``, ``export_page`` records as a file, in and out; ``review`` what an import would do
``processes_page`` who serves sockets; ``doctor_page`` what is well and what is not
``try_page``  the page that tries a binding without doing anything
``json_page`` a record as text, with ``places`` for its mistakes
``panel``     what stands beside the form: problems, the change in words, one row; ``snippets`` how to subscribe
``changes``   an edit in words, and the tick that confirms one; ``confirm`` the page that asks
``history``   revisions; ``undo`` going back to one; ``nodes`` how far a configuration has come
``live``      the live page and its address for polling; ``traffic`` its rows

This package imports declbind, never the other way round. To add a page, write a module of its noun and hang its
address into ``BindingRecordAdmin.get_urls``.
"""
