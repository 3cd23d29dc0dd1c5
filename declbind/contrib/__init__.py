"""Classes for packages of others, which a project names in its settings; nothing inside of declbind imports them.

To add one: a module named after what it is for, a page of the documentation, and the package in the extra ``guests``.
"""
