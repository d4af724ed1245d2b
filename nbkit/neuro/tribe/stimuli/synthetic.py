"""Synthetic stimuli, brain and subjects with known truth.

Each modality has its own latents, and all share some; latents change slowly, as scenes and sentences do. One modality
drives each parcel through a fixed nonlinear map, and a double-gamma response with a planted peak turns the drive into
BOLD. Everything follows from the settings and an index, so all machines compute the same numbers. Scores on these data
show that the code works and nothing about brains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from nbkit.ground.fields import checked
from nbkit.neuro.signals.imaging.hrf import DoubleGamma, convolve_hrf, hrf_kernel, peak_lag
from nbkit.neuro.tribe.stimuli.features import FEATURE_DIMS, FEATURE_HZ, MODALITIES, feature_steps, pack_features
from nbkit.neuro.tribe.stimuli.segments import FUSION_DIM, TEACHER_TR

STAND_IN = "synthetic stand-in: planted latents, map and response; no stimulus was shown and no brain was recorded"
STAND_IN_TEACHER = "synthetic teacher: a fixed nonlinear map of the features, not TRIBE v2"


@checked
@dataclass(frozen=True)
class SyntheticSettings:
    """Settings of the synthetic world.

    ``free`` has the real sizes; ``smoke`` is for seconds on two CPU cores.
    """

    stimuli: int = 64
    duration_s: float = 330.0  # s of each stimulus, so that the last segment is shorter
    n_outputs: int = 20484  # 400 (the parcels), 5124 (fsaverage4) or 20484 (fsaverage5)
    parcels: int = 400
    latents: int = 4  # latents of each modality alone
    shared: int = 2  # latents that all modalities share
    shared_weight: float = 0.5  # weight of the shared latents in a parcel's drive, relative to its own
    timescale_s: float = 5.0  # time constant of the latents
    feature_noise: float = 0.3  # standard deviation of the features' noise
    subjects: int = 4
    subject_spread: float = 0.6  # standard deviation of a subject's gains; 0 makes all subjects alike
    ceiling: float = 0.8  # r between a subject's noisy and noise-free fMRI
    tr: float = 1.49  # repetition time of the fMRI, in s
    hrf_peak_s: float = 5.0  # peak of the planted response, in s
    offset_s: float = 5.0  # delay that the teacher removed: its row t is BOLD at t + offset
    seed: int = 2025

    @classmethod
    def free(cls) -> SyntheticSettings:
        """Return settings with fsaverage5 vertices, and enough stimuli to train the real student's sizes."""
        return cls()

    @classmethod
    def smoke(cls) -> SyntheticSettings:
        """Return settings with 400 parcels and eight stimuli of two minutes."""
        return cls(stimuli=8, duration_s=120.0, n_outputs=400, subjects=3)


def stimulus_name(index: int) -> str:
    """Return the video_id of a synthetic stimulus."""
    return f"stim{index:04d}"


def synthetic_stimulus(settings: SyntheticSettings, index: int) -> dict[str, Any]:
    """Return one stimulus in the form of its features file.

    Parameters
    ----------
    settings : SyntheticSettings
    index : int
        Number of the stimulus; it may exceed ``settings.stimuli``.

    Returns
    -------
    features : dict
        See `pack_features`: text, audio, video as float16 arrays of shape (steps, dim) at 2 Hz, present and so on.
    """
    brain = planted_brain(settings)
    draws = np.random.default_rng([settings.seed, 1, index])
    steps = feature_steps(settings.duration_s)
    own, shared = settings.latents, settings.shared
    common = _slow(draws, steps, shared, settings.timescale_s)
    made = {}
    for modality in MODALITIES:
        latents = np.concatenate([_slow(draws, steps, own, settings.timescale_s), common], axis=1)
        clean = latents @ brain.carriers[modality]
        made[modality] = clean + settings.feature_noise * draws.standard_normal(clean.shape)
    name = stimulus_name(index)
    return pack_features(name, settings.duration_s, **made, data=STAND_IN, weights="none: planted features")


