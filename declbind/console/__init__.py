"""Answer what operators ask, as data: the admin's pages and ``manage.py declbind`` show the same answers.

``overview``  every binding of every source, with its state and problems: list, show, check, export
``plan``      what a file of records would change, and doing it: plan, apply, import
``preview``   the frame of one row, its groups, and who may see it
``doctor``    the health of the running set-up
``tail``      the log, as it grows
``audience``  who is connected, and who would hear of a group
``consequences`` what an edit of a record means, in plain words, and whether it opens anything
``output``    how the command writes tables and JSON

Nothing here knows HTML or arguments. To add a question, write a module of its noun that returns data, then a page in
``admin_ui`` and a verb.
"""
