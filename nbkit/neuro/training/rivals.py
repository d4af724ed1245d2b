"""Train a model and its comparison models (rivals) together, on the same batches for the same steps.

The gain from pretraining shows only in comparison with the same network from random weights at an equal budget. A
rival sees every batch that the model sees but is independent of it: no weight, gradient norm or optimizer state is
shared. A checkpoint's ``state_dict`` holds the model alone, so the class without rivals can load it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nbkit.neuro.training.steps.apart import in_pieces
from nbkit.neuro.training.window_module import WindowModule

SCRATCH = "scratch"
_RIVALS = "rivals."


class WithRivals(WindowModule):
    """A module together with its rivals; it has the parameters of the module.

    A system only has to write ``class Compared(WithRivals, Regressor): alone = Regressor`` to get the standard rival,
    the same network from random weights.

    Attributes
    ----------
    alone : type
        The module without rivals.
    words : mapping of str to str
        Names of the rivals in figures.
    rivals : ModuleDict of WindowModule
        Rivals by name; ``scratch`` has the same settings and shape as the model.
    """

    alone: type[WindowModule]
    words: Mapping[str, str] = {SCRATCH: "from scratch"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rivals = nn.ModuleDict(self.make_rivals(*args, **kwargs))
        self._theirs: dict[str, list[Tensor]] = {}
        self._truth: list[Tensor] = []

    def make_rivals(self, *args: Any, **kwargs: Any) -> dict[str, WindowModule]:
        """Return the rivals by name, built from the arguments of the module."""
        return {SCRATCH: self.alone(*args, **kwargs)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        weights = checkpoint["state_dict"]
        names = [name for name in weights if name.startswith(_RIVALS)]
        checkpoint["rivals"] = {name.removeprefix(_RIVALS): weights.pop(name) for name in names}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        checkpoint["state_dict"].update({_RIVALS + name: weight for name, weight in checkpoint["rivals"].items()})

    def step_parts(self, batch: Mapping[str, Any], batch_idx: int) -> Iterator[tuple[str, Tensor]]:
        yield from super().step_parts(batch, batch_idx)
        for name, rival in self.rivals.items():
            for loss in in_pieces(batch, self.pieces, rival.loss, rival.weight):
                yield f"train_loss_{name}", loss

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self._theirs, self._truth = {name: [] for name in self.rivals}, []

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self._truth.append(batch[self.target].double())
        for name, rival in self.rivals.items():
            self._theirs[name].append(rival.predicted(batch["window"]).double())

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if self._truth:
            true = torch.cat(self._truth).cpu()
            for name, seen in self._theirs.items():
                scores = self.rivals[name].validation_scores(true, torch.cat(seen).cpu())
                self.log_dict({f"{score}_{name}": value for score, value in scores.items()})
        self._theirs, self._truth = {}, []

    def layer_of(self, name: str) -> int:
        return super().layer_of(name.removeprefix(f"{_RIVALS}{SCRATCH}."))

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        clip = gradient_clip_val or self.settings.grad_clip
        apart = [list(rival.parameters()) for rival in self.rivals.values()]
        known = {id(weight) for weights in apart for weight in weights}
        own = [weight for weight in self.parameters() if id(weight) not in known]
        for weights in (own, *apart) if clip else ():  # one norm over all would couple the model and its rivals
            torch.nn.utils.clip_grad_norm_(weights, clip)
