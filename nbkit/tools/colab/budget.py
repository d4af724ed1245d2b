"""What a push to Colab may spend: hours of runtimes, and compute units.

What was spent is never counted as less than it may have been: of the units that the account has lost and those that
the rate makes of the hours, the larger counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from nbkit.runtime.errors import UsageError

WALL = 12.0  # hours after which Colab ends a runtime, at most
ROOM = 0.25  # hours of a runtime beside the session: its start, the installation, the last uploads
SHORTEST = 0.75  # hours; a shorter runtime is mostly start-up


@dataclass
class Budget:
    """Hours and compute units that runtimes may use, and what they have used.

    Parameters
    ----------
    hours : float
        Of runtimes, in all.
    units : float or None
        None for no limit.

    Raises
    ------
    UsageError
        If nothing could be begun with it.
    """

    hours: float
    units: float | None = None
    used_hours: float = 0.0
    used_units: float = 0.0

    def __post_init__(self) -> None:
        if not self.hours >= SHORTEST or (self.units is not None and not self.units > 0):
            units = "" if self.units is None else f" and {self.units:g} compute units"
            raise UsageError(
                f"The budget is {self.hours:g} h{units}. Allowed are at least {SHORTEST:g} h and more than 0 units. "
                "Nothing was begun."
            )

    def granted(self, session_hours: float, rate: float = 0.0) -> float:
        """Return the hours that the next runtime may last; 0 where the rest is too short for one.

        Parameters
        ----------
        session_hours : float
            Hours of a session of the phase.
        rate : float
            Compute units an hour; 0 where it is not known.
        """
        whole = min(session_hours + ROOM, WALL)
        left = min(whole, self.hours - self.used_hours)
        if self.units is not None:
            if self.used_units >= self.units:
                return 0.0
            if rate > 0:
                left = min(left, (self.units - self.used_units) / rate)
        return left if left >= min(SHORTEST, whole) else 0.0

    def spend(self, hours: float, rate: float, lost: float) -> float:
        """Count a runtime, and return the compute units that it may have used.

        Parameters
        ----------
        hours : float
            From its start to its end.
        rate : float
            Compute units an hour.
        lost : float
            Compute units that the account has less than before.
        """
        units = max(rate * hours, lost, 0.0)
        self.used_hours += hours
        self.used_units += units
        return units

    def words(self) -> str:
        """Return what was used of it as text."""
        units = "" if self.units is None else f" and {self.used_units:.1f} of {self.units:g} compute units"
        return f"{self.used_hours:.2f} of {self.hours:g} h{units} used"
