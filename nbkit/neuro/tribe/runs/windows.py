"""Training windows of equal length, cut from runs; the end of each run is included.

Steps after the end of a run and steps without teacher or fMRI data are marked as not valid, so that losses skip them.
"""

from __future__ import annotations

from collections.abc import Sequence

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nbkit.neuro.tribe.runs.runs import StimulusRun
from nbkit.neuro.tribe.stimuli.segments import FUSION_DIM
from nbkit.neuro.tribe.student.fusion import MODALITIES

Batch = dict[str, Tensor]


class RunWindows(Dataset):
    """Dataset of windows, each a dict of tensors.

    Keys: text, audio, video (time, dim); seen (time,), False after the end; present (3,); subject (); weight (). If any
    run has them: teacher (time, outputs), teacher_valid (time,), pseudo (); fusion (time, 1152), fusion_valid (time,);
    bold (time, outputs), bold_valid (time,); keep (outputs,); raw_audio (time, frames, 80) and raw_video (time, height,
    width, 3).

    Parameters
    ----------
    runs : sequence of StimulusRun
    times : int
        Steps of a window.
    stride : int, optional
        Steps between the starts of windows; ``times`` by default.

    Raises
    ------
    ValueError
        If there is no run, or the runs differ in step or outputs.
    """

    def __init__(self, runs: Sequence[StimulusRun], times: int, stride: int | None = None) -> None:
        if not runs:
            raise ValueError("There are no runs to cut windows from; first run 61_tribe_features and 60_tribe_teacher.")
        self.runs, self.times, stride = list(runs), times, stride or times
        steps = {run.step_s for run in runs}
        widths = {target.shape[1] for run in runs for target in (run.teacher, run.bold) if target is not None}
        if len(steps) > 1 or len(widths) > 1:
            raise ValueError(f"Runs have steps of {sorted(steps)} s and {sorted(widths)} outputs; make them alike.")
        self.step_s, self.n_outputs = steps.pop(), widths.pop() if widths else 0
        self.has = {name: any(getattr(run, name) is not None for run in runs) for name in ("teacher", "bold")}
        self.raw = {name: values for run in runs for name, values in run.raw.items()}  # for the shapes
        self.places = [(number, start) for number, run in enumerate(runs) for start in starts(len(run), times, stride)]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Batch:
        number, start = self.places[index]
        run = self.runs[number]
        part = slice(start, start + self.times)
        length = len(run.features["text"][part])

        def cut(values: np.ndarray | None, width: int) -> Tensor:
            out = torch.zeros(self.times, width)
            if values is not None:
                out[:length] = torch.from_numpy(np.asarray(values[part], np.float32))
            return out

        def marks(values: np.ndarray | None) -> Tensor:
            out = torch.zeros(self.times, dtype=torch.bool)
            if values is not None:
                out[:length] = torch.from_numpy(np.asarray(values[part], bool))
            return out

        window = {name: cut(run.features[name], run.features[name].shape[1]) for name in MODALITIES}
        window |= {
            "seen": marks(np.ones(len(run), bool)), "present": torch.from_numpy(np.asarray(run.present, bool)),
            "subject": torch.tensor(run.subject), "weight": torch.tensor(run.weight, dtype=torch.float32),
        }  # fmt: skip
        for name, like in self.raw.items():
            piece = np.zeros((self.times, *like.shape[1:]), np.uint8 if like.dtype == np.uint8 else np.float32)
            if name in run.raw:
                piece[:length] = run.raw[name][part]
            window[f"raw_{name}"] = torch.from_numpy(piece)
        if self.has["teacher"]:
            window |= {
                "teacher": cut(run.teacher, self.n_outputs), "teacher_valid": marks(run.teacher_valid),
                "fusion": cut(run.fusion, FUSION_DIM), "fusion_valid": marks(run.fusion_valid),
                "pseudo": torch.tensor(run.pseudo),
            }  # fmt: skip
        if self.has["bold"]:
            measured = None if run.bold is None else run.scored
            window |= {"bold": cut(run.bold, self.n_outputs), "bold_valid": marks(measured)}
        if self.n_outputs:
            keep = np.ones(self.n_outputs, bool) if run.keep is None else run.keep
            window["keep"] = torch.from_numpy(np.asarray(keep, bool))
        return window


class TribeData(lightning.LightningDataModule):
    """Lightning data module of training and validation windows.

    Parameters
    ----------
    train, val : sequence of StimulusRun
        Runs without a common stimulus.
    times : int
        Steps of a window.
    stride : int, optional
        Steps between the starts of training windows; validation windows do not overlap, except the last of a run.
    batch_size, num_workers : int
        Arguments of the loaders.
    seed : int
        Seed of the order of training windows.

    Raises
    ------
    ValueError
        If a stimulus is in both.
    """

    def __init__(
        self,
        train: Sequence[StimulusRun],
        val: Sequence[StimulusRun],
        times: int,
        stride: int | None = None,
        batch_size: int = 8,
        num_workers: int = 0,
        seed: int = 2025,
    ) -> None:
        super().__init__()
        both = {run.name for run in train} & {run.name for run in val}
        if both:
            raise ValueError(
                f"There are {len(both)} stimuli in training and validation ({min(both)}, ...); use split_runs."
            )
        self.train_dataset, self.val_dataset = RunWindows(train, times, stride), RunWindows(val, times)
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed

    def train_dataloader(self) -> DataLoader:
        order = torch.Generator().manual_seed(self.seed)
        return DataLoader(
            self.train_dataset, self.batch_size, shuffle=True, generator=order, num_workers=self.num_workers
        )

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val_dataset, self.batch_size, num_workers=self.num_workers)


def starts(length: int, times: int, stride: int) -> list[int]:
    """Return the first steps of the windows of a run.

    The last window ends with the run; a run shorter than a window has one window.

    Examples
    --------
    >>> starts(250, 100, 100), starts(60, 100, 100)
    ([0, 100, 150], [0])
    """
    found = list(range(0, max(1, length - times + 1), stride))
    if found[-1] + times < length:
        found.append(length - times)
    return found


def halves(batch: Batch, times: int) -> Batch:
    """Cut the windows of a batch into shorter ones of ``times`` steps, without losing a step.

    Parameters
    ----------
    batch : dict of Tensor
    times : int
        A divisor of the windows' length.

    Returns
    -------
    batch : dict of Tensor
        With more samples, in order of time.

    Raises
    ------
    ValueError
        If ``times`` is not a divisor.
    """
    length = batch["text"].shape[1]
    parts = length // times
    if parts * times != length:
        raise ValueError(f"Windows of {length} steps cannot be cut into {times}; give a divisor.")
    targets = [name + end for name in ("teacher", "fusion", "bold") for end in ("", "_valid")]
    timed = {*MODALITIES, "seen", *targets, *(f"raw_{name}" for name in MODALITIES)}
    return {
        name: value.unflatten(1, (parts, times)).flatten(0, 1) if name in timed else value.repeat_interleave(parts, 0)
        for name, value in batch.items()
    }
