"""Colab in the dispatcher's eyes: the budget of a week, what goes on there, and how a push is started."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.store.protocol import Store
from nbkit.tools.colab.background import is_pushed_from_here, start
from nbkit.tools.colab.client import Colab, check_gpu, connect
from nbkit.tools.colab.looking import busy_on_colab, used_this_week
from nbkit.tools.dispatching.decision import Choice
from nbkit.tools.dispatching.elsewhere import Room
from nbkit.tools.kaggle.runs import Push
from nbkit.tools.phases import Phase


@dataclass
class ColabPlan:
    """What Colab may take of the work.

    Parameters
    ----------
    hours : float
        Of runtimes in any seven days.
    units : float or None
        Compute units in any seven days; None for no limit.
    gpu : str
        Accelerator of phases that need one.
    runtimes : int
        At once; a free account has one.
    colab : Colab or None
        None looks for the client when it is needed.
    launcher : callable or None
        Starts a push and returns text on it; None starts a process of its own on this machine.

    Raises
    ------
    UsageError
        If the budget or the GPU is not valid.
    """

    hours: float
    units: float | None = None
    gpu: str = "T4"
    runtimes: int = 1
    colab: Colab | None = None
    launcher: Callable[[Choice, Store], str] | None = None
    _fault: str = ""

    def __post_init__(self) -> None:
        self.gpu = check_gpu(self.gpu)
        if not self.hours > 0 or (self.units is not None and not self.units > 0) or self.runtimes < 1:
            raise UsageError(
                f"The week's budget for Colab is {self.hours:g} h, {self.units} units, {self.runtimes} runtimes at "
                "once. Allowed are more than 0 of each. Nothing was begun."
            )

    def busy(self, phases: Iterable[Phase]) -> set[str]:
        """Return the slugs that go on there now; a client that does not answer is told by `room`."""
        names = {f"nbkit-{phase.kaggle_folder}": phase.slug for phase in phases}
        here = {slug for slug in names.values() if is_pushed_from_here(slug)}
        self._fault = ""
        try:
            self.colab = self.colab or connect()
            here |= busy_on_colab(self.colab, names)
        except NbkitError as error:
            self._fault = str(error)
        self._running = len(here)
        return here

    def room(self, pushes: Iterable[Push], now: float) -> Room:
        """Return what is left; nothing where the client cannot be asked, which the reason tells."""
        hours, units, rate = used_this_week(pushes, now)
        left = None if self.units is None else max(0.0, self.units - units)
        free = 0 if self._fault else max(0, self.runtimes - self._running)
        words = self._fault or ("" if free else "its runtimes are in use")
        return Room(max(0.0, self.hours - hours), left, free, rate, words)

    def launch(self, choice: Choice, store: Store) -> str:
        """Start the push of a choice, and return text on it."""
        if self.launcher is not None:
            return self.launcher(choice, store)
        options = ["--hours", f"{choice.hours:g}", "--by-dispatcher"]
        options += ["--gpu", self.gpu] if choice.gpu else []
        options += ["--units", f"{choice.units:g}"] if choice.units else []
        options += ["--shard", choice.shard] if choice.shard else []
        return f"started from here, log in {start(choice.slug, store.url, options)}"
