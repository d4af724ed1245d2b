"""The `free` presets of all six systems, each as the module that its notebook trains and a batch of full size.

Windows are made up: sizes are those of the data that the preset is named for, values are noise. Networks of other
packages that are not installed are named in `MISSING`.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nbkit.neuro.bandvar.tokens.conditions import Conditions
from nbkit.neuro.bandvar.tokens.generator_training import GeneratorSettings, GeneratorTraining
from nbkit.neuro.bandvar.tokens.scales import token_count
from nbkit.neuro.bandvar.tokens.tokenizer import BandTokenizer
from nbkit.neuro.bandvar.tokens.tokenizer_training import TokenizerSettings, TokenizerTraining
from nbkit.neuro.bandvar.tokens.transform import fit_bases
from nbkit.neuro.bandvar.training import BandVAR, BandVARSettings
from nbkit.neuro.jepa import finetune as jepa_finetune
from nbkit.neuro.jepa import pretrain as jepa_pretrain
from nbkit.neuro.labram import codebook, finetune, pretrain
from nbkit.neuro.labram.channels import EGI_129
from nbkit.neuro.neurofm.network.model import NeuroFMSettings
from nbkit.neuro.neurofm.network.units import RecordingUnits, Task, UnitTable
from nbkit.neuro.neurofm.pretrain import Pretrainer
from nbkit.neuro.neurofm.scaling import ScalingSettings
from nbkit.neuro.neurofm.search import SearchSettings
from nbkit.neuro.neurofm.transfer import TransferSettings
from nbkit.neuro.tribe import pretrain as tribe_pretrain
from nbkit.neuro.tribe.distill import DistillSettings, DistillTribe
from nbkit.neuro.tribe.fmri import FmriSettings, FmriTribe
from nbkit.neuro.tribe.stimuli.segments import FUSION_DIM

SEARCH, SCALING, TRANSFER = SearchSettings.free(), ScalingSettings.free(), TransferSettings.free()
BANDS = ((0.5, 4.0), (4.0, 8.0), (8.0, 13.0), (13.0, 30.0), (30.0, 45.0))


def installed(*packages: str) -> bool:
    """Return whether all of these packages can be found."""
    try:
        return all(importlib.util.find_spec(package) is not None for package in packages)
    except ModuleNotFoundError:
        return False


HAS_BRAINDECODE = installed("braindecode", "mne")
DECODED = ("bendr", "biot", "cbramod", "eegpt", "labram", "luna", "reve", "signaljepa")


@dataclass(frozen=True)
class Preset:
    """A training of a notebook at its free preset.

    Attributes
    ----------
    slug : str
        The phase.
    of : str
        Which of its trainings, where there are several.
    make : callable
        Returns the module and a function that draws a batch of so many rows.
    batch_size : int
    """

    slug: str
    make: Callable[[], tuple[Any, Callable[[int], Any]]]
    batch_size: int
    of: str = ""
    whole: bool = True  # whether all tensors of the module are registered in it

    @property
    def name(self) -> str:
        return f"{self.slug} {self.of}".strip()


def _eeg(rows: int, samples: int = 200, channels: int = 129, **columns: Tensor) -> dict[str, Tensor]:
    return {"window": 30 * torch.randn(rows, channels, samples), **columns}


def _steps(settings: Any) -> Any:
    return replace(settings, steps=1000, warmup_steps=10, patience_steps=0)


def _codebook() -> tuple[Any, Callable[[int], Any]]:
    module = codebook.Codebook(_steps(codebook.CodebookSettings.free()), EGI_129, 100.0)
    module.tokenizer.quantize.take(torch.randn(module.settings.codebook_size, module.settings.code_dim))
    return module, _eeg


def _pretrain() -> tuple[Any, Callable[[int], Any]]:
    book = codebook.Codebook(codebook.CodebookSettings.free(), EGI_129, 100.0).tokenizer
    return pretrain.MaskedEEG(_steps(pretrain.PretrainSettings.free()), book, EGI_129, 100.0), _eeg


def _finetune() -> tuple[Any, Callable[[int], Any]]:
    module = finetune.ComparedRegressor(_steps(finetune.FinetuneSettings.free()), EGI_129, 100.0)
    return module, lambda rows: _eeg(rows, target=torch.randn(rows))


def _jepa() -> tuple[Any, Callable[[int], Any]]:
    return jepa_pretrain.JEPA(_steps(jepa_pretrain.PretrainSettings.free()), EGI_129), _eeg


def _jepa_finetune(challenge: int) -> tuple[Any, Callable[[int], Any]]:
    kinds = {1: jepa_finetune.FinetuneSettings, 2: jepa_finetune.Challenge2Settings}
    settings = _steps(kinds[challenge].free())
    encoder = jepa_pretrain.EncoderSettings.free()
    targets = jepa_finetune.CHALLENGES[challenge].targets
    module = jepa_finetune.ComparedRegressor(settings, EGI_129, 100.0, [(0.0, 1.0)] * len(targets), encoder)
    return module, lambda rows: _eeg(rows, **{name: torch.randn(rows) for name in targets})


def _levels(rows: int) -> Tensor:
    return (10 * torch.randn(rows, len(BANDS), 64, 500)).cumsum(1)


def _bandvar() -> tuple[Any, Callable[[int], Any]]:
    module = BandVAR(BandVARSettings.free(), 64, 500, BANDS, [10.0] * len(BANDS))
    return module, _levels


@cache
def _bases() -> list[Any]:
    """Return bases fitted to noise: they tell how many coefficients each token of Band-VAR's tokenizer has."""
    settings = TokenizerSettings.free()
    bands = np.random.default_rng(0).normal(size=(64, len(BANDS), 64, 500))
    return fit_bases(bands, token_count(5.0, settings.tokens_a_second, len(BANDS)), settings.codes)


