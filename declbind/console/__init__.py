"""Answer what operators ask, as data: the admin's pages and ``manage.py declbind`` show the same answers.

``overview``  every binding of every source, with its state, problems and drift from its file: list, show, check
``export``    records as the text that apply and import take back
``plan``      what a file of records would change, and doing it: plan, apply, import
``preview``   the frame of one row, its groups, and who may see it
``trial``     whether a user may do something and why, step by step, and what would be sent to whom: try. Its questions
              and answers are in ``trial_answer``, each kind of trial in a module of its own, their words in
              ``trial_steps``; ``visibility`` knows who sees what, ``reasons`` where a permission comes from
``history``   the edits of a binding, and going back to one
``processes`` who serves sockets, under which configuration, and how far behind
``doctor``    the health of the running set-up; ``ping`` asks the channel layer, ``limits`` bounds the time of queries
``tail``      the log, as it grows
``audience``  who is connected, and who would hear of a group
``documents`` when two records say the same, and what differs
``consequences`` what an edit of a record means, in plain words, and whether it opens anything
``database_fault`` what a failed database operation means: what happened, where, and how to correct it
``output``    how the command writes tables and JSON

Nothing here knows HTML or arguments. To add a question, write a module of its noun that returns data, then a page in
``admin_ui`` and a verb.
"""
