"""The ways to write with the ORM, each as a function of the sample.

A way returns the rows that it wrote without necessarily changing them, as instances, or nothing. Its ``prepare`` makes
the rows that it needs beforehand, without capture. To add a way, add a function to the module of its kind.
"""

from importlib import import_module

from .way import WAYS, Way

__all__ = ["WAYS", "Way"]

# The combinations of `scenarios.py` depend on the order of the ways.
for _module in (
    "saves", "updates", "inserts", "deletes", "relations", "through_rows", "fixtures", "generic_relations",
):  # fmt: skip
    import_module(f"{__name__}.{_module}")
