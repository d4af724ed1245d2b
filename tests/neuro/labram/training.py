"""Small data and short trainings for LaBraM's tests."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

CH_NAMES = ("E1", "E5", "E9", "Cz")


class Windows(lightning.LightningDataModule):
    """Windows of 4 channels by 2 s at 20 Hz: a rhythm a channel, of 2, 4 or 6 Hz, in noise; the last is flat.

    The target is the log of the alpha-like rhythm's amplitude where ``coupled``, else noise.
    """

    ch_names, sfreq = CH_NAMES, 20.0

    def __init__(self, count: int = 96, batch_size: int = 8, coupled: bool = True, seed: int = 0) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(seed)
        time = torch.arange(40) / 20.0
        level = torch.randn(count, 1, generator=draws)
        phase = 6.28 * torch.rand(count, 4, 1, generator=draws)
        rate = 2.0 + 2.0 * torch.randint(3, (count, 4, 1), generator=draws)  # 2, 4 or 6 Hz
        rhythm = torch.sin(6.28 * rate * time + phase) * (20 * torch.exp(0.6 * level))[..., None]
        noise = 10 * torch.randn(count, 4, 40, generator=draws)
        target = level[:, 0] if coupled else torch.randn(count, generator=draws)
        windows = rhythm + noise
        windows[:, 3] = 0  # the reference
        self.samples = [
            {"window": w, "target": 2 + 3 * float(t), "subject": i // 8}
            for i, (w, t) in enumerate(zip(windows, target, strict=True))
        ]
        self.batch_size = batch_size

    @property
    def train(self) -> list[dict[str, Any]]:
        return self.samples[: len(self.samples) * 3 // 4]

    @property
    def val(self) -> list[dict[str, Any]]:
        return self.samples[len(self.samples) * 3 // 4 :]

    def target_scale(self, column: str = "target") -> tuple[float, float]:
        values = torch.tensor([sample[column] for sample in self.train])
        return float(values.mean()), float(values.std(correction=0))

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, self.batch_size, shuffle=False)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val, self.batch_size)


def train(module: Any, data: Any, steps: int, checkpoint: Any = None, **options: Any) -> lightning.Trainer:
    """Fit for so many steps, validating where the options say."""
    options = {"val_check_interval": steps, "check_val_every_n_epoch": None, **options}
    trainer = lightning.Trainer(
        accelerator="cpu", max_steps=steps, max_epochs=-1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, **options,
    )  # fmt: skip
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=checkpoint is not None or None)
    return trainer