@dataclass(frozen=True)
class PlantedBrain:
    """The true parameters of a synthetic world.

    Attributes
    ----------
    carriers : dict of ndarray of shape (latents, dim)
        Map from the latents of a modality to its features.
    modality_of_parcel : int array of shape (parcels,)
        Index in `MODALITIES` of the modality that drives each parcel.
    weights : ndarray of shape (hidden, parcels)
        From the hidden units (3 modalities x latents) to the parcels; zero outside the driving modality.
    parcel_of_output : int array of shape (outputs,)
        Parcel of each output, from 0.
    gain_of_output : ndarray of shape (outputs,)
        Gain of an output relative to its parcel.
    scale : float
        Scales the teacher's predictions to z units.
    """

    settings: SyntheticSettings
    carriers: dict[str, np.ndarray]
    mixing: dict[str, np.ndarray]
    modality_of_parcel: np.ndarray
    weights: np.ndarray
    parcel_of_output: np.ndarray
    gain_of_output: np.ndarray
    fusion: dict[str, np.ndarray]
    scale: float

    @property
    def modality_of_output(self) -> np.ndarray:
        """Index in `MODALITIES` of the modality that drives each output."""
        return self.modality_of_parcel[self.parcel_of_output]

    @property
    def hrf(self) -> DoubleGamma:
        """The planted haemodynamic response."""
        return DoubleGamma.peaking_at(self.settings.hrf_peak_s)

    def hrf_peak(self, tr: float) -> float:
        """Return the lag of the planted response's peak on a grid of ``tr`` seconds, in s."""
        return peak_lag(hrf_kernel(tr, shape=self.hrf), tr)

    def hidden(self, features: Mapping[str, Any]) -> np.ndarray:
        """Return the hidden units for features, shape (steps, hidden), at 2 Hz."""
        parts = []
        for modality in MODALITIES:
            carrier = self.carriers[modality]
            latents = np.asarray(features[modality], np.float64) @ carrier.T / carrier.shape[1]
            parts.append(np.tanh(latents @ self.mixing[modality]))
        return np.concatenate(parts, axis=1)

    def parcels(
        self, features: Mapping[str, Any], gain: np.ndarray | None = None, offset: np.ndarray | None = None,
        after_s: float = 0.0,
    ) -> np.ndarray:  # fmt: skip
        """Return the BOLD response of the parcels at 2 Hz, shape (steps, parcels), in z units.

        Parameters
        ----------
        features : mapping
        gain, offset : ndarray of shape (hidden,), optional
            Values of a subject; by default 1 and 0.
        after_s : float
            Time to continue after the end of the stimulus, in s.
        """
        hidden = self.hidden(features)
        hidden = hidden * (1.0 if gain is None else gain) + (0.0 if offset is None else offset)
        bold = convolve_hrf(
            hidden, 1 / FEATURE_HZ, self.hrf, after_s
        )  # the response is linear: it is cheaper before the weights
        return self.scale * (bold @ self.weights)

    def outputs(self, parcels: np.ndarray) -> np.ndarray:
        """Map parcels to outputs, shape (time, outputs)."""
        return parcels[:, self.parcel_of_output] * self.gain_of_output


@lru_cache(maxsize=8)
def planted_brain(settings: SyntheticSettings) -> PlantedBrain:
    """Return the true parameters of a synthetic world; they depend only on the settings."""
    draws = np.random.default_rng([settings.seed, 0])
    wide = settings.latents + settings.shared
    carriers = {m: draws.standard_normal((wide, FEATURE_DIMS[m])) for m in MODALITIES}
    mixing = {m: np.linalg.qr(draws.standard_normal((wide, wide)))[0] * 1.2 for m in MODALITIES}
    for m in MODALITIES:
        mixing[m][settings.latents :] *= settings.shared_weight
    seeds, modality_of_parcel = _parcel_seeds(settings.parcels)
    weights = np.zeros((len(MODALITIES) * wide, settings.parcels))
    for parcel, modality in enumerate(modality_of_parcel):
        column = draws.standard_normal(wide)
        weights[modality * wide : (modality + 1) * wide, parcel] = column / np.linalg.norm(column)
    parcel_of_output = _parcels_of_outputs(settings, seeds)
    gain = np.ones(len(parcel_of_output))
    if settings.n_outputs != settings.parcels:
        gain = np.random.default_rng([settings.seed, 5]).uniform(0.6, 1.4, len(parcel_of_output))
    fusion_draws = np.random.default_rng([settings.seed, 2])
    fusion = {
        "fusion_l4": fusion_draws.standard_normal((len(MODALITIES) * wide, FUSION_DIM)),
        "fusion_l6": fusion_draws.standard_normal((len(MODALITIES) * wide, FUSION_DIM)),
    }
    made = (carriers, mixing, modality_of_parcel, weights, parcel_of_output, gain, fusion)
    brain = PlantedBrain(settings, *made, scale=1.0)
    draws = np.random.default_rng(
        [settings.seed, 6]
    )  # a separate generator, so that the scale does not depend on the outputs
    typical = convolve_hrf(np.tanh(_slow(draws, 4000, 1, settings.timescale_s)), 1 / FEATURE_HZ, brain.hrf).std()
    return PlantedBrain(settings, *made, scale=1.0 / float(typical))


class SyntheticTeacher:
    """Predict the planted brain's response in TRIBE v2's format: at 1 Hz, row t is BOLD at t + 5 s.

    Parameters
    ----------
    settings : SyntheticSettings
        With ``n_outputs=20484`` for segment files of the real layout.
    """

    name = STAND_IN_TEACHER

    def __init__(self, settings: SyntheticSettings) -> None:
        self.settings = settings
        self.brain = planted_brain(settings)

    def predict(self, features: Mapping[str, Any], start: int = 0, end: int | None = None) -> dict[str, np.ndarray]:
        """Return predictions (trs, outputs) and fusion_l4, fusion_l6 (trs, 1152), float32, at 1 Hz.

        Parameters
        ----------
        features : mapping
            Features of a whole stimulus, at 2 Hz.
        start, end : int
            First and last TR (exclusive) to predict; by default all.
        """
        settings, brain = self.settings, self.brain
        trs = np.arange(teacher_trs(float(features["duration_s"])))[start:end]
        at = np.round((trs * TEACHER_TR + settings.offset_s) * FEATURE_HZ).astype(int)
        parcels = brain.parcels(features, after_s=settings.offset_s + 2.0)
        hidden = brain.hidden(features)
        pooled = np.stack([hidden[2 * t : 2 * t + 2].mean(axis=0) for t in trs])
        fusion = {name: np.tanh(pooled @ weights) for name, weights in brain.fusion.items()}
        made = {"predictions": brain.outputs(parcels[at]), **fusion}
        return {key: value.astype(np.float32) for key, value in made.items()}


