"""Explanations of why a frame arrived or did not: from a row, through the log, to each connection of a user.

``inquiry`` asks each module in turn. ``delivery`` and ``absence`` follow an announced change to the connections.
``silence``, ``missed``, ``failures`` and ``refusals`` examine a row without a change. ``standing`` knows the binding
at that time, ``transactions`` and ``numbering`` the database, and ``elsewhere`` the other places of a row. ``causes``
is the closed list of answers, and ``certainty`` says how sure an answer is. Nothing here writes to the database.

To add a cause, add a member to ``Cause``, and yield an ``Answer`` with it where its evidence is read. An answer is
certain only if its evidence leaves no other explanation; ``tests/why`` plants every cause and compares.
"""

from .answer import Answer
from .causes import Cause
from .certainty import Certainty
from .events import find_event
from .explanation import Explanation
from .inquiry import explain
from .question import NEAR, WINDOW, Question
from .steps import NextStep, find_step

__all__ = [
    "NEAR", "WINDOW", "Answer", "Cause", "Certainty", "Explanation", "NextStep", "Question",
    "explain", "find_event", "find_step",
]  # fmt: skip
