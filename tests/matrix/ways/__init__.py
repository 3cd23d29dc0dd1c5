"""The ways to write with the ORM, each as a function of the sample.

A way returns the rows that it wrote without necessarily changing them, as instances, or nothing. Its ``prepare`` makes
the rows that it needs beforehand, without capture. To add a way, add a function to the module of its kind.
"""

from . import deletes, inserts, relations, saves, through_rows, updates
from .way import WAYS, Way

__all__ = ["WAYS", "Way", "deletes", "inserts", "relations", "saves", "through_rows", "updates"]