def teacher_trs(duration_s: float) -> int:
    """Return the number of TRs of 1 s of a stimulus, including a partial last one."""
    return max(1, int(np.ceil(duration_s / TEACHER_TR - 0.02)))  # containers round durations: 3.01 s counts as 3


def subject_film(settings: SyntheticSettings, subject: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a subject's gain and offset of the hidden units, each of shape (hidden,); all subjects share the map."""
    hidden = len(MODALITIES) * (settings.latents + settings.shared)
    draws = np.random.default_rng([settings.seed, 3, subject])
    return (
        1 + settings.subject_spread * draws.standard_normal(hidden),
        settings.subject_spread * draws.standard_normal(hidden),
    )


def synthetic_fmri(settings: SyntheticSettings, subject: int, features: Mapping[str, Any]) -> dict[str, Any]:
    """Return a subject's fMRI for one stimulus; volume k is BOLD at ``k * tr`` seconds after its start.

    Parameters
    ----------
    settings : SyntheticSettings
    subject : int
        Any number; a number that was not in the training is a new subject with the same map.
    features : mapping
        Features of the stimulus, at 2 Hz.

    Returns
    -------
    fmri : dict
        fmri : float32 array of shape (volumes, outputs), z-scored over time; clean : float32 array of the same shape,
        without noise; ceiling : float, the expected r between the two; tr : float, in s; subject : int; video_id, data
        : str.
    """
    brain = planted_brain(settings)
    gain, offset = subject_film(settings, subject)
    parcels = brain.parcels(features, gain, offset)
    times = np.arange(int(float(features["duration_s"]) / settings.tr)) * settings.tr * FEATURE_HZ
    below = np.minimum(times.astype(int), len(parcels) - 2)
    part = (times - below)[:, None]
    clean = _z(brain.outputs((1 - part) * parcels[below] + part * parcels[below + 1]))
    name = str(features["video_id"])
    draws = np.random.default_rng([settings.seed, 4, subject, *name.encode()])
    noise = draws.standard_normal(clean.shape) * np.sqrt(1 / settings.ceiling**2 - 1)
    return {
        "fmri": _z(clean + noise).astype(np.float32), "clean": clean.astype(np.float32),
        "ceiling": settings.ceiling, "tr": settings.tr, "subject": subject, "video_id": name, "data": STAND_IN,
    }  # fmt: skip


def _slow(draws: np.random.Generator, steps: int, width: int, timescale_s: float) -> np.ndarray:
    """Draw latents of unit variance whose autocorrelation falls to 1/e in ``timescale_s``, shape (steps, width)."""
    from scipy.signal import lfilter

    keep = np.exp(-1 / (timescale_s * FEATURE_HZ))
    warm_up = int(5 * timescale_s * FEATURE_HZ)
    white = draws.standard_normal((warm_up + steps, width)) * np.sqrt(1 - keep**2)
    return lfilter([1.0], [1.0, -keep], white, axis=0)[warm_up:]


def _parcel_seeds(parcels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the parcels' centres on a unit sphere, left hemisphere first, and the modality that drives each.

    On a brain, video drives the back, audio the middle and text the front.
    """
    half = (parcels + 1) // 2
    turn = np.arange(half) * np.pi * (3 - np.sqrt(5))
    z = 1 - 2 * (np.arange(half) + 0.5) / half
    ring = np.sqrt(1 - z**2)
    seeds = np.stack([ring * np.cos(turn), ring * np.sin(turn), z], axis=1)
    rank = seeds[:, 1].argsort().argsort()  # y: from the back to the front
    modality = np.array([2, 1, 0])[np.minimum(3 * rank // half, 2)]
    both = np.concatenate([seeds, seeds[: parcels - half] * [-1, 1, 1]])
    return both, np.concatenate([modality, modality[: parcels - half]])


def _parcels_of_outputs(settings: SyntheticSettings, seeds: np.ndarray) -> np.ndarray:
    if settings.n_outputs == settings.parcels:
        return np.arange(settings.parcels)
    from scipy.spatial import cKDTree

    from nbkit.neuro.signals.imaging.surfaces import sphere, surface_of

    places = sphere(surface_of(settings.n_outputs)) / 100.0
    half, n_left = len(places) // 2, (settings.parcels + 1) // 2
    left = cKDTree(seeds[:n_left]).query(places[:half])[1]
    right = n_left + cKDTree(seeds[n_left:]).query(places[half:])[1]
    return np.concatenate([left, right])


def _z(values: np.ndarray) -> np.ndarray:
    spread = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
