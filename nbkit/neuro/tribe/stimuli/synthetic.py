"""Stimuli, a brain and subjects that are made up, with the truth known.

Every modality has latents of its own and some that all share; they move slowly, as scenes and sentences do. Each parcel
is driven by one modality, through a fixed nonlinear map; the drive becomes BOLD by a double-gamma response with a
planted peak. Everything follows from the settings and an index, so any machine makes the same numbers. What a model
reaches here says that the code works, and nothing about brains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from nbkit.neuro.signals.imaging.hrf import DoubleGamma, convolve_hrf, hrf_kernel, peak_lag
from nbkit.neuro.tribe.stimuli.features import FEATURE_DIMS, FEATURE_HZ, MODALITIES, feature_steps, pack_features
from nbkit.neuro.tribe.stimuli.segments import FUSION_DIM, TEACHER_TR

STAND_IN = "synthetic stand-in: planted latents, map and response; no stimulus was shown and no brain was recorded"
STAND_IN_TEACHER = "synthetic teacher: a fixed nonlinear map of the features, not TRIBE v2"


@dataclass(frozen=True)
class SyntheticSettings:
    """Settings of the made-up world.

    ``free`` has the real sizes; ``smoke`` is for seconds on two CPU cores.
    """

    stimuli: int = 64
    duration_s: float = 330.0  # of each stimulus, so that the last segment is a short one
    n_outputs: int = 20484  # 400 (the parcels), 5124 (fsaverage4) or 20484 (fsaverage5)
    parcels: int = 400
    latents: int = 4  # of each modality alone
    shared: int = 2  # of all modalities together
    shared_weight: float = 0.5  # of the shared latents in a parcel's drive, beside 1 of its own modality's
    timescale_s: float = 5.0  # how long a latent stays what it is
    feature_noise: float = 0.3  # of each feature, beside 1 of what the latents make
    subjects: int = 4
    subject_spread: float = 0.6  # standard deviation of a subject's gains; 0 makes all subjects alike
    ceiling: float = 0.8  # r between the noisy fMRI of a subject and what is true
    tr: float = 1.49  # s, of the fMRI
    hrf_peak_s: float = 5.0  # s, of the planted response
    offset_s: float = 5.0  # s that the teacher has taken out: its row t is BOLD at t + offset
    seed: int = 2025

    @classmethod
    def free(cls) -> SyntheticSettings:
        """Return fsaverage5 vertices, and stimuli enough to train the real student's sizes."""
        return cls()

    @classmethod
    def smoke(cls) -> SyntheticSettings:
        """Give 400 parcels and eight stimuli of two minutes."""
        return cls(stimuli=8, duration_s=120.0, n_outputs=400, subjects=3)


def stimulus_name(index: int) -> str:
    """Return the video_id of a made-up stimulus."""
    return f"stim{index:04d}"


def synthetic_stimulus(settings: SyntheticSettings, index: int) -> dict[str, Any]:
    """Return one stimulus as its features file would hold it.

    Parameters
    ----------
    index : int
        Which one; any number, not only those below ``settings.stimuli``.

    Returns
    -------
    features : dict
        As `pack_features` gives: text, audio, video as float16 arrays of shape (steps, dim) at 2 Hz, present, ...
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
    """Hold the planted truth.

    Attributes
    ----------
    carriers : dict of ndarray of shape (latents, dim)
        How the latents of a modality make its features.
    modality_of_parcel : int array of shape (parcels,)
        Which of `MODALITIES` drives each parcel.
    weights : ndarray of shape (hidden, parcels)
        From the hidden units (3 modalities x latents) to the parcels; zero outside the driving modality.
    parcel_of_output : int array of shape (outputs,)
        Which parcel each output belongs to, from 0.
    gain_of_output : ndarray of shape (outputs,)
        How strongly an output follows its parcel.
    scale : float
        Makes the teacher's predictions z units.
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
        """Which of `MODALITIES` drives each output."""
        return self.modality_of_parcel[self.parcel_of_output]

    @property
    def hrf(self) -> DoubleGamma:
        """The planted response."""
        return DoubleGamma.peaking_at(self.settings.hrf_peak_s)

    def hrf_peak(self, tr: float) -> float:
        """Return the lag of the planted response's peak on a grid of ``tr`` seconds, in s."""
        return peak_lag(hrf_kernel(tr, shape=self.hrf), tr)

    def hidden(self, features: Mapping[str, Any]) -> np.ndarray:
        """Return the hidden units that features drive, shape (steps, hidden), at 2 Hz."""
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
        """Return the parcels' BOLD on the 2 Hz grid, shape (steps, parcels), in z units.

        Parameters
        ----------
        gain, offset : ndarray of shape (hidden,), optional
            A subject's own; 1 and 0 where not given.
        after_s : float
            Seconds to go on after the stimulus has ended.
        """
        hidden = self.hidden(features)
        hidden = hidden * (1.0 if gain is None else gain) + (0.0 if offset is None else offset)
        bold = convolve_hrf(hidden, 1 / FEATURE_HZ, self.hrf, after_s)  # linear: before the weights it is cheaper
        return self.scale * (bold @ self.weights)

    def outputs(self, parcels: np.ndarray) -> np.ndarray:
        """Spread parcels over the outputs, shape (time, outputs)."""
        return parcels[:, self.parcel_of_output] * self.gain_of_output


