"""What the verbs of ``manage.py declbind`` find out and do, as data; how it is printed is here too, in ``output``.

``overview``  every binding of every source, with its state and problems: list, show, check, export
``plan``      what a file of records would change, and doing it: plan, apply
``preview``   the frame of one row, its groups, and who may see it
``doctor``    the health of the running set-up
``tail``      the log, as it grows

The command parses arguments, prints and sets the exit status. To add a verb, write a module that returns data, and
give the command a method and a subparser.
"""
