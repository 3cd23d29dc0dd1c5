"""Tests of the documentation: the site is built, its reference is complete, and each code block is run.

`blocks` finds the code blocks of the pages, and says how a comment above a block names what it needs. `commands` reads
lines of a shell. `runner` runs Python and checks records in a process of its own, with the models of `notes`.
"""
