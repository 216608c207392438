"""Judge how rain looks: persistence, neighbourhoods, similarity of pictures, seams.

The problem: an ensemble can have a good CRPS and look like blobs. Everything takes
``ensemble`` of shape (M, T, Y, X) and ``truth`` of shape (T, Y, X) in mm h-1, and
counts a pixel where neither is NaN. Work runs frame by frame in float64.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from xstsr.errors import DataError
from xstsr.typing import Bools, Field, Floats
from xstsr.verification.scores import frames, ratio, valid_pixels

SSIM_WIDTH = 7  # pixels, the uniform form of Wang et al. (2004)


def lag1_correlation_error(ensemble: Field, truth: Field) -> float:
    """Subtract the truth's correlation of neighbouring steps from the realizations'.

    Parameters
    ----------
    ensemble : ndarray, shape (M, T, Y, X)
        Realizations [mm h-1].
    truth : ndarray, shape (T, Y, X)
        Truth [mm h-1].

    Returns
    -------
    float
        Mean over the realizations of the lag-1 correlation over all pixels and steps,
        less the truth's [1]: positive where rain changes too slowly. NaN where T is 1
        or a field is constant.

    Raises
    ------
    DataError
        If the shapes disagree or no pixel is valid.
    """
    valid = valid_pixels(ensemble, truth)
    both = valid[1:] & valid[:-1]
    ours = np.mean([_lag1_correlation(x, both) for x in ensemble])
    return float(ours - _lag1_correlation(truth, both))


def fss(ensemble: Field, truth: Field, threshold: float, width: int) -> float:
    r"""Score where ``threshold`` is exceeded, up to displacements of about ``width``.

    .. math:: 1 - \frac{\sum (p_x - p_y)^2}{\sum p_x^2 + \sum p_y^2}

    with ``p`` the share of the valid pixels in a square neighbourhood that reach the
    threshold. Each realization is a forecast; the sums run over all of them.

    Parameters
    ----------
    ensemble : ndarray, shape (M, T, Y, X)
        Realizations [mm h-1].
    truth : ndarray, shape (T, Y, X)
        Truth [mm h-1].
    threshold : float
        Rain rate [mm h-1].
    width : int
        Odd side of the neighbourhood [pixels].

    Returns
    -------
    float
        Fractions skill score, 0 to 1; NaN where nothing reaches the threshold.

    Raises
    ------
    DataError
        If the shapes disagree, no pixel is valid, or ``width`` is even.

    References
    ----------
    .. [1] Roberts and Lean (2008), Scale-selective verification of rainfall
       accumulations from high-resolution forecasts, Monthly Weather Review 136.
    """
    if width < 1 or width % 2 == 0:
        raise DataError(
            f"width {width!r} has no centre pixel: pass an odd number such as "
            f"{max(width, 0) + 1}."
        )
    error = power = 0.0
    for x, y, valid in frames(ensemble, truth):
        share = np.maximum(_box_mean(valid.astype(np.float64), width), 1e-9)
        p_y = _box_mean((y >= threshold) & valid, width) / share
        for one in x:
            p_x = _box_mean((one >= threshold) & valid, width) / share
            error += float(((p_x - p_y)[valid] ** 2).sum())
            power += float((p_x[valid] ** 2).sum() + (p_y[valid] ** 2).sum())
    return 1 - ratio(error, power)


def psnr(ensemble: Field, truth: Field) -> float:
    """Take the peak signal-to-noise ratio of the ensemble mean.

    Parameters
    ----------
    ensemble : ndarray, shape (M, T, Y, X)
        Realizations [mm h-1].
    truth : ndarray, shape (T, Y, X)
        Truth [mm h-1]; its largest value is the peak.

    Returns
    -------
    float
        Ratio [dB]; infinite for a perfect mean, NaN where the truth is dry.

    Raises
    ------
    DataError
        If the shapes disagree or no pixel is valid.
    """
    peak = float(np.nanmax(truth, initial=0.0))
    total, count = 0.0, 0
    for x, y, valid in frames(ensemble, truth):
        total += float(((x.mean(axis=0) - y)[valid] ** 2).sum())
        count += int(valid.sum())
    if peak == 0:
        return float("nan")
    return float("inf") if total == 0 else float(10 * np.log10(peak**2 * count / total))


def ssim(ensemble: Field, truth: Field) -> float:
    """Take the structural similarity of the ensemble mean, averaged over frames.

    Uniform neighbourhoods of 7 x 7 pixels, sample covariances, constants 0.01 and 0.03
    of the truth's largest value. Missing pixels count as dry on both sides.

    Parameters
    ----------
    ensemble : ndarray, shape (M, T, Y, X)
        Realizations [mm h-1].
    truth : ndarray, shape (T, Y, X)
        Truth [mm h-1].

    Returns
    -------
    float
        Similarity, up to 1; NaN where the truth is dry or a frame is below 7 x 7.

    Raises
    ------
    DataError
        If the shapes disagree or no pixel is valid.

    References
    ----------
    .. [1] Wang et al. (2004), Image quality assessment: from error visibility to
       structural similarity, IEEE Transactions on Image Processing 13.
    """
    peak = float(np.nanmax(truth, initial=0.0))
    total, count = 0.0, 0
    edge = SSIM_WIDTH // 2
    inner = (slice(edge, -edge), slice(edge, -edge))
    for x, y, valid in frames(ensemble, truth):
        similarity = _similarity(x.mean(axis=0), y, peak) if peak > 0 else y
        total += float(similarity[inner][valid[inner]].sum())
        count += int(valid[inner].sum())
    return ratio(total, count if peak > 0 else 0)


def _lag1_correlation(field: Field, both: Bools) -> float:
    """Correlate each step with the next over the pixels valid in both."""
    sums = np.zeros(6)
    for before, after, mask in zip(field[:-1], field[1:], both, strict=True):
        a, b = before[mask].astype(np.float64), after[mask].astype(np.float64)
        sums += [a.size, a.sum(), b.sum(), a @ a, b @ b, a @ b]
    _, a1, b1, aa, bb, ab = sums / max(sums[0], 1)
    variance = (aa - a1**2) * (bb - b1**2)
    return ratio(ab - a1 * b1, float(np.sqrt(max(variance, 0.0))))


def _box_mean(field: Field | Bools, width: int) -> Floats:
    """Average over a square neighbourhood; beyond the edge is 0."""
    mean: Floats = uniform_filter(field.astype(np.float64), width, mode="constant")
    return mean


def _similarity(x: Floats, y: Floats, peak: float) -> Floats:
    """Map the structural similarity of two frames, as Wang et al. (2004), eq. 13."""
    n = SSIM_WIDTH**2
    mean_x, mean_y = _box_mean(x, SSIM_WIDTH), _box_mean(y, SSIM_WIDTH)
    unbiased = n / (n - 1)
    var_x = unbiased * (_box_mean(x * x, SSIM_WIDTH) - mean_x**2)
    var_y = unbiased * (_box_mean(y * y, SSIM_WIDTH) - mean_y**2)
    covariance = unbiased * (_box_mean(x * y, SSIM_WIDTH) - mean_x * mean_y)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    below = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return above / below


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
