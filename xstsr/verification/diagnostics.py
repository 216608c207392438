"""Curves from which pictures are drawn: exceedance, ranks, spread against error.

A score is one number; these are what it was taken from, on physical axes. Everything
takes fields of shape (T, Y, X), or (M, T, Y, X) for ensembles, NaN where there is
nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from xstsr.errors import DataError
from xstsr.typing import Field, Floats
from xstsr.verification import scores
from xstsr.verification.scores import valid_pixels

PROBABILITIES = np.geomspace(0.5, 1e-4, 40)


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
