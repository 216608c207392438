"""Score an ensemble of fine fields against the truth, in physical units.

The problem: say how good realizations of a refined field are, as a probabilistic
forecast and as water. Everything takes ``ensemble`` of shape (M, T, Y, X) and ``truth``
of shape (T, Y, X) in mm h-1. A pixel counts where neither is NaN. A deterministic field
is an ensemble with M = 1. Work runs frame by frame, so that no second ensemble is made.
Events are few: score each and report them apart. How rain looks is scored in
`xstsr.verification.spatial` and `xstsr.verification.spectra`.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from xstsr.conservation.blocks import residual
from xstsr.errors import DataError
from xstsr.typing import Bools, Field, Floats

WET = 0.1  # mm h-1, the threshold of the wet area


def fair_crps(ensemble: Field, truth: Field) -> float:
    r"""Average the fair CRPS, unbiased in the number of realizations.

    .. math:: \frac1M \sum_i |x_i - y| - \frac{1}{2M(M-1)} \sum_{i,j} |x_i - x_j|

    Parameters
    ----------
    ensemble : ndarray, shape (M, T, Y, X)
        Realizations [mm h-1].
    truth : ndarray, shape (T, Y, X)
        Truth [mm h-1].

    Returns
    -------
    float
        Mean over the valid pixels [mm h-1]; the mean absolute error where M is 1.

    Raises
    ------
    DataError
        If the shapes disagree or no pixel is valid.

    References
    ----------
    .. [1] Ferro (2014), Fair scores for ensemble forecasts, Quarterly Journal of the
       Royal Meteorological Society 140.
    """
    m = len(ensemble)
    # Sorted, sum over pairs of |x_i - x_j| is sum of (2 i - M - 1) x_(i), i = 1..M.
    order = 2 * np.arange(1, m + 1) - m - 1
    total, count = 0.0, 0
    for x, y in _valid_frames(ensemble, truth):
        distance = np.abs(x - y).sum() / m
        pairs = (order @ np.sort(x, axis=0)).sum() / (m * max(m - 1, 1))
        total, count = total + distance - pairs, count + y.size
    return float(total / count)


def rmse_of_mean(ensemble: Field, truth: Field) -> float:
    """Take the root mean square error of the ensemble mean.

    Parameters
    ----------
    ensemble : ndarray, shape (M, T, Y, X)
        Realizations [mm h-1].
    truth : ndarray, shape (T, Y, X)
        Truth [mm h-1].

    Returns
    -------
    float
        Error over the valid pixels [mm h-1].

    Raises
    ------
    DataError
        If the shapes disagree or no pixel is valid.
    """
    error, _ = _error_and_variance(ensemble, truth)
    return float(np.sqrt(error))


def spread_skill(ensemble: Field, truth: Field) -> float:
    r"""Compare the spread with the error of the mean: 1 for a reliable ensemble.

    .. math:: \sqrt{\frac{M+1}{M} \overline{\operatorname{var}}} \,\big/\, \mathrm{RMSE}

    Parameters
    ----------
    ensemble : ndarray, shape (M, T, Y, X)
        Realizations [mm h-1].
    truth : ndarray, shape (T, Y, X)
        Truth [mm h-1].

    Returns
    -------
    float
        Ratio [1]; 0 where M is 1, NaN where there is no error.

    Raises
    ------
    DataError
        If the shapes disagree or no pixel is valid.

    References
    ----------
    .. [1] Fortin et al. (2014), Why should ensemble spread match the RMSE of the
       ensemble mean?, Journal of Hydrometeorology 15.
    """
    m = len(ensemble)
    error, variance = _error_and_variance(ensemble, truth)
    return ratio(float(np.sqrt(variance * (m + 1) / m)), float(np.sqrt(error)))


def rank_histogram(ensemble: Field, truth: Field) -> NDArray[np.float64]:
    """Count the ranks of the truth in the ensemble: flat for a reliable one.

    A truth that equals some realizations (dry, mostly) is shared evenly among the ranks
    that it could have.

    Parameters
    ----------
    ensemble : ndarray, shape (M, T, Y, X)
        Realizations [mm h-1].
    truth : ndarray, shape (T, Y, X)
        Truth [mm h-1].

    Returns
    -------
    ndarray, shape (M + 1,)
        Share of the valid pixels in each rank [1]; the sum is 1.

    Raises
    ------
    DataError
        If the shapes disagree or no pixel is valid.
    """
    m = len(ensemble)
    # Steps of the histogram: up at the lowest possible rank, down after the highest.
    steps = np.zeros(m + 2)
    for x, y in _valid_frames(ensemble, truth):
        below, ties = (x < y).sum(axis=0), (x == y).sum(axis=0)
        share = 1 / (ties + 1)
        steps += np.bincount(below, share, m + 2)
        steps -= np.bincount(below + ties + 1, share, m + 2)
    counts = np.cumsum(steps[:-1])
    histogram: NDArray[np.float64] = counts / counts.sum()
    return histogram


def quantile_ratio(ensemble: Field, truth: Field, q: float) -> float:
    """Divide the mean quantile of the realizations by the truth's.

    Parameters
    ----------
    ensemble : ndarray, shape (M, T, Y, X)
        Realizations [mm h-1].
    truth : ndarray, shape (T, Y, X)
        Truth [mm h-1].
    q : float
        Probability, 0 to 1, over all valid pixels, dry ones too.

    Returns
    -------
    float
        Ratio [1]; NaN where the truth's quantile is 0.

    Raises
    ------
    DataError
        If the shapes disagree or no pixel is valid.
    """
    valid = valid_pixels(ensemble, truth)
    quantile = np.mean([np.quantile(x[valid], q) for x in ensemble])
    return ratio(float(quantile), float(np.quantile(truth[valid], q)))


def wet_area_ratio(ensemble: Field, truth: Field, threshold: float = WET) -> float:
    """Divide the wet area of the realizations by the truth's.

    Parameters
    ----------
    ensemble : ndarray, shape (M, T, Y, X)
        Realizations [mm h-1].
    truth : ndarray, shape (T, Y, X)
        Truth [mm h-1].
    threshold : float
        A pixel is wet from this rain rate on [mm h-1].

    Returns
    -------
    float
        Ratio [1]; NaN where the truth is dry.

    Raises
    ------
    DataError
        If the shapes disagree or no pixel is valid.
    """
    wet = [
        ((x >= threshold).sum() / len(x), (y >= threshold).sum())
        for x, y in _valid_frames(ensemble, truth)
    ]
    ours, theirs = np.sum(wet, axis=0)
    return ratio(float(ours), float(theirs))


def largest_residual(
    ensemble: Field,
    coarse: Field,
    factor: Sequence[int],
    weights: Field | None = None,
) -> float:
    """Find the largest relative error of the water in any coarse cell.

    Parameters
    ----------
    ensemble : ndarray, shape (..., T*t, Y*sy, X*sx)
        Fine fields [mm h-1].
    coarse : ndarray, shape (..., T, Y, X)
        Coarse field [mm h-1] that broadcasts against the ensemble's blocks.
    factor : sequence of int, (t, sy, sx)
        Fine pixels per coarse cell in time, y and x.
    weights : ndarray, shape broadcastable to (T*t, Y*sy, X*sx), optional
        Positive weights [1]. Equal if not given.

    Returns
    -------
    float
        ``max |block mean - coarse| / coarse`` [1]; infinite if a dry cell got water.

    Raises
    ------
    FactorError
        If ``ensemble`` is not ``factor`` times ``coarse``.
    """
    error = np.abs(residual(ensemble, coarse, factor, weights))
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(error == 0, 0.0, error / np.abs(coarse.astype(np.float64)))
    return float(np.nanmax(relative, initial=0.0))


def _valid_frames(ensemble: Field, truth: Field) -> Iterator[tuple[Field, Field]]:
    """Yield the valid pixels of each step: realizations (M, N) and truth (N,)."""
    for i, valid in enumerate(valid_pixels(ensemble, truth)):
        x = ensemble[:, i][:, valid].astype(np.float64)
        yield x, truth[i][valid].astype(np.float64)


def _error_and_variance(ensemble: Field, truth: Field) -> tuple[float, float]:
    """Average the squared error of the mean, and the unbiased variance."""
    m = len(ensemble)
    error, variance, count = 0.0, 0.0, 0
    for x, y in _valid_frames(ensemble, truth):
        mean = x.mean(axis=0)
        error += float(((mean - y) ** 2).sum())
        variance += float(((x - mean) ** 2).sum()) / max(m - 1, 1)
        count += y.size
    return error / count, variance / count


def valid_pixels(ensemble: Field, truth: Field) -> Bools:
    """Find the pixels that count: shape (T, Y, X), true where nothing is NaN."""
    if ensemble.ndim != 4 or ensemble.shape[1:] != truth.shape or not len(ensemble):
        raise DataError(
            f"ensemble of shape {ensemble.shape} does not match truth of shape "
            f"{truth.shape}: pass (realization, time, y, x) and (time, y, x)."
        )
    valid: Bools = ~np.isnan(truth)
    for x in ensemble:
        valid &= ~np.isnan(x)
    if not valid.any():
        raise DataError(
            f"no pixel of truth, shape {truth.shape}, is valid in every realization: "
            "pass fields that overlap."
        )
    return valid


def frames(ensemble: Field, truth: Field) -> Iterator[tuple[Floats, Floats, Bools]]:
    """Yield each step: shapes (M, Y, X) and (Y, X), missing pixels 0, and the mask."""
    for i, valid in enumerate(valid_pixels(ensemble, truth)):
        x = np.where(valid, ensemble[:, i], 0.0).astype(np.float64)
        yield x, np.where(valid, truth[i], 0.0).astype(np.float64), valid


def ratio(above: float, below: float) -> float:
    """Divide two numbers (shape ()): NaN where the lower is 0."""
    return above / below if below != 0 else float("nan")
