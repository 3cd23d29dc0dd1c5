"""Put changes of rights into the log: each hub meets them between the events before and after, and checks again.

A control event lies in the transaction of the change, so whoever reads it reads the new rights as well.
"""

from __future__ import annotations


def install() -> None:
    """Connect to the signals."""
