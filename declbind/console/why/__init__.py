"""Explanations of why a frame arrived or did not: from a row, through the log, to each connection of a user.

``inquiry`` asks each module in turn: ``delivery`` follows an announced change to the connections, and ``missed`` and
``stored_row`` examine a write without an event. ``causes`` is the closed list of answers. Nothing here writes to the
database. To add a cause, add a member to ``Cause``, and yield an ``Answer`` with it where its evidence is read.
"""

from .causes import Answer, Cause
from .explanation import Explanation
from .inquiry import explain, find_event
from .question import WINDOW, Question

__all__ = ["WINDOW", "Answer", "Cause", "Explanation", "Question", "explain", "find_event"]
