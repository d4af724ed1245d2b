"""Finetune the pretrained encoder (phase 2): response times from all latents, factors from the trait latents.

Any other target of the windows is learned from the same latents, classes too.

The published code uses one name for its own encoder and for braindecode's SignalJEPA, and loads the weights of one into
the other, where no weight can match. Here the encoder is the pretrained one, and loading fails unless every weight
matches. braindecode's network is a rival that is trained for comparison (see `signal_jepa`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nbkit.ground.fields import checked
from nbkit.neuro.jepa.encoder import KIND as PRETRAINED
from nbkit.neuro.jepa.encoder import LATENTS, TRAIT, Encoder, EncoderSettings, pretrained_encoder
from nbkit.neuro.jepa.signal_jepa import SignalJEPARegressor
from nbkit.neuro.signals.seen import exposure, seen_of, seen_together
from nbkit.neuro.training.classification import WindowClassifier
from nbkit.neuro.training.regression import WindowRegressor, begin_at_mean
from nbkit.neuro.training.rivals import WithRivals
from nbkit.neuro.training.weights import LoadReport, held, load_strictly, settings_from
from nbkit.neuro.training.window_module import WindowModule, check_numbers, column_of, test_subjects_of

KIND = "jepa_finetune"
RIVAL = "signal_jepa"


@dataclass(frozen=True)
class Challenge:
    """Input and output of a challenge's head.

    Parameters
    ----------
    latents : slice
        Latents that the head reads.
    hidden : int
        Width of its hidden layer.
    targets : tuple of str
        Columns of the windows to predict; the scored one is ``target``.
    """

    latents: slice
    hidden: int
    targets: tuple[str, ...]

    @property
    def others(self) -> tuple[str, ...]:
        """Targets other than the scored one; windows may lack them."""
        return tuple(name for name in self.targets if name != "target")


CHALLENGES = {
    1: Challenge(
        slice(0, LATENTS), 64, ("target", "correct")
    ),  # response time in s, and whether the response was correct
    2: Challenge(TRAIT, 32, ("p_factor", "internalizing", "target", "attention")),  # the target is externalizing
}


_MINI: dict[str, Any] = {"batch_size": 128, "epochs": 50, "patience_epochs": 10}
_FREE: dict[str, Any] = {"batch_size": 128, "epochs": 30, "warmup_epochs": 2.0, "patience_epochs": 8}
_SMOKE: dict[str, Any] = {
    "encoder_preset": "smoke", "lr": 5e-3, "min_lr": 5e-4, "batch_size": 16, "steps": 50, "warmup_steps": 5,
    "patience_steps": 50,
}  # fmt: skip


@checked
@dataclass(frozen=True)
class FinetuneSettings:
    """Settings of a finetuning; the defaults are those of the seed project for challenge 1.

    The sizes of the encoder are taken from the pretrained checkpoint if there is one. `counted` turns lengths in epochs
    into steps; a length in steps above 0 takes precedence.
    """

    challenge: int = 1
    encoder_preset: str = "full"  # preset of `EncoderSettings`, without a pretrained checkpoint
    rival: str = ""  # SignalJEPA variant to compare: "contextual", "post_local", "pre_local"; "": none
    lr: float = 5e-4
    min_lr: float = 1e-6
    weight_decay: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)
    grad_clip: float = 1.0
    batch_size: int = 512
    epochs: int = 100
    warmup_epochs: float = 5.0
    patience_epochs: int = 20
    steps: int = 0
    warmup_steps: int = 0
    patience_steps: int = 0

    @classmethod
    def full(cls) -> FinetuneSettings:
        """Return the seed project's settings for all ten releases."""
        return cls()

    @classmethod
    def mini(cls) -> FinetuneSettings:
        """Return the seed project's settings for release 1 alone: smaller batches, fewer epochs."""
        return cls(**_MINI)

    @classmethod
    def free(cls) -> FinetuneSettings:
        """Return settings for the mini releases on one 16 GB GPU: smaller batches, fewer epochs."""
        return cls(**_FREE)

    @classmethod
    def smoke(cls) -> FinetuneSettings:
        """Return small settings for a test of seconds on two CPU cores; the code is the same."""
        return cls(**_SMOKE)

    def __post_init__(self) -> None:
        if self.challenge not in CHALLENGES:
            raise ValueError(f"Unknown challenge={self.challenge}; it may be 1 (response times) or 2 (factors).")


@checked
@dataclass(frozen=True)
class Challenge2Settings(FinetuneSettings):
    """Settings of the finetuning for challenge 2, which is longer."""

    challenge: int = 2
    epochs: int = 150

    @classmethod
    def full(cls) -> Challenge2Settings:
        """Return the seed project's settings for all ten releases."""
        return cls()

    @classmethod
    def mini(cls) -> Challenge2Settings:
        """Return the seed project's settings for release 1 alone: smaller batches, fewer epochs."""
        return cls(**_MINI)

    @classmethod
    def free(cls) -> Challenge2Settings:
        """Return settings for the mini releases on one 16 GB GPU: smaller batches, fewer epochs."""
        return cls(**_FREE)

    @classmethod
    def smoke(cls) -> Challenge2Settings:
        """Return small settings for a test of seconds on two CPU cores; the code is the same."""
        return cls(**_SMOKE)


