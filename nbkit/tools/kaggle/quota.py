"""Weekly accelerator quota of a Kaggle account, read from Kaggle's API."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from nbkit.tools.kaggle.client import Kaggle


@dataclass(frozen=True)
class Hours:
    """Weekly quota of one accelerator, in hours.

    Attributes
    ----------
    used : float
        Used by ended and running sessions.
    reserved : float
        Reserved for running sessions.
    total : float
        Allowed per week.
    """

    used: float
    reserved: float
    total: float

    @property
    def left(self) -> float:
        """Hours that are neither used nor reserved."""
        return max(0.0, self.total - self.used - self.reserved)


@dataclass(frozen=True)
class Quota:
    """Quota of this week.

    Attributes
    ----------
    gpu, tpu : Hours or None
        None if the account has none: before its first session, or without a verified phone number.
    refresh : str
        End of the week in UTC, ISO 8601; empty if Kaggle does not tell it.
    """

    gpu: Hours | None
    tpu: Hours | None
    refresh: str = ""

    def row(self) -> dict[str, Any]:
        """Return the quota as JSON values."""
        parts = {name: getattr(self, name) for name in ("gpu", "tpu")}
        shown = {name: {**asdict(hours), "left": hours.left} if hours else None for name, hours in parts.items()}
        return {**shown, "refresh": self.refresh}

    def words(self) -> str:
        """Return the quota as text."""
        lines = []
        for name, hours in (("GPU", self.gpu), ("TPU", self.tpu)):
            if hours is None and name == "GPU":
                lines.append("GPU: Kaggle reports no quota; verify your phone number on Kaggle to get one")
            if hours is None:
                continue
            aside = f", {hours.reserved:.1f} h reserved for runs" if hours.reserved else ""
            left = f"{hours.left:.1f} of {hours.total:.1f} h left this week"
            lines.append(f"{name}: {left}, {hours.used:.1f} h used{aside}")
        return "\n".join([*lines, *([f"the next week begins {self.refresh}"] if self.refresh else [])])


def read_quota(kaggle: Kaggle) -> Quota:
    """Return the user's quota as Kaggle reports it."""
    answer = kaggle.ask("reading the quota", lambda api: api.quota_view())
    refresh = answer.quota_refresh_time
    return Quota(_hours(answer.gpu_quota), _hours(answer.tpu_quota), refresh.isoformat() + "Z" if refresh else "")


def _hours(quota: Any) -> Hours | None:
    if quota is None or quota.total_time_allowed is None:
        return None
    used, reserved, total = (
        0.0 if span is None else span.total_seconds() / 3600
        for span in (quota.time_used, quota.time_reserved, quota.total_time_allowed)
    )
    return Hours(used, reserved, total)
