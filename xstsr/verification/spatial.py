r"""Judge how rain looks: spectra, persistence, neighbourhoods, similarity of pictures.

The problem: an ensemble can have a good CRPS and look like blobs. Everything takes
``ensemble`` of shape (M, T, Y, X) and ``truth`` of shape (T, Y, X) in mm h-1, and
counts a pixel where neither is NaN. Work runs frame by frame in float64. Probabilities
and amounts are scored in `xstsr.verification.scores`.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from xstsr.errors import DataError

__all__ = [
    "fss",
    "lag1_correlation_error",
    "log_spectral_distance",
    "psnr",
    "ring_power",
    "spatial_power",
    "ssim",
    "temporal_power",
    "temporal_spectral_distance",
]

Field: TypeAlias = NDArray[np.floating[Any]]
Floats: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]

SSIM_WIDTH = 7  # pixels, the uniform form of Wang et al. (2004)


def log_spectral_distance(ensemble: Field, truth: Field) -> float:
    r"""Measure how far the spatial power spectrum is from the truth's.

    .. math:: \sqrt{\operatorname{mean}_k\,(\log_{10} P_x(k) - \log_{10} P_y(k))^2}

    The spectra are averaged over rings of wavenumber, then over steps and realizations.
    Frames are tapered by a Hann window; missing pixels count as dry on both sides.

    Parameters
    ----------
    ensemble : ndarray, shape (M, T, Y, X)
        Realizations [mm h-1].
    truth : ndarray, shape (T, Y, X)
        Truth [mm h-1].

    Returns
    -------
    float
        Distance in decades of power; NaN where a side has no power.

    Raises
    ------
    DataError
        If the shapes disagree or no pixel is valid.
    """
    return _decades(*_mean_power(ensemble, truth, spatial_power))


def temporal_spectral_distance(ensemble: Field, truth: Field) -> float:
    """Measure how far the power spectrum in time is from the truth's.

    As `log_spectral_distance`, with the frequencies of the series at every pixel, less
    its time mean, in place of the rings.

    Parameters
    ----------
    ensemble : ndarray, shape (M, T, Y, X)
        Realizations [mm h-1].
    truth : ndarray, shape (T, Y, X)
        Truth [mm h-1].

    Returns
    -------
    float
        Distance in decades of power; NaN where a side has no power or T is below 4.

    Raises
    ------
    DataError
        If the shapes disagree or no pixel is valid.
    """
    return _decades(*_mean_power(ensemble, truth, temporal_power))


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


def ring_power(frame: Field) -> Floats:
    """Average the power of one frame over rings of equal wavenumber.

    Parameters
    ----------
    frame : ndarray, shape (Y, X)
        Field without NaN, in any unit.

    Returns
    -------
    ndarray, shape (min(Y, X) // 2,)
        Mean power at 1, 2, ... cycles per shorter side, up to Nyquist.
    """
    ny, nx = frame.shape
    side = min(ny, nx)
    power = np.abs(np.fft.fft2(frame)) ** 2
    ky, kx = np.fft.fftfreq(ny) * side, np.fft.fftfreq(nx) * side
    ring = np.rint(np.hypot(ky[:, None], kx)).astype(int).ravel()
    total = np.bincount(ring, power.ravel(), minlength=side // 2 + 1)
    count = np.bincount(ring, minlength=side // 2 + 1)
    mean: Floats = total / np.maximum(count, 1)
    return mean[1 : side // 2 + 1]


def valid_pixels(ensemble: Field, truth: Field) -> Mask:
    """Find the pixels that count: shape (T, Y, X), true where nothing is NaN."""
    if ensemble.ndim != 4 or ensemble.shape[1:] != truth.shape or not len(ensemble):
        raise DataError(
            f"ensemble of shape {ensemble.shape} does not match truth of shape "
            f"{truth.shape}: pass (realization, time, y, x) and (time, y, x)."
        )
    valid: Mask = ~np.isnan(truth)
    for x in ensemble:
        valid &= ~np.isnan(x)
    if not valid.any():
        raise DataError(
            f"no pixel of truth, shape {truth.shape}, is valid in every realization: "
            "pass fields that overlap."
        )
    return valid


def frames(ensemble: Field, truth: Field) -> Iterator[tuple[Floats, Floats, Mask]]:
    """Yield each step: shapes (M, Y, X) and (Y, X), missing pixels 0, and the mask."""
    for i, valid in enumerate(valid_pixels(ensemble, truth)):
        x = np.where(valid, ensemble[:, i], 0.0).astype(np.float64)
        yield x, np.where(valid, truth[i], 0.0).astype(np.float64), valid


def ratio(above: float, below: float) -> float:
    """Divide two numbers (shape ()): NaN where the lower is 0."""
    return above / below if below != 0 else float("nan")


def _mean_power(
    ensemble: Field, truth: Field, power: Callable[[Field, Mask], Floats]
) -> tuple[Floats, Floats]:
    """Take the spectrum of the truth, and the mean spectrum of the realizations."""
    valid = valid_pixels(ensemble, truth)
    ours = sum((power(x, valid) for x in ensemble[1:]), power(ensemble[0], valid))
    return ours / len(ensemble), power(truth, valid)


def spatial_power(field: Field, valid: Mask) -> Floats:
    """Sum the ring power of all Hann-tapered frames.

    Parameters
    ----------
    field : ndarray, shape (T, Y, X)
        Field in any unit.
    valid : ndarray of bool, shape (T, Y, X)
        Where it counts; elsewhere it is taken for dry.

    Returns
    -------
    ndarray, shape (min(Y, X) // 2,)
        Power at 1, 2, ... cycles per shorter side.
    """
    _, ny, nx = field.shape
    # Without the zeros that np.hanning has at its ends.
    taper = np.hanning(ny + 2)[1:-1, None] * np.hanning(nx + 2)[1:-1]
    total = np.zeros(min(ny, nx) // 2)
    for frame, mask in zip(field, valid, strict=True):
        total += ring_power(np.where(mask, frame, 0.0) * taper)
    return total


def temporal_power(field: Field, valid: Mask) -> Floats:
    """Sum the power in time, but for the mean, of the pixels that are always valid.

    Parameters
    ----------
    field : ndarray, shape (T, Y, X)
        Field in any unit.
    valid : ndarray of bool, shape (T, Y, X)
        Where it counts.

    Returns
    -------
    ndarray, shape (T // 2,)
        Power at 1, 2, ... cycles per period; empty where T is below 4.
    """
    steps = len(field)
    taper = np.hanning(steps + 2)[1:-1, None]
    total = np.zeros(steps // 2 + 1)
    always: Mask = np.logical_and.reduce(valid, axis=0)
    for row in range(field.shape[1]):
        series = field[:, row, always[row]].astype(np.float64)
        series -= series.mean(axis=0)
        total += (np.abs(np.fft.rfft(series * taper, axis=0)) ** 2).sum(axis=1)
    return total[1:] if steps >= 4 else total[:0]


def _decades(ours: Floats, theirs: Floats) -> float:
    if ours.size == 0 or min(ours.min(), theirs.min()) <= 0:
        return float("nan")
    return float(np.sqrt(np.mean(np.log10(ours / theirs) ** 2)))


def _lag1_correlation(field: Field, both: Mask) -> float:
    """Correlate each step with the next over the pixels valid in both."""
    sums = np.zeros(6)
    for before, after, mask in zip(field[:-1], field[1:], both, strict=True):
        a, b = before[mask].astype(np.float64), after[mask].astype(np.float64)
        sums += [a.size, a.sum(), b.sum(), a @ a, b @ b, a @ b]
    _, a1, b1, aa, bb, ab = sums / max(sums[0], 1)
    variance = (aa - a1**2) * (bb - b1**2)
    return ratio(ab - a1 * b1, float(np.sqrt(max(variance, 0.0))))


def _box_mean(field: Field | Mask, width: int) -> Floats:
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