class _FinetunedJEPA(WindowModule):
    """The network: the pretrained encoder, and a head on some of its latents."""

    kind = KIND

    def _build(self, encoder: EncoderSettings, outputs: int) -> None:
        if (encoder.n_chans, encoder.sfreq) != (len(self.ch_names), self.sfreq):
            raise ValueError(
                f"The encoder is for {encoder.n_chans} channels at {encoder.sfreq:g} Hz, the windows have "
                f"{len(self.ch_names)} at {self.sfreq:g} Hz. Pretrain on such windows, or cut windows that match the "
                "encoder."
            )
        self.encoder, self.head = Encoder(encoder), make_head(self.settings.challenge, outputs)
        begin_at_mean(self.head[-1])
        self.loaded = LoadReport(0, len(self.encoder.state_dict()), "nothing: random weights")

    @classmethod
    def _begin(cls, settings: FinetuneSettings, data: Any, pretrained: str | Path | None, *learned: Any) -> Any:
        if pretrained is None:
            sizes = getattr(EncoderSettings, settings.encoder_preset)()
            sizes = replace(sizes, n_chans=len(data.ch_names), sfreq=float(data.sfreq))
            sizes = replace(sizes, fmax=min(sizes.fmax, sizes.sfreq / 2))
            module = cls(settings, data.ch_names, data.sfreq, *learned, sizes)
        else:
            encoder, report = pretrained_encoder(pretrained)
            check_channels(held(pretrained, PRETRAINED)[0]["ch_names"], data.ch_names, Path(pretrained).name)
            module = cls(settings, data.ch_names, data.sfreq, *learned, encoder.settings)
            module.encoder.load_state_dict(encoder.state_dict())
            seen = seen_of(held(pretrained, PRETRAINED)[0])
            module.loaded = replace(report, exposure=exposure(seen, test_subjects_of(data)))
            module.seen = seen or ()
        module.seen = seen_together(module.seen, getattr(data, "seen", None))
        module.column = column_of(data)
        return module

    @classmethod
    def _restore(cls, made: Mapping[str, Any], weights: Mapping[str, Tensor], path: str | Path, *learned: Any) -> Any:
        settings = settings_from(FinetuneSettings, made, path)
        encoder = settings_from(EncoderSettings, {"settings": made["encoder"]}, path)
        module = cls(settings, made["ch_names"], made["sfreq"], *learned, encoder)
        module.loaded, module.n_times = load_strictly(module, weights, path), made["n_times"]
        module.column, module.seen = made.get("column", ""), seen_of(made) or ()
        return module

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[KIND] = {
            "settings": asdict(self.settings), "encoder": asdict(self.encoder.settings),
            "ch_names": list(self.ch_names), "sfreq": self.sfreq, "n_times": self.n_times, "loaded": str(self.loaded),
            "seen": list(self.seen), **self.learns(),
        }  # fmt: skip

    def outputs(self, windows: Tensor) -> Tensor:
        return predict_targets(self.encoder, self.head, CHALLENGES[self.settings.challenge].latents, windows).float()


class Regressor(_FinetunedJEPA, WindowRegressor):
    """Lightning module that predicts the targets of a challenge, or one number, from latents.

    Parameters
    ----------
    settings : FinetuneSettings
        With lengths in steps (see `counted`).
    ch_names : sequence of str
        Channels of the windows, in order.
    sfreq : float
        Sampling rate, in Hz.
    scales : sequence of (float, float)
        Mean and standard deviation of each target: of all targets of the challenge, or of one number.
    encoder : EncoderSettings

    Raises
    ------
    ValueError
        If the encoder is for other channels or another sampling rate.
    """

    def __init__(
        self,
        settings: FinetuneSettings,
        ch_names: Sequence[str],
        sfreq: float,
        scales: Sequence[tuple[float, float]],
        encoder: EncoderSettings,
    ) -> None:
        targets = ("target",) if len(scales) == 1 else CHALLENGES[settings.challenge].targets
        super().__init__(settings, ch_names, sfreq, scales, targets, "target")
        self._build(encoder, len(targets))

    @classmethod
    def for_data(cls, settings: FinetuneSettings, data: Any, pretrained: str | Path | None = None) -> Regressor:
        """Return a module for data, with the encoder of a pretraining checkpoint.

        Parameters
        ----------
        settings : FinetuneSettings
        data : WindowData
            Data with ``ch_names``, ``sfreq`` and ``target_scale``.
        pretrained : str or Path, optional
            The checkpoint; None starts from random weights.

        Returns
        -------
        module : Regressor
            Its ``loaded`` reports how many weights matched.

        Raises
        ------
        ValueError
            If a weight of the encoder is missing in the checkpoint, or the channels differ.
        """
        targets = ("target",) if column_of(data) else CHALLENGES[settings.challenge].targets
        return cls._begin(settings, data, pretrained, [_scale(data, name) for name in targets])

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "cpu") -> Regressor:
        """Load the module of a checkpoint, with its weights.

        Raises
        ------
        ValueError
            If the file holds no finetuned model of numbers, or its weights do not match this version.
        """
        made, weights = held(path, KIND, device)
        check_numbers(made, path)
        return cls._restore(made, weights, path, [(0.0, 1.0)] * len(weights["target_mean"])).to(device)