def _bandvar_tokenizer() -> tuple[Any, Callable[[int], Any]]:
    settings, bases = TokenizerSettings.free(), _bases()
    sizes = np.concatenate([basis.sizes for basis in bases]).tolist()
    lengths, courses = [len(basis.sizes) for basis in bases], [len(basis.courses) for basis in bases]
    made = BandTokenizer(64, 500, settings.codes, lengths, courses, sizes)
    return TokenizerTraining(settings, made, BANDS, 100.0), _levels


def _bandvar_generate() -> tuple[Any, Callable[[int], Any]]:
    coder, _ = _bandvar_tokenizer()
    people = tuple(f"S{number:03d}" for number in range(1, 110))
    module = GeneratorTraining(GeneratorSettings.free(), coder, Conditions(("movement", "rest"), people, ("fists",)))
    tokens, codes = sum(coder.tokenizer.lengths), coder.settings.codes
    return module, lambda rows: (torch.randint(codes, (rows, tokens)), torch.ones(rows, 3, dtype=torch.long))


def _neurofm(recordings: int = 30, **sizes: int) -> tuple[Any, Callable[[int], Any]]:
    settings = replace(_steps(NeuroFMSettings.free()), **sizes)
    units = settings.max_units
    table = UnitTable(
        [
            RecordingUnits(f"r{n}", tuple(map(str, range(units))), (0.05,) * units, "mouse/ecephys", "run", 0.9)
            for n in range(recordings)
        ],
        [Task("run", "cm/s", (0.0, 0.0), (1.0, 1.0), False)],
    )

    def batch(rows: int) -> dict[str, Tensor]:
        shape = (rows, settings.n_bins, units)
        which = torch.randint(recordings, (rows,))
        return {
            "counts": torch.poisson(torch.full(shape, 0.05)), "next_counts": torch.poisson(torch.full(shape, 0.05)),
            "present": torch.ones(rows, units, dtype=torch.bool),
            "unit": which[:, None] * units + torch.arange(units), "slot": torch.arange(units).expand(rows, -1),
            "recording": which, "kind": torch.ones(rows, dtype=torch.long), "task": torch.ones(rows, dtype=torch.long),
            "behaviour": torch.randn(rows, settings.n_bins, 2), "has_next": torch.ones(rows, dtype=torch.bool),
            "snr": torch.full((rows,), 0.9),
        }  # fmt: skip

    return Pretrainer(settings, table), batch


def _stimuli(settings: Any, times: int, *, taught: bool, measured: bool) -> Callable[[int], dict[str, Tensor]]:
    student = settings.student

    def batch(rows: int) -> dict[str, Tensor]:
        flags = torch.ones(rows, times, dtype=torch.bool)
        made = {
            "text": torch.randn(rows, times, student.text_dim), "audio": torch.randn(rows, times, student.audio_dim),
            "video": torch.randn(rows, times, student.video_dim), "seen": flags,
            "present": torch.ones(rows, 3, dtype=torch.bool), "subject": torch.zeros(rows, dtype=torch.long),
            "weight": torch.ones(rows), "keep": torch.ones(rows, student.n_vertices, dtype=torch.bool),
        }  # fmt: skip
        if taught:
            made |= {
                "teacher": torch.randn(rows, times, student.n_vertices), "teacher_valid": flags,
                "fusion": torch.randn(rows, times, FUSION_DIM), "fusion_valid": flags,
                "pseudo": torch.zeros(rows, dtype=torch.bool),
            }  # fmt: skip
        if measured:
            made |= {"bold": torch.randn(rows, times, student.n_vertices), "bold_valid": flags}
        return made

    return batch


