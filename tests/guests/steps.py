"""The steps of a shop: writes in the ways of the guest's package, and how they may be reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """One write.

    Attributes:
        run: Makes it.
        is_raw: Whether the package writes by SQL of its own or in the database, which only triggers capture.
        may_resync: Whether the change may be reported as a ``resync`` if the table has triggers.
        may_repeat: Whether rows that a trigger has kept from being written may be reported unchanged.
        raises: The exception that the package raises by design.
    """

    run: Callable[[], object]
    is_raw: bool = False
    may_resync: bool = False
    may_repeat: bool = False
    raises: type[Exception] | None = None

    @property
    def name(self) -> str:
        return self.run.__name__.strip("_").replace("_", " ")


class Steps(list[Step]):
    """The steps of a shop in order; to be used as a decorator: ``@step`` or ``@step(is_raw=True)``."""

    def __call__(self, run: Callable[[], Any] | None = None, **how: Any) -> Any:
        """Add a step."""
        if run is None:
            return lambda run: self(run, **how)
        self.append(Step(run, **how))
        return run
