"""The data behind the console: the admin's pages and ``manage.py declbind`` show the same results.

``overview``
    Every binding of every source, with its state, problems and drift from its file: list, show, check.
``export``
    Records as text for apply and import.
``plan``
    What a file of records would change, and the change itself: plan, apply, import.
``preview``
    The frame of one row, its groups, and whether a user may see it.
``trial``
    Whether a user may do something and why, step by step, and what would be sent to whom: try. The package
    ``trial`` has a module for each kind of trial.
    ``visibility`` computes which users see which rows, and ``reasons`` the source of a permission.
``history``
    The edits of a binding, and the return to one of them.
``processes``
    The processes that serve sockets, their configuration, and their lag.
``doctor``
    The health of the installation. ``ping`` tests the channel layer, ``limits`` limits the time of queries.
``tail``
    The log as it grows.
``audience``
    The connections, and the subscribers of a group.
``documents``
    Whether two records are equal, and how they differ.
``consequences``
    The effects of an edit of a record in plain words, and whether it opens anything. ``comparison`` compares two
    records, ``meaning`` resolves each against its model, and ``openings`` determines who may open it.
``database_fault``
    The meaning of a failed database operation: what happened, where, and how to correct it.
``output``
    The tables and JSON that the command prints.

Nothing here depends on HTML or command-line arguments. To add a feature, write a module with a noun as its name that
returns data, and then a page in ``admin_ui`` and a subcommand.
"""