def _tribe(settings: Any, kind: Any, **targets: bool) -> tuple[Any, Callable[[int], Any]]:
    return kind(settings), _stimuli(settings, settings.times, **targets)


def _decoding(key: str, mode: str) -> tuple[Any, Callable[[int], Any]]:
    from nbkit.neuro.decoding.finetune import decoder_for
    from nbkit.neuro.decoding.models.registry import load_model
    from nbkit.neuro.decoding.training import FineTuneSettings, _Loss, _Training

    names = "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2".split()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = load_model(key, ch_names=names, window=5.0)
        network = decoder_for(model, mode, 2, FineTuneSettings.free(), 0)[0]
    shape = len(model.ch_names) + (key == "bendr"), model.n_times  # BENDR's own channel is the scale
    head = {name for name, _ in network.named_parameters() if name.startswith("head.")}
    module = _Training(
        network, _Loss(torch.ones(2)), FineTuneSettings.free(), head, "fp16" if torch.cuda.is_available() else "bf16"
    )
    return module, lambda rows: (torch.randn(rows, *shape), torch.randint(2, (rows,)))


PRESETS = (
    Preset("labram_codebook", _codebook, codebook.CodebookSettings.free().batch_size),
    Preset("labram_pretrain", _pretrain, pretrain.PretrainSettings.free().batch_size),
    Preset("labram_challenge1", _finetune, finetune.FinetuneSettings.free().batch_size),
    Preset("labram_challenge2", _finetune, finetune.FinetuneSettings.free().batch_size),
    Preset("jepa_pretrain", _jepa, jepa_pretrain.PretrainSettings.free().batch_size),
    Preset("jepa_challenge1", lambda: _jepa_finetune(1), jepa_finetune.FinetuneSettings.free().batch_size),
    Preset("jepa_challenge2", lambda: _jepa_finetune(2), jepa_finetune.Challenge2Settings.free().batch_size),
    Preset("bandvar_train", _bandvar, BandVARSettings.free().batch_size),
    Preset("bandvar_tokenizer", _bandvar_tokenizer, TokenizerSettings.free().batch_size),
    Preset("bandvar_generate", _bandvar_generate, GeneratorSettings.free().batch_size),
    Preset("neurofm_validate", _neurofm, NeuroFMSettings.free().batch_size),
    Preset(
        "neurofm_search",
        lambda: _neurofm(SEARCH.recordings, dim=max(SEARCH.dims), blocks=max(SEARCH.blocks)),
        NeuroFMSettings.free().batch_size, "largest trial",
    ),
    Preset(
        "neurofm_scaling",
        lambda: _neurofm(max(SCALING.sizes), heads=8, blocks=SCALING.blocks,
                         **dict(zip(("dim", "latents"), max(SCALING.model_sizes), strict=True))),
        NeuroFMSettings.free().batch_size, "largest trial",
    ),
    Preset("neurofm_transfer", lambda: _neurofm(TRANSFER.recordings), TRANSFER.batch_size),
    Preset(
        "tribe_pretrain",
        lambda: (
            tribe_pretrain.PretrainTribe(tribe_pretrain.PretrainSettings.free()),
            _stimuli(tribe_pretrain.PretrainSettings.free(), tribe_pretrain.PretrainSettings.free().times,
                     taught=False, measured=False),
        ),
        tribe_pretrain.PretrainSettings.free().batch_size,
    ),
    Preset(
        "tribe_distill", lambda: _tribe(DistillSettings.free(), DistillTribe, taught=True, measured=False),
        DistillSettings.free().batch_size,
    ),
    Preset(
        "tribe_fmri", lambda: _tribe(FmriSettings.free(), FmriTribe, taught=True, measured=True),
        FmriSettings.free().batch_size,
    ),
)  # fmt: skip


def decoding_presets(modes: tuple[str, ...] = ("lora", "full")) -> Iterator[Preset]:
    """Yield the finetunings of the foundation models; none where braindecode or MNE is missing."""
    from nbkit.neuro.decoding.training import FineTuneSettings

    for key in DECODED if HAS_BRAINDECODE else ():
        for mode in modes:
            make = lambda key=key, mode=mode: _decoding(key, mode)  # noqa: E731
            yield Preset("decoding_finetune", make, FineTuneSettings.free().batch_size, f"{key}, {mode}", whole=False)
