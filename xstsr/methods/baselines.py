r"""Refine a coarse field without a trained model: nearest, linear and RainFARM.

The problem: give raw fine fields to judge a model against, and to use where there is
none. Nothing here keeps the water of a coarse cell: `xstsr.conserve.conserve` does that
to every raw field alike. Arrays of shape (..., T, Y, X) in mm h-1 become arrays of
shape (..., T*t, Y*sy, X*sx); NaN is missing. Coordinates are not known here.

RainFARM multiplies the coarse rain by ``exp(g)``, where ``g`` is Gaussian noise with
the space-time spectrum :math:`|k|^{-\alpha} |\omega|^{-\beta}`, whose slopes continue
those of the coarse field beyond its grid. In space the filter is exact on the whole
frame; in time it has finite support, and white noise is a function of (seed,
realization, step), so that overlapping time windows agree.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from xstsr.conservation.blocks import checked_factor, refine
from xstsr.errors import DataError
from xstsr.typing import Field
from xstsr.verification.spectra import ring_power

# Coarse steps on either side that a RainFARM frame depends on: the reach of the noise
# in time, and of the estimates of the slopes. Beyond, the coarse field takes over.
RAINFARM_HALO = 2

# Used where the coarse field is too small or too dry to tell: medians of radar rain in
# five events (Finland, Netherlands, Switzerland, USA) at 4-10 km and 5-18 min.
DEFAULT_ALPHA, DEFAULT_BETA = 2.1, 2.0
ALPHA_RANGE, BETA_RANGE = (1.0, 4.5), (1.0, 3.0)
# A spectrum is fitted from so many rings of wavenumber on.
FEWEST_RINGS = 4

# The third word of Philox's counter, so that no other noise shares its stream.
STREAM = 0x5241494E4641524D  # "RAINFARM" in ASCII
WORD = (1 << 64) - 1


def nearest(coarse: Field, factor: Sequence[int]) -> Field:
    """Split every coarse cell uniformly; its block mean is kept as it is.

    Parameters
    ----------
    coarse : ndarray, shape (..., T, Y, X)
        Coarse field, in any unit; NaN is missing.
    factor : sequence of int, (t, sy, sx)
        Fine pixels per coarse cell in time, y and x.

    Returns
    -------
    ndarray, shape (..., T*t, Y*sy, X*sx)
        Block-constant field in the unit and dtype of ``coarse``.

    Raises
    ------
    FactorError
        If ``factor`` is not three whole numbers of 1 or more.
    DataError
        If ``coarse`` has fewer than three axes.
    """
    fine: Field = refine(coarse, factor)
    return fine


def linear(coarse: Field, factor: Sequence[int]) -> Field:
    """Interpolate between the cell centres in time, y and x; the range is kept.

    Beyond the outermost centres values are held. Missing neighbours are left out and
    the weights of the others renormalised; a missing cell stays missing.

    Parameters
    ----------
    coarse : ndarray, shape (..., T, Y, X)
        Coarse field, in any unit; NaN is missing.
    factor : sequence of int, (t, sy, sx)
        Fine pixels per coarse cell in time, y and x.

    Returns
    -------
    ndarray, shape (..., T*t, Y*sy, X*sx)
        Raw fine field in the unit and dtype of ``coarse``, not yet conserving.

    Raises
    ------
    FactorError
        If ``factor`` is not three whole numbers of 1 or more.
    DataError
        If ``coarse`` has fewer than three axes or is not floating-point.
    """
    factor = checked_factor(factor)
    _check_field(coarse)
    missing = np.isnan(coarse)
    if not missing.any():
        return _interpolated(coarse, factor)
    value = _interpolated(np.where(missing, 0, coarse), factor)
    weight = _interpolated((~missing).astype(coarse.dtype), factor)
    # Inside a valid cell its own weight is at least 1/8, so this never divides by zero.
    is_missing = refine(missing, factor)
    np.divide(value, weight, out=value, where=~is_missing)
    value[is_missing] = np.nan
    return value


def rainfarm(
    coarse: Field,
    factor: Sequence[int],
    *,
    seed: int,
    realization: int,
    steps: NDArray[np.int64],
    stream: int = 0,
    turn: int = 0,
    alpha: float | None = None,
    beta: float | None = None,
) -> Field:
    r"""Multiply the coarse rain by exponentiated noise with its spectral slopes.

    .. math:: x = U(c)\,\exp(g - \tfrac12), \qquad
              |\hat g(k, \omega)|^2 \propto |k|^{-\alpha} |\omega|^{-\beta},
              \qquad \operatorname{var} g = 1

    The result at a step depends on the coarse field up to `RAINFARM_HALO` coarse steps
    away: windows with that halo give the values of the whole. Leading axes share the
    white noise.

    Parameters
    ----------
    coarse : ndarray, shape (..., T, Y, X)
        Coarse rain rate [mm h-1] over the whole frame; NaN is missing.
    factor : sequence of int, (t, sy, sx)
        Fine pixels per coarse cell in time, y and x.
    seed, realization : int
        Which noise; equal numbers give equal noise.
    steps : ndarray of int, shape (T*t,)
        One number for each fine step, the same in every window: its start time [us].
    turn : int
        Pixels in x by which the noise is turned: where longitude begins on the globe.
    alpha, beta : float, optional
        Slopes of the power in wavenumber and in frequency. As `slopes` if not given.

    Returns
    -------
    ndarray, shape (..., T*t, Y*sy, X*sx)
        Raw rain rate [mm h-1] in the dtype of ``coarse``, dry where that is dry.

    Raises
    ------
    FactorError
        If ``factor`` is not three whole numbers of 1 or more.
    DataError
        If ``coarse`` is not a floating-point field, or ``steps`` does not fit it.

    References
    ----------
    .. [1] Rebora et al. (2006), RainFARM: Rainfall downscaling by a filtered
       autoregressive model, Journal of Hydrometeorology 7.
    .. [2] D'Onofrio et al. (2014), Stochastic rainfall downscaling of climate models,
       Journal of Hydrometeorology 15.
    """
    factor = checked_factor(factor)
    _check_field(coarse)
    _check_steps(steps, coarse.shape[-3] * factor[0])
    key = (seed & WORD, (realization | stream << 32) & WORD)
    fine: Field = refine(coarse, factor)
    for lead in np.ndindex(coarse.shape[:-3]):
        alphas, betas = slopes(coarse[lead])
        alphas = alphas if alpha is None else np.full_like(alphas, alpha)
        betas = betas if beta is None else np.full_like(betas, beta)
        frames = _noise(fine.shape[-2:], steps, key, factor[0], alphas, betas)
        for frame, g in zip(fine[lead], frames, strict=True):
            frame *= np.exp(np.roll(g, -turn, axis=-1) - 0.5)
    return fine


def slopes(coarse: Field) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Estimate the spatial and temporal spectral slopes around every coarse step.

    The spatial slope is fitted to the radially averaged power spectrum. The temporal
    one comes from the structure function, which needs a few steps only:
    :math:`\langle (c_{i+n} - c_i)^2 \rangle \propto n^{\beta - 1}` for a spectrum
    :math:`\omega^{-\beta}` with :math:`1 < \beta < 3`. Both use the steps up to
    `RAINFARM_HALO` away.

    Parameters
    ----------
    coarse : ndarray, shape (T, Y, X)
        Coarse rain rate [mm h-1]; NaN is missing.

    Returns
    -------
    alpha, beta : ndarray, shape (T,)
        Positive slopes [1], within `ALPHA_RANGE` and `BETA_RANGE`; `DEFAULT_ALPHA` and
        `DEFAULT_BETA` where the field cannot tell.
    """
    field = np.nan_to_num(coarse.astype(np.float64))
    power = np.stack([ring_power(frame) for frame in field])
    alpha = np.full(len(field), DEFAULT_ALPHA)
    beta = np.full(len(field), DEFAULT_BETA)
    one, two = _mean_square_change(field, 1), _mean_square_change(field, 2)
    for i in range(len(field)):
        first, last = max(i - RAINFARM_HALO, 0), i + RAINFARM_HALO
        ring = power[first : last + 1].mean(axis=0)
        if len(ring) >= FEWEST_RINGS and ring.min() > 0:
            k = np.log(np.arange(1, len(ring) + 1))
            alpha[i] = np.clip(-np.polyfit(k, np.log(ring), 1)[0], *ALPHA_RANGE)
        # Changes from step i to i + n lie at index i: keep those inside the reach.
        s1, s2 = one[first:last].sum(), two[first : last - 1].sum()
        n1, n2 = len(one[first:last]), len(two[first : last - 1])
        if n2 > 0 and s1 > 0 and s2 > 0:
            beta[i] = np.clip(1 + np.log2((s2 / n2) / (s1 / n1)), *BETA_RANGE)
    return alpha, beta


