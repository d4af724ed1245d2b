"""Two trainings side by side: one on the recordings, one on their phase-randomised surrogates.

Neighbouring bands share a filter transition, so a model predicts a part of the next band from white noise too. The
second training shows how large that part is. Both start from the same weights, see the same windows in the same order
for the same number of steps, and are in one checkpoint, so that whatever ends a session, both resume together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nbkit.neuro.bandvar.data import file_names
from nbkit.neuro.bandvar.training import BandVAR, BandVARSettings, band_schedule
from nbkit.neuro.training.optimization import ClippedModule
from nbkit.neuro.training.weights import held, load_strictly, part_of, settings_from


class PairedBandVAR(ClippedModule):
    """Lightning module with a `BandVAR` for the recordings, ``real``, and one for the surrogates, ``surrogate``.

    Its batches are pairs, Tensors of shape (batch, 2, bands, channels, time) in uV; see `BandData`.

    Parameters
    ----------
    settings : BandVARSettings
    channels, time_steps : int
        Size of a window.
    bands : sequence of (l_freq, h_freq)
        Band edges in Hz.
    scale, surrogate_scale : sequence of float
        Root mean square of each band in the training windows, in uV.
    trained_on : sequence of str
        Names of the training files.
    """

    def __init__(
        self,
        settings: BandVARSettings,
        channels: int,
        time_steps: int,
        bands: Any,
        scale: Any,
        surrogate_scale: Any,
        trained_on: Any = (),
    ) -> None:
        super().__init__()
        self.settings = settings
        self.real = BandVAR(settings, channels, time_steps, bands, scale, trained_on)
        self.surrogate = BandVAR(settings, channels, time_steps, bands, surrogate_scale)
        own = {name: value for name, value in self.real.model.state_dict().items() if not name.endswith("_scale")}
        self.surrogate.model.load_state_dict(own, strict=False)  # the same first weights, the scales of its own
        self._sums: Tensor | None = None

    @classmethod
    def for_data(cls, settings: BandVARSettings, data: Any) -> PairedBandVAR:
        """Build the module with the window size, bands and scales of a `BandData` with surrogates."""
        names = file_names(data.train_dataset.paths)
        return cls(settings, data.channels, data.time_steps, data.bands, data.scale, data.surrogate_scale, names)

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "cpu") -> PairedBandVAR:
        """Load both models from a checkpoint.

        Raises
        ------
        ValueError
            If the file is no checkpoint of Band-VAR, or was trained without the surrogate.
        """
        made, weights = held(path, "bandvar", device)
        if "surrogate_scale" not in made:
            raise ValueError(
                f"{path} holds a model that was trained without the surrogate. Train it with SURROGATE = True "
                "(40_bandvar_train), or load it with BandVAR.from_checkpoint."
            )
        settings = settings_from(BandVARSettings, made, path)
        sizes = (made["channels"], made["time_steps"], made["bands"], made["scale"], made["surrogate_scale"])
        module = cls(settings, *sizes, made.get("trained_on", ()))
        load_strictly(module.real, part_of(weights, "real."), path)
        load_strictly(module.surrogate, part_of(weights, "surrogate."), path)
        return module.to(device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        more = [float(value) for value in self.surrogate.scale]
        checkpoint["bandvar"] = {**self.real.description(), "surrogate_scale": more}

    def training_step(self, pairs: Tensor, batch_idx: int) -> Tensor:
        real, surrogate = self.real.loss(pairs[:, 0]), self.surrogate.loss(pairs[:, 1])
        self.log("train_loss", real, prog_bar=True)
        self.log("train_loss_surrogate", surrogate)
        return real + surrogate  # they share no weight, so each gets the gradients of its own loss

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the gradients of each model by itself, as in a training of its own."""
        clip = gradient_clip_val or self.settings.grad_clip
        if not clip:
            return
        for model in (self.real, self.surrogate):
            if gradient_clip_algorithm == "value":
                torch.nn.utils.clip_grad_value_(model.parameters(), clip)
            else:
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip)

    def on_validation_epoch_start(self) -> None:
        self._sums = None

    def validation_step(self, pairs: Tensor, batch_idx: int) -> None:
        sums = torch.stack([self.real.validation_sums(pairs[:, 0]), self.surrogate.validation_sums(pairs[:, 1])])
        self._sums = sums if self._sums is None else self._sums + sums

    def on_validation_epoch_end(self) -> None:
        if self._sums is None:
            return
        sums = self.all_gather(self._sums).reshape(-1, *self._sums.shape).sum(dim=0)
        scores, controls = self.real.validation_scores(sums[0]), self.surrogate.validation_scores(sums[1])
        scores |= {name.replace("val_", "val_surrogate_", 1): value for name, value in controls.items()}
        scores["val_excess"] = scores["val_skill_persistence"] - scores["val_surrogate_skill_persistence"]
        self.log_dict(scores)

    def configure_optimizers(self) -> dict[str, Any]:
        models = [*self.real.model.parameters(), *self.surrogate.model.parameters()]
        return band_schedule(models, self.settings)


def module_for(settings: BandVARSettings, data: Any) -> BandVAR | PairedBandVAR:
    """Build the module that a `BandData` is for: with a model of the surrogates where it holds them."""
    return PairedBandVAR.for_data(settings, data) if data.surrogate else BandVAR.for_data(settings, data)
