"""Answers to operators' questions, as data: the admin's pages and ``manage.py declbind`` show the same answers.

``overview``  every binding of every source, with its state, problems and drift from its file: list, show, check
``export``    records as text for apply and import
``plan``      what a file of records would change, and the change itself: plan, apply, import
``preview``   the frame of one row, its groups, and whether a user may see it
``trial``     whether a user may do something and why, step by step, and what would be sent to whom: try. Its questions
              and answers are in ``trial_answer``, each kind of trial in a module of its own, their wording in
              ``trial_steps``; ``visibility`` knows which users see what, ``reasons`` where a permission comes from
``history``   the edits of a binding, and the return to one of them
``processes`` the processes that serve sockets, their configuration, and their lag
``doctor``    the health of the running set-up; ``ping`` tests the channel layer, ``limits`` bounds the time of queries
``tail``      the log, as it grows
``audience``  the connections, and the subscribers of a group
``documents`` whether two records are equal, and how they differ
``consequences`` what an edit of a record means, in plain words, and whether it opens anything: ``comparison`` compares
              two records, ``meaning`` resolves each against its model; ``openings`` knows who may open it
``database_fault`` what a failed database operation means: what happened, where, and how to correct it
``output``    how the command writes tables and JSON

Nothing here knows HTML or command-line arguments. To add a question, write a module named after its noun that
returns data, then a page in ``admin_ui`` and a verb.
"""
