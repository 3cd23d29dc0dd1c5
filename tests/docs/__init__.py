"""Tests of the documentation: the site is built, its reference is complete, and each code block is run.

`blocks` finds the code blocks of the pages, `commands` reads lines of a shell, `runner` runs Python and judges records in a
process of its own, with the models of `notes`. CONTRIBUTING.md says how a page names what a block needs.
"""