class Classifier(_FinetunedJEPA, WindowClassifier):
    """Lightning module that tells the classes of windows apart, from the latents that the challenge's head reads.

    Parameters
    ----------
    settings, ch_names, sfreq, encoder
        As in `Regressor`.
    classes : sequence of str
        Names of the classes, by number.
    weights : sequence of float, optional
        Weight of each class in the loss.
    """

    def __init__(
        self,
        settings: FinetuneSettings,
        ch_names: Sequence[str],
        sfreq: float,
        classes: Sequence[str],
        weights: Sequence[float] | None,
        encoder: EncoderSettings,
    ) -> None:
        super().__init__(settings, ch_names, sfreq, classes, weights)
        self._build(encoder, len(self.classes))

    @classmethod
    def for_data(cls, settings: FinetuneSettings, data: Any, pretrained: str | Path | None = None) -> Classifier:
        """Return a module for data with ``classes``, with the encoder of a pretraining checkpoint."""
        return cls._begin(settings, data, pretrained, data.classes, data.class_weights())

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "cpu") -> Classifier:
        """Load the module of a checkpoint, with its classes and weights."""
        made, weights = held(path, KIND, device)
        return cls._restore(made, weights, path, made["classes"], None).to(device)


class ComparedRegressor(WithRivals, Regressor):
    """`Regressor` trained next to the same network with random initial weights and, if set, SignalJEPA."""

    alone = Regressor
    words = {**WithRivals.words, RIVAL: "braindecode's SignalJEPA"}

    def make_rivals(self, settings: FinetuneSettings, *args: Any, **kwargs: Any) -> dict[str, WindowModule]:
        rivals = super().make_rivals(settings, *args, **kwargs)
        if settings.rival:
            scale = tuple(zip(self.target_mean.tolist(), self.target_deviation.tolist(), strict=True))[self._scored]
            rivals[RIVAL] = SignalJEPARegressor(settings, self.ch_names, self.sfreq, scale, settings.rival)
        return rivals


class ComparedClassifier(WithRivals, Classifier):
    """`Classifier` trained next to the same network with random initial weights."""

    alone = Classifier


def finetuning_for(settings: FinetuneSettings, data: Any, pretrained: str | Path | None = None) -> WithRivals:
    """Return the module for the target of data, classes or numbers, with its rivals.

    Raises
    ------
    ValueError
        If SignalJEPA is to be compared on another target than the challenge's.
    """
    if settings.rival and column_of(data):
        raise ValueError(
            f"rival={settings.rival!r} is compared on the challenge's own targets only; the target is "
            f"{column_of(data)}. Leave rival out of SETTINGS, or set TARGET = None."
        )
    kind = ComparedClassifier if data.classes else ComparedRegressor
    return kind.for_data(settings, data, pretrained)


def load_finetuned(path: str | Path, device: str = "cpu") -> Regressor | Classifier:
    """Load the finetuned model of a checkpoint, whatever it predicts."""
    kind = Classifier if held(path, KIND, device)[0].get("classes") else Regressor
    return kind.from_checkpoint(path, device)


def check_channels(trained: Sequence[str], names: Sequence[str], whose: str) -> None:
    """Raise if windows have as many channels as the encoder was trained on, but others or in another order."""
    if len(trained) == len(names) and tuple(trained) != tuple(names):
        odd = next(pair for pair in zip(trained, names, strict=True) if pair[0] != pair[1])
        raise ValueError(
            f"{whose} was trained on the same number of channels in another order, or on others: "
            f"{odd[0]} where the windows have {odd[1]}. Its weights depend on the order of channels; cut windows "
            "with its channels."
        )


def make_head(challenge: int, outputs: int | None = None) -> nn.Sequential:
    """Return a new head of a challenge: 96-64-2 for challenge 1 (behaviour), 24-32-4 for challenge 2 (factors).

    ``outputs`` replaces the number of outputs, for another target.
    """
    what = CHALLENGES[challenge]
    width = what.latents.stop - what.latents.start
    return nn.Sequential(nn.Linear(width, what.hidden), nn.GELU(), nn.Linear(what.hidden, outputs or len(what.targets)))


def predict_targets(encoder: Encoder, head: nn.Module, latents: slice, windows: Tensor) -> Tensor:
    """Return the head's predictions from a slice of the latents, shape (batch, targets), for windows in uV."""
    return head(encoder(windows)[:, latents])


def _scale(data: Any, name: str) -> tuple[float, float]:
    """Return mean and standard deviation of a target; an unscored target that is constant gets a deviation of 1."""
    mean, deviation = data.target_scale(name)
    return mean, deviation if deviation > 0 or name == "target" else 1.0
