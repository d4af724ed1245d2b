"""Kaggle's weekly accelerator quota, as its own API tells it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from nbkit.tools.kaggle.client import Kaggle


@dataclass(frozen=True)
class Hours:
    """Say how much of an accelerator's week is used, all in hours.

    Attributes
    ----------
    used, reserved, total : float
        Of sessions that ended or run, set aside for those that run, and given a week.
    """

    used: float
    reserved: float
    total: float

    @property
    def left(self) -> float:
        """Hours that neither were used nor are set aside."""
        return max(0.0, self.total - self.used - self.reserved)


@dataclass(frozen=True)
class Quota:
    """Say what is left of this week.

    Attributes
    ----------
    gpu, tpu : Hours or None
        None where the account has none, as before its first session or without a verified phone number.
    refresh : str
        When the week ends, UTC, ISO 8601; empty where it is not told.
    """

    gpu: Hours | None
    tpu: Hours | None
    refresh: str = ""

    def row(self) -> dict[str, Any]:
        """Return it as plain values."""
        parts = {name: getattr(self, name) for name in ("gpu", "tpu")}
        told = {name: {**asdict(hours), "left": hours.left} if hours else None for name, hours in parts.items()}
        return {**told, "refresh": self.refresh}

    def words(self) -> str:
        """Lay it out for reading."""
        lines = []
        for name, hours in (("GPU", self.gpu), ("TPU", self.tpu)):
            if hours is None and name == "GPU":
                lines.append("GPU: Kaggle tells of no quota; a verified phone number opens it")
            if hours is None:
                continue
            aside = f", {hours.reserved:.1f} h set aside for runs" if hours.reserved else ""
            left = f"{hours.left:.1f} of {hours.total:.1f} h left this week"
            lines.append(f"{name}: {left}, {hours.used:.1f} used{aside}")
        return "\n".join([*lines, *([f"the next week begins {self.refresh}"] if self.refresh else [])])


def read_quota(kaggle: Kaggle) -> Quota:
    """Ask Kaggle for the user's quota."""
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
