"""The linear part of the tokenizer, fitted to training windows: where a band's power lies, and how many tokens it gets.

Each band has a basis of its own, separable in space and time: the principal patterns over channels times the principal
courses in time (a Karhunen-Loeve transform). Both are estimated from all windows and channels, so a few hundred windows
are enough. Bits go where they reduce the error of the bands most, each in units of its power (reverse water-filling;
Cover and Thomas 2006, chapter 10), and every token codes a group of coefficients together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_MOST_TOGETHER = 16  # coefficients that one token codes
_LEAST_SHARE = 1e-4  # of a band's power, below which a course in time is left out


@dataclass(frozen=True)
class BandBasis:
    """Basis and tokens of one band.

    Attributes
    ----------
    patterns : array of shape (channels, channels)
        Orthonormal columns, the strongest first.
    courses : array of shape (courses, time)
        Orthonormal rows, the strongest first.
    places : int array of shape (kept,)
        The kept coefficients, as ``pattern * courses + course``, grouped by token.
    sizes : int array of shape (tokens,)
        Coefficients of each token.
    spread : array of shape (kept,)
        Standard deviation of each kept coefficient, in units of the band's RMS.
    """

    patterns: np.ndarray
    courses: np.ndarray
    places: np.ndarray
    sizes: np.ndarray
    spread: np.ndarray

    def coefficients(self, band: np.ndarray) -> np.ndarray:
        """Return all coefficients of windows (windows, channels, time) as (windows, patterns * courses)."""
        turned = np.einsum("cp,wct,qt->wpq", self.patterns, band, self.courses, optimize=True)
        return turned.reshape(len(band), -1)


def fit_bases(bands: np.ndarray, tokens: int, codes: int) -> list[BandBasis]:
    """Fit the basis of every band, and share the tokens out.

    Parameters
    ----------
    bands : array of shape (windows, bands, channels, time)
        Single bands, each in units of its RMS.
    tokens : int
        Tokens of a window, over all bands; at least one a band.
    codes : int
        Codes of a token.

    Returns
    -------
    bases : list of BandBasis
    """
    if tokens < bands.shape[1]:
        raise ValueError(f"{tokens} tokens are too few for {bands.shape[1]} bands; each needs at least one.")
    plain, variances = [], []
    for number in range(bands.shape[1]):
        basis, variance = _basis(bands[:, number])
        plain.append(basis)
        variances.append(variance)
    bits = math.log2(codes)
    level = water_level(np.concatenate(variances), tokens * bits)
    wanted = [_bits(variance, level).sum() / bits for variance in variances]
    shares = shared_out(wanted, tokens)
    return [_grouped(basis, variance, count, bits)
            for basis, variance, count in zip(plain, variances, shares, strict=True)]  # fmt: skip


def water_level(variances: np.ndarray, bits: float) -> float:
    """Return the distortion up to which variances are coded if they share a number of bits."""
    low, high = 1e-12 * float(variances.max()), float(variances.max())
    for _ in range(100):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if _bits(variances, middle).sum() < bits else (middle, high)
    return math.sqrt(low * high)


def shared_out(wanted: Sequence[float], total: int) -> list[int]:
    """Return whole numbers near the wanted ones, at least 1 each, with a given sum."""
    exact = np.maximum(np.asarray(wanted, float), 1e-9)
    shares = np.maximum(1, np.floor(exact * total / exact.sum())).astype(int)
    while shares.sum() != total:
        rest = exact * total / exact.sum() - shares
        if shares.sum() < total:
            shares[int(np.argmax(rest))] += 1
        else:
            shares[int(np.argmin(np.where(shares > 1, rest, np.inf)))] -= 1
    return shares.tolist()


def _bits(variances: np.ndarray, level: float) -> np.ndarray:
    return np.maximum(0.0, 0.5 * np.log2(np.maximum(variances, 1e-30) / level))


def _basis(band: np.ndarray) -> tuple[BandBasis, np.ndarray]:
    band = band.astype(np.float64)
    windows, channels, steps = band.shape
    across = np.einsum("wct,wdt->cd", band, band) / (windows * steps)
    along = np.einsum("wct,wcu->tu", band, band, optimize=True) / (windows * channels)
    patterns = np.linalg.eigh(across)[1][:, ::-1]
    values, courses = np.linalg.eigh(along)
    kept = values[::-1] > _LEAST_SHARE * values.sum()
    basis = BandBasis(patterns, courses[:, ::-1].T[kept], *(np.zeros(0),) * 3)
    return basis, np.square(basis.coefficients(band)).mean(axis=0)


def _grouped(basis: BandBasis, variances: np.ndarray, tokens: int, bits: float) -> BandBasis:
    """Assign the coefficients that are worth bits to the tokens, so that each has about the same number of bits."""
    level = water_level(variances, tokens * bits)
    order = np.argsort(variances)[::-1]
    order = order[: max(tokens, min(tokens * _MOST_TOGETHER, int((variances > level).sum())))]
    load, groups = np.zeros(tokens), [[] for _ in range(tokens)]
    for place in order:
        open_ = [n for n in range(tokens) if len(groups[n]) < _MOST_TOGETHER]
        least = min(open_, key=lambda n: (load[n], len(groups[n])))
        groups[least].append(int(place))
        load[least] += float(_bits(variances[place : place + 1], level)[0])
    places = np.array([place for group in groups for place in group])
    sizes = np.array([len(group) for group in groups])
    return BandBasis(basis.patterns, basis.courses, places, sizes, np.sqrt(np.maximum(variances[places], 1e-12)))


def fit_codes(samples: np.ndarray, codes: int, draws: np.random.Generator, count: int, rounds: int) -> np.ndarray:
    """Return the codebook of one token, by k-means over windows whose coefficients have random signs.

    The phases of EEG are random, so a coefficient and its negative are equally likely; their sizes belong together,
    because a loud window is loud in all of them. The signs make enough samples for hundreds of codes.

    Parameters
    ----------
    samples : array of shape (windows, coefficients)
        Of training windows.
    codes : int
    draws : numpy Generator
    count : int
        Samples to draw.
    rounds : int
        Rounds of k-means (Lloyd 1982).

    Returns
    -------
    codebook : array of shape (codes, coefficients)
    """
    rows = draws.integers(len(samples), size=max(count, 4 * codes))
    drawn = (samples[rows] * draws.choice([-1.0, 1.0], size=(len(rows), samples.shape[1]))).astype(np.float32)
    book = drawn[draws.choice(len(drawn), codes, replace=False)].copy()
    for _ in range(rounds):
        nearest = _nearest(drawn, book)
        uses = np.bincount(nearest, minlength=codes)
        sums = np.stack([np.bincount(nearest, column, minlength=codes) for column in drawn.T], axis=1)
        book = np.where(uses[:, None] > 0, sums / np.maximum(uses, 1)[:, None], book).astype(np.float32)
        empty = np.flatnonzero(uses == 0)
        book[empty] = drawn[draws.choice(len(drawn), len(empty))]
    return book


def _nearest(samples: np.ndarray, book: np.ndarray) -> np.ndarray:
    half = 0.5 * np.square(book).sum(axis=1)
    return np.concatenate(
        [(half - part @ book.T).argmin(axis=1) for part in np.array_split(samples, 1 + len(samples) // 4096)]
    )
