r"""Score an ensemble of fine fields against the truth, in physical units.

The problem: say how good realizations of a refined field are, as a probabilistic
forecast, as pictures of rain and as water. Everything takes ``ensemble`` of shape
(M, T, Y, X) and ``truth`` of shape (T, Y, X) in mm h-1. A pixel counts where neither is
NaN. A deterministic field is an ensemble with M = 1. Work runs frame by frame, so that
no second ensemble is made. Events are few: score each and report them apart. How rain
looks is scored in `xstsr.verification.spatial`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xstsr.conservation.blocks import residual
from xstsr.verification.spatial import (
    fss,
    lag1_correlation_error,
    log_spectral_distance,
    psnr,
    ratio,
    ssim,
    temporal_spectral_distance,
    valid_pixels,
)

__all__ = [
    "fair_crps",
    "fss",
    "lag1_correlation_error",
    "largest_residual",
    "log_spectral_distance",
    "psnr",
    "quantile_ratio",
    "rank_histogram",
    "rmse_of_mean",
    "score_table",
    "seam_space",
    "seam_time",
    "spread_skill",
    "ssim",
    "temporal_spectral_distance",
    "wet_area_ratio",
]

Field: TypeAlias = NDArray[np.floating[Any]]

WET = 0.1  # mm h-1, the threshold of the wet area
FSS_THRESHOLDS = (1.0, 5.0, 10.0)  # mm h-1


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


def seam_space(ensemble: Field, truth: Field, factor: Sequence[int]) -> float:
    r"""Compare the jump across the edges of coarse cells with that inside them.

    .. math:: \frac{J_{edge} / J_{inside}}{J^{truth}_{edge} / J^{truth}_{inside}}

    where ``J`` is the mean absolute difference of neighbouring pixels, along y and x
    together. The same ratio in the truth takes out what lies at the edges by chance, a
    front for example: 1 is seamless, above 1 the coarse cells show, below 1 their edges
    are smoother than rain is.

    Parameters
    ----------
    ensemble : ndarray, shape (M, T*t, Y*sy, X*sx)
        Realizations [mm h-1].
    truth : ndarray, shape (T*t, Y*sy, X*sx)
        Truth [mm h-1].
    factor : sequence of int, (t, sy, sx)
        Fine pixels per coarse cell in time, y and x.

    Returns
    -------
    float
        Ratio [1]; infinite for uniform cells; NaN where a factor of 1, a single cell or
        a dry truth leaves nothing to compare.

    Raises
    ------
    DataError
        If the shapes disagree or no pixel is valid.
    """
    return _seam(ensemble, truth, {1: factor[1], 2: factor[2]})


def seam_time(ensemble: Field, truth: Field, factor: Sequence[int]) -> float:
    """Compare the jump between coarse steps with that inside them.

    As `seam_space`, for the differences of neighbouring frames.

    Parameters
    ----------
    ensemble : ndarray, shape (M, T*t, Y*sy, X*sx)
        Realizations [mm h-1].
    truth : ndarray, shape (T*t, Y*sy, X*sx)
        Truth [mm h-1].
    factor : sequence of int, (t, sy, sx)
        Fine pixels per coarse cell in time, y and x.

    Returns
    -------
    float
        Ratio [1]; infinite for uniform steps; NaN where a factor of 1, a single step or
        a dry truth leaves nothing to compare.

    Raises
    ------
    DataError
        If the shapes disagree or no pixel is valid.
    """
    return _seam(ensemble, truth, {0: factor[0]})


def score_table(
    ensemble: Field,
    truth: Field,
    coarse: Field,
    factor: Sequence[int],
    weights: Field | None = None,
) -> dict[str, float]:
    """Gather every score of one event.

    Parameters
    ----------
    ensemble : ndarray, shape (M, T*t, Y*sy, X*sx)
        Realizations [mm h-1].
    truth : ndarray, shape (T*t, Y*sy, X*sx)
        Truth [mm h-1].
    coarse : ndarray, shape (T, Y, X)
        The coarse field that was refined [mm h-1].
    factor : sequence of int, (t, sy, sx)
        Fine pixels per coarse cell in time, y and x.
    weights : ndarray, shape broadcastable to (T*t, Y*sy, X*sx), optional
        Weights of the conservation [1]; the scores weigh all pixels equally.

    Returns
    -------
    dict of str to float
        Scores by name. The neighbourhood of the FSS is one coarse cell wide.

    Raises
    ------
    DataError
        If the shapes of ``ensemble`` and ``truth`` disagree or no pixel is valid.
    FactorError
        If ``ensemble`` is not ``factor`` times ``coarse``.

    Examples
    --------
    >>> import numpy as np
    >>> from xstsr.conservation.blocks import block_mean
    >>> draw = np.random.default_rng(0).gamma(0.5, 2.0, (3, 4, 8, 8))
    >>> ensemble, truth = draw[1:], draw[0]
    >>> table = score_table(ensemble, truth, block_mean(truth, (2, 4, 4)), (2, 4, 4))
    >>> table["fair_crps"] < table["rmse"]
    True
    """
    width = int(factor[-1]) | 1
    table = {
        "fair_crps": fair_crps(ensemble, truth),
        "rmse": rmse_of_mean(ensemble, truth),
        "spread_skill": spread_skill(ensemble, truth),
        "log_spectral_distance": log_spectral_distance(ensemble, truth),
        "temporal_spectral_distance": temporal_spectral_distance(ensemble, truth),
    }
    for threshold in FSS_THRESHOLDS:
        table[f"fss_{threshold:g}"] = fss(ensemble, truth, threshold, width)
    return table | {
        "q99_ratio": quantile_ratio(ensemble, truth, 0.99),
        "q99.9_ratio": quantile_ratio(ensemble, truth, 0.999),
        "wet_area_ratio": wet_area_ratio(ensemble, truth),
        "lag1_correlation_error": lag1_correlation_error(ensemble, truth),
        "seam_space": seam_space(ensemble, truth, factor),
        "seam_time": seam_time(ensemble, truth, factor),
        "psnr": psnr(ensemble, truth),
        "ssim": ssim(ensemble, truth),
        "largest_residual": largest_residual(ensemble, coarse, factor, weights),
    }


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


def _seam(ensemble: Field, truth: Field, blocks: Mapping[int, int]) -> float:
    """Compare jumps at the edges of blocks, {axis: length}, with the truth's there."""
    valid = valid_pixels(ensemble, truth)
    ours = _jump_ratio(ensemble, valid, blocks)
    return ratio(ours, _jump_ratio(truth[None], valid, blocks))


def _jump_ratio(
    fields: Field, valid: NDArray[np.bool_], blocks: Mapping[int, int]
) -> float:
    """Divide the mean jump of neighbours at the edges of blocks by that inside them."""
    sums, counts = np.zeros(2), np.zeros(2)
    for axis, length in blocks.items():
        if length == 1:
            continue  # every pair straddles an edge: nothing to compare with
        for last in range(valid.shape[axis] - 1):
            both = valid.take(last, axis) & valid.take(last + 1, axis)
            inside = int((last + 1) % length != 0)
            for x in fields:
                here, there = x.take(last, axis)[both], x.take(last + 1, axis)[both]
                sums[inside] += np.abs(here.astype(np.float64) - there).sum()
                counts[inside] += here.size
    edge, inner = (sums / np.maximum(counts, 1)).tolist()
    if edge > 0 and inner == 0 and counts[1]:
        return float("inf")
    return ratio(edge, inner) if counts[0] else float("nan")
