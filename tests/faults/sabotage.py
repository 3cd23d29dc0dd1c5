"""Break the product on purpose, so that the checker is seen to catch what each of its rules prevents.

`FAULTS_SABOTAGE` names a broken variant for a process of a fault test.
"""

from __future__ import annotations

import os

VARIABLE = "FAULTS_SABOTAGE"


def install() -> None:
    """Put in the variant that the environment names; does nothing without one."""
    if name := os.environ.get(VARIABLE):
        raise ValueError(f"{VARIABLE}: got {name!r}")
