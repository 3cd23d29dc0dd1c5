"""Trials of a binding without side effects: who may do what, why, and what would be sent to whom.

- ``attempt``: the trial as a whole; ``answer``: its question and its result as values; ``steps`` and ``words``: their
  wording.
- ``subscription``, ``inbound``, ``outbound``: the three kinds of trials. They run the code that serves clients.
- ``frames``: what a write would send; ``related``: the other rows that it would send.
"""

from __future__ import annotations

from .answer import ALIASES, INBOUND, Frame, Question, Step, Trial
from .attempt import make_trial
from .words import ACTIONS, NOTE, OK, REFUSED, SKIPPED

__all__ = [
    "ACTIONS", "ALIASES", "INBOUND", "NOTE", "OK", "REFUSED", "SKIPPED",
    "Frame", "Question", "Step", "Trial", "make_trial",
]  # fmt: skip
