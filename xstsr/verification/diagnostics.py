r"""Curves behind the scores: spectra, exceedance, ranks, spread against error.

A score is one number; these are what it was taken from, on physical axes. Everything
takes fields of shape (T, Y, X), or (M, T, Y, X) for ensembles, NaN where there is
nothing. Arrays only. The scores are in `xstsr.verification.scores` and
`xstsr.verification.spatial`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xstsr.errors import DataError
from xstsr.verification import scores
from xstsr.verification.spatial import spatial_power, temporal_power, valid_pixels

__all__ = [
    "PROBABILITIES",
    "Curves",
    "exceedance",
    "rank_histogram",
    "spatial_spectrum",
    "spread_error",
    "temporal_spectrum",
]

Field: TypeAlias = NDArray[np.floating[Any]]
Floats: TypeAlias = NDArray[np.float64]

PROBABILITIES = np.geomspace(0.5, 1e-4, 40)
_HANN = 3 / 8  # mean square of a Hann window


@dataclass(frozen=True, eq=False)
class Curves:
    """What the pictures of an evaluation are drawn from; names are those of methods.

    Parameters
    ----------
    units : str
        Of the fields.
    space, time : mapping of name to pair of ndarray, shape (K,)
        Wavelengths [km] or periods [min], and power; "truth" and "coarse" too.
    limits : tuple of float
        Shortest wavelength [km] and period [min] that the coarse field holds.
    exceedance : mapping of name to ndarray, shape of `PROBABILITIES`
        Values; "truth" too.
    ranks : ndarray, shape (M + 1,)
        Of the method that is judged.
    spread, error : ndarray, shape (N,)
        Likewise, in bins.
    """

    units: str
    space: Mapping[str, tuple[Floats, Floats]]
    time: Mapping[str, tuple[Floats, Floats]]
    limits: tuple[float, float]
    exceedance: Mapping[str, Floats]
    ranks: Floats
    spread: Floats
    error: Floats


def spatial_spectrum(field: Field, spacing: float) -> tuple[Floats, Floats]:
    """Take the radially averaged power spectrum of the frames, Hann-tapered.

    Parameters
    ----------
    field : ndarray, shape (T, Y, X)
        Field; missing pixels count as 0.
    spacing : float
        Of the pixels [km].

    Returns
    -------
    tuple of ndarray, each of shape (min(Y, X) // 2,)
        Wavelengths [km], falling, and power densities [units of the field squared
        km2].

    Examples
    --------
    >>> import numpy as np
    >>> wave = np.sin(2 * np.pi * np.arange(64) / 8) * np.ones((1, 64, 1))
    >>> wavelength, power = spatial_spectrum(wave, spacing=2.0)
    >>> float(wavelength[power.argmax()])
    16.0
    """
    frames, ny, nx = field.shape
    power = spatial_power(field, np.isfinite(field))
    cycles = np.arange(1, power.size + 1)
    density = power * spacing**2 / (frames * ny * nx * _HANN**2)
    return min(ny, nx) * spacing / cycles, density


def temporal_spectrum(field: Field, step: float) -> tuple[Floats, Floats]:
    """Take the mean power spectrum of the series at all pixels, Hann-tapered.

    Parameters
    ----------
    field : ndarray, shape (T, Y, X)
        Field; pixels that are missing at any time do not count.
    step : float
        Of time [min].

    Returns
    -------
    tuple of ndarray, each of shape (T // 2,), empty where T is below 4
        Periods [min], falling, and power densities [units of the field squared, h].
    """
    frames = len(field)
    known = np.isfinite(field)
    power = temporal_power(field, known)
    cycles = np.arange(1, power.size + 1)
    pixels = max(int(known.all(axis=0).sum()), 1)
    return frames * step / cycles, power * step / 60 / (pixels * frames * _HANN)


def exceedance(fields: Field) -> Floats:
    """Find the values that are exceeded with each of `PROBABILITIES`.

    Parameters
    ----------
    fields : ndarray, any shape
        Realizations are pooled.

    Returns
    -------
    ndarray, shape of `PROBABILITIES`
        Values [units of the field]; NaN beyond what the number of pixels can tell.
    """
    values = fields[np.isfinite(fields)]
    if not values.size:
        return np.full(PROBABILITIES.size, np.nan)
    found = np.quantile(values, 1 - PROBABILITIES)
    return np.where(PROBABILITIES * values.size >= 1, found, np.nan)


def rank_histogram(ensemble: Field, truth: Field, threshold: float | None) -> Floats:
    """Count the ranks of the truth where it, or any realization, is wet.

    Where all of them are dry, every rank is as likely as the next, and a field that is
    mostly dry would look reliable whatever the ensemble. The condition treats truth and
    realizations alike, so that a reliable ensemble stays flat.

    Parameters
    ----------
    ensemble : ndarray, shape (M, T, Y, X)
        Realizations.
    truth : ndarray, shape (T, Y, X)
        Truth.
    threshold : float or None
        What counts as wet; None counts everything.

    Returns
    -------
    ndarray, shape (M + 1,)
        Share of the pixels in each rank [1]; NaN where nothing is wet.

    Raises
    ------
    DataError
        If the shapes disagree or no pixel is valid.
    """
    valid = valid_pixels(ensemble, truth)
    if threshold is not None:
        valid &= (truth >= threshold) | (ensemble >= threshold).any(axis=0)
    if not valid.any():
        return np.full(len(ensemble) + 1, np.nan)
    return scores.rank_histogram(ensemble, np.where(valid, truth, np.nan))


def spread_error(
    ensemble: Field, truth: Field, bins: int = 10
) -> tuple[Floats, Floats]:
    r"""Compare spread and error where the spread is small, and where it is large.

    Pixels are sorted by the ensemble's variance into bins of equal numbers.

    Parameters
    ----------
    ensemble : ndarray, shape (M, T, Y, X)
        Realizations, two or more.
    truth : ndarray, shape (T, Y, X)
        Truth.
    bins : int
        Number of bins.

    Returns
    -------
    tuple of ndarray, each of shape (up to bins,)
        Spread, :math:`\sqrt{(M+1)/M\,\overline{\operatorname{var}}}`, and RMSE of the
        mean [units of the field]: equal in every bin for a reliable ensemble.

    Raises
    ------
    DataError
        If the shapes disagree, no pixel is valid, or there is one realization.
    """
    m = len(ensemble)
    if m < 2:
        raise DataError(
            f"cannot take the spread of {m} realization: upscale with realizations=8, "
            "say."
        )
    valid = valid_pixels(ensemble, truth)
    values = ensemble[:, valid].astype(np.float64)
    variance = values.var(axis=0, ddof=1) * (m + 1) / m
    error = (values.mean(axis=0) - truth[valid]) ** 2
    spread = variance > 0
    order = np.argsort(variance[spread])
    parts = [part for part in np.array_split(order, bins) if part.size]
    return (
        np.array([np.sqrt(variance[spread][part].mean()) for part in parts]),
        np.array([np.sqrt(error[spread][part].mean()) for part in parts]),
    )
