"""The board of numbers, and what all pages share: layout, style, accounts, the ``demo`` command."""