@lru_cache(maxsize=8)
def planted_brain(settings: SyntheticSettings) -> PlantedBrain:
    """Return the planted truth of a made-up world; the same settings always give the same."""
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
    draws = np.random.default_rng([settings.seed, 6])  # of its own: the scale is the same for all outputs
    typical = convolve_hrf(np.tanh(_slow(draws, 4000, 1, settings.timescale_s)), 1 / FEATURE_HZ, brain.hrf).std()
    return PlantedBrain(settings, *made, scale=1.0 / float(typical))


class SyntheticTeacher:
    """Say about a stimulus what the planted brain does, as TRIBE v2 would: 1 Hz, row t is BOLD at t + 5 s.

    Parameters
    ----------
    settings : SyntheticSettings
        With ``n_outputs=20484`` for segment files of the real layout.
    """

    name = STAND_IN_TEACHER

    def __init__(self, settings: SyntheticSettings) -> None:
        self.settings = settings
        self.brain = planted_brain(settings)

    def predict(self, features: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return predictions (trs, outputs) and fusion_l4, fusion_l6 (trs, 1152), float32, at 1 Hz.

        Parameters
        ----------
        features : mapping
            Of a whole stimulus, at 2 Hz.
        """
        settings, brain = self.settings, self.brain
        n_trs = teacher_trs(float(features["duration_s"]))
        at = np.round((np.arange(n_trs) * TEACHER_TR + settings.offset_s) * FEATURE_HZ).astype(int)
        parcels = brain.parcels(features, after_s=settings.offset_s + 2.0)
        hidden = brain.hidden(features)
        pooled = np.stack([hidden[2 * t : 2 * t + 2].mean(axis=0) for t in range(n_trs)])
        fusion = {name: np.tanh(pooled @ weights) for name, weights in brain.fusion.items()}
        made = {"predictions": brain.outputs(parcels[at]), **fusion}
        return {key: value.astype(np.float32) for key, value in made.items()}


def teacher_trs(duration_s: float) -> int:
    """Return the TRs of 1 s that a stimulus has, a started one included."""
    return max(1, int(np.ceil(duration_s / TEACHER_TR - 0.02)))  # containers round durations; 3.01 s is 3


def subject_film(settings: SyntheticSettings, subject: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a subject's own gain and offset of the hidden units, each of shape (hidden,); the map is everybody's."""
    hidden = len(MODALITIES) * (settings.latents + settings.shared)
    draws = np.random.default_rng([settings.seed, 3, subject])
    return (
        1 + settings.subject_spread * draws.standard_normal(hidden),
        settings.subject_spread * draws.standard_normal(hidden),
    )


def synthetic_fmri(settings: SyntheticSettings, subject: int, features: Mapping[str, Any]) -> dict[str, Any]:
    """Return a subject's fMRI of one stimulus; volume k is BOLD at ``k * tr`` seconds after its start.

    Parameters
    ----------
    subject : int
        Any number; one that no training saw is a new subject with the same map.
    features : mapping
        Of the stimulus, at 2 Hz.

    Returns
    -------
    fmri : dict
        fmri : float32 array of shape (volumes, outputs), z-scored over time
        clean : float32 array of that shape, the same without noise
        ceiling : float, the r between the two that the noise was made for
        tr : float, in s
        subject : int
        video_id, data : str
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
    """Latents of unit variance whose autocorrelation falls to 1/e in ``timescale_s``, shape (steps, width)."""
    from scipy.signal import lfilter

    keep = np.exp(-1 / (timescale_s * FEATURE_HZ))
    warm_up = int(5 * timescale_s * FEATURE_HZ)
    white = draws.standard_normal((warm_up + steps, width)) * np.sqrt(1 - keep**2)
    return lfilter([1.0], [1.0, -keep], white, axis=0)[warm_up:]


def _parcel_seeds(parcels: int) -> tuple[np.ndarray, np.ndarray]:
    """Parcels' middles on a unit sphere, left hemisphere's half first, and which modality drives each.

    Seen as a brain: the back sees, the middle hears, the front reads.
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