def _mean_square_change(field: Field, lag: int) -> NDArray[np.float64]:
    """Average the squared change over ``lag`` steps, shape (T - lag,)."""
    change: NDArray[np.float64] = ((field[lag:] - field[:-lag]) ** 2).mean(axis=(1, 2))
    return change


def _noise(
    shape: tuple[int, ...],
    steps: NDArray[np.int64],
    key: tuple[int, int],
    t: int,
    alphas: NDArray[np.float64],
    betas: NDArray[np.float64],
) -> Iterator[NDArray[np.float32]]:
    """Yield one frame of unit Gaussian noise, shape (H, W), for each fine step."""
    reach = RAINFARM_HALO * t
    white: dict[int, NDArray[np.float32]] = {}
    spatial = np.zeros((0, 0), np.float32)
    for n in range(len(steps)):
        if n % t == 0:
            kernel = _temporal_kernel(betas[n // t], reach)
            spatial = _spatial_filter(shape, alphas[n // t])
        near = range(max(n - reach, 0), min(n + reach + 1, len(steps)))
        white.pop(near.start - 1, None)
        for m in near:
            if m not in white:
                white[m] = _white_frame(key, int(steps[m]), shape)
        # At the ends of the record the kernel is cut, not the variance.
        part = kernel[near.start - n + reach : near.stop - n + reach]
        part = (part / np.linalg.norm(part)).astype(np.float32)
        mixed = np.zeros(shape, np.float32)
        for h, m in zip(part, near, strict=True):
            mixed += h * white[m]
        frame = np.fft.irfft2(np.fft.rfft2(mixed) * spatial, s=shape)
        yield frame.astype(np.float32, copy=False)


def _white_frame(
    key: tuple[int, int], step: int, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Draw white noise that depends on the key and the step alone."""
    counter = np.array([0, 0, STREAM, step & WORD], np.uint64)
    philox = np.random.Philox(key=np.array(key, np.uint64), counter=counter)
    return np.random.Generator(philox).standard_normal(shape, np.float32)


def _spatial_filter(shape: tuple[int, ...], alpha: float) -> NDArray[np.float32]:
    """Amplitudes k^(-alpha/2) for rfft2, of zero mean and unit variance."""
    ny, nx = shape
    k = np.hypot(np.fft.fftfreq(ny)[:, None], np.fft.rfftfreq(nx))
    k[0, 0] = np.inf
    amplitude = k ** (-alpha / 2)
    # rfft2 holds each column once that stands for two, kx and -kx.
    twice = np.full(amplitude.shape[1], 2.0)
    twice[0] = 1
    twice[-1] = 1 if nx % 2 == 0 else twice[-1]
    variance = (amplitude**2 * twice).sum() / (ny * nx)
    filtered: NDArray[np.float64] = amplitude / np.sqrt(variance or 1.0)
    return filtered.astype(np.float32)


def _temporal_kernel(beta: float, reach: int) -> NDArray[np.float64]:
    """Symmetric weights at the lags -reach..reach with the power spectrum f^-beta."""
    size = 2 * reach + 1
    frequency = np.maximum(np.fft.rfftfreq(size), 1 / size)
    return np.fft.fftshift(np.fft.irfft(frequency ** (-beta / 2), size))


def _interpolated(coarse: Field, factor: tuple[int, int, int]) -> Field:
    """Interpolate a field without NaN along its last three axes in turn."""
    fine = coarse
    for axis, n in zip((-3, -2, -1), factor, strict=True):
        cells = coarse.shape[axis]
        # In cells, from the first centre: fine centre (i + 1/2)/n less half a cell.
        position = np.clip((np.arange(cells * n) + 0.5) / n - 0.5, 0, cells - 1)
        below = position.astype(np.intp)
        above = np.minimum(below + 1, cells - 1)
        weight = (position - below).astype(coarse.dtype)
        weight = weight.reshape(-1, *(1,) * (-1 - axis))
        left = np.take(fine, below, axis=axis)
        right = np.take(fine, above, axis=axis)
        right -= left
        right *= weight
        right += left
        fine = right
    return fine


def _check_field(coarse: Field) -> None:
    if coarse.ndim < 3 or not np.issubdtype(coarse.dtype, np.floating):
        raise DataError(
            f"coarse has shape {coarse.shape} and dtype {coarse.dtype}, but a "
            "floating-point (..., time, y, x) is needed: insert axes or convert it."
        )


def _check_steps(steps: NDArray[np.int64], length: int) -> None:
    if steps.shape != (length,) or not np.issubdtype(steps.dtype, np.integer):
        raise DataError(
            f"steps has shape {steps.shape} and dtype {steps.dtype}, but {length} fine "
            "steps need one integer each: pass their start times in microseconds."
        )
