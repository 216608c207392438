"""Power spectra in space and in time, and how far two of them are apart.

Everything takes fields of shape (T, Y, X), or (M, T, Y, X) for ensembles, NaN where
there is nothing. Work runs frame by frame in float64.
"""

from collections.abc import Callable

import numpy as np

from xstsr.typing import Bools, Field, Floats
from xstsr.verification.scores import valid_pixels

_HANN = 3 / 8  # mean square of a Hann window


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


def _mean_power(
    ensemble: Field, truth: Field, power: Callable[[Field, Bools], Floats]
) -> tuple[Floats, Floats]:
    """Take the spectrum of the truth, and the mean spectrum of the realizations."""
    valid = valid_pixels(ensemble, truth)
    ours = sum((power(x, valid) for x in ensemble[1:]), power(ensemble[0], valid))
    return ours / len(ensemble), power(truth, valid)


def spatial_power(field: Field, valid: Bools) -> Floats:
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


def temporal_power(field: Field, valid: Bools) -> Floats:
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
    always: Bools = np.logical_and.reduce(valid, axis=0)
    for row in range(field.shape[1]):
        series = field[:, row, always[row]].astype(np.float64)
        series -= series.mean(axis=0)
        total += (np.abs(np.fft.rfft(series * taper, axis=0)) ** 2).sum(axis=1)
    return total[1:] if steps >= 4 else total[:0]


def _decades(ours: Floats, theirs: Floats) -> float:
    if ours.size == 0 or min(ours.min(), theirs.min()) <= 0:
        return float("nan")
    return float(np.sqrt(np.mean(np.log10(ours / theirs) ** 2)))


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
