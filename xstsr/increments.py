"""Sums that grow from restart to restart, and what they grew by: as arrays.

Packed files hold each field to some digits of its own greatest value, so that a sum can
fall by a little. The greatest value so far repairs that and keeps the total to that
little; cutting each step at zero would add it again in each step.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xstsr.cf.times import DAY
from xstsr.errors import CFError, DataError

Array = NDArray[Any]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Micros = NDArray[np.int64]

_PACKING = 2.0**-12  # of the greatest value: 16 bits are off by 2**-15 at most


@dataclass(frozen=True)
class Jitter:
    """How far sums may fall by rounding."""

    given: float | None = None
    """In the units of the sums; None finds it from the values."""
    least: float = 0.0
    """Where it is found, the least that is allowed for."""

    def allowed(self, greatest: Floats) -> Floats:
        """Return how far sums may fall whose greatest value is this."""
        found = np.maximum(_PACKING * greatest, self.least)
        return found if self.given is None else np.full_like(found, self.given)


def increments(
    sums: Array, *, from_zero: bool, jitter: Jitter | None
) -> tuple[Array, float]:
    """Return what sums between two restarts grew by in each step.

    Parameters
    ----------
    sums : ndarray, shape (T, ...)
        At the end of each step; NaN is missing.
    from_zero : bool
        Whether the first step began with the restart; else its increment is unknown and
        left out.
    jitter : Jitter or None
        None lets sums fall, and repairs nothing.

    Returns
    -------
    tuple of ndarray (shape (T, ...) or (T - 1, ...)) and float
        Increments in the dtype of ``sums``, missing where one of both sums is; and how
        far sums fell that were repaired.

    Raises
    ------
    DataError
        Sums fall by more than jitter.

    Examples
    --------
    >>> increments(np.array([1.0, 3.0, 2.99, 4.0]), from_zero=True, jitter=Jitter(0.1))
    (array([1., 2., 0., 1.]), 0.01)
    """
    values = sums.astype(np.float64)
    if from_zero:
        values = np.concatenate([np.zeros_like(values[:1]), values])
    missing, fell = np.isnan(values), 0.0
    if jitter is not None:
        so_far = np.fmax.accumulate(values, axis=0)
        falls = _greatest(so_far - values)
        fell = float(falls.max(initial=0.0))
        allowed = float(
            jitter.allowed(_greatest(values).max(initial=0.0, keepdims=True))[0]
        )
        if fell > allowed:
            raise _falling(fell, int(np.argmax(falls)) - from_zero, allowed)
        values = so_far
    grown = np.diff(values, axis=0)
    grown[missing[1:] | missing[:-1]] = np.nan
    return grown.astype(sums.dtype), fell


def find_restarts(
    sums: Array, labels: Micros, jitter: Jitter
) -> tuple[Bools, int | None]:
    """Find where accumulation began anew, from where sums fall.

    Falls tell some restarts; those between them where it was dry follow, because
    restarts come at one interval: each day, if all found are whole days apart.

    Parameters
    ----------
    sums : ndarray, shape (T, ...)
        At the end of each step.
    labels : ndarray, shape (T,), int64
        Ends of the steps in microseconds.
    jitter : Jitter
        What is no restart.

    Returns
    -------
    tuple of ndarray of bool (shape (T,)) and int or None
        Whether a step began with a restart, and the interval in microseconds if it is
        known.

    Raises
    ------
    DataError
        Sums fall so often that they are none.
    """
    falls = _greatest((sums[:-1] - sums[1:]).astype(np.float64))
    found = np.flatnonzero(falls > jitter.allowed(_greatest(sums[:-1])))
    begins = np.zeros(labels.size, bool)
    begins[found + 1] = True
    if found.size < 2:
        return begins, None
    restarts = labels[found]
    step = int(np.median(np.diff(labels)))
    every = int(np.gcd.reduce(np.diff(restarts)))
    every = DAY if every % DAY == 0 else every
    if every <= step:
        raise DataError(
            f"cannot find when accumulation began anew: values fall after "
            f"{found.size} of {labels.size} times, at no regular interval. They are "
            "amounts of each step already, which need nothing of this (as ERA5's "
            'hourly "tp"); or pass resets=, such as resets="24 hours".'
        )
    starts = np.concatenate([[2 * labels[0] - labels[1]], labels[:-1]])
    return (starts - restarts[0]) % every == 0, every


def restarts_every(labels: Micros, every: int, name: str) -> tuple[Bools, int]:
    """Tell which steps begin with a restart, for restarts at one interval.

    Parameters
    ----------
    labels : ndarray, shape (T,), int64
        Ends of the steps in microseconds.
    every : int
        Interval in microseconds, counted from midnight.
    name : str
        Name of the time axis, for messages.

    Returns
    -------
    tuple of ndarray of bool (shape (T,)) and int
        Whether a step began with a restart, and when the first step began if so.

    Raises
    ------
    CFError
        A restart falls between two times.
    """
    last = (labels - 1) // every * every
    inside = np.flatnonzero(last[1:] > labels[:-1])
    if inside.size:
        raise _between(name, int(inside[0]), labels)
    step = labels[1] - labels[0] if labels.size > 1 else labels[0] - last[0]
    begins = np.concatenate([[labels[0] - last[0] <= step], last[1:] == labels[:-1]])
    return begins, int(last[0])


def restarts_at(labels: Micros, times: Micros, name: str) -> tuple[Bools, int]:
    """Tell which steps begin with a restart, for restarts at given times.

    Parameters
    ----------
    labels : ndarray, shape (T,), int64
        Ends of the steps in microseconds.
    times : ndarray, shape (N,), int64
        Restarts.
    name : str
        Name of the time axis, for messages.

    Returns
    -------
    tuple of ndarray of bool (shape (T,)) and int
        Whether a step began with a restart, and when the first step began if so.

    Raises
    ------
    CFError
        A restart falls between two times.
    """
    inside = times[(times > labels[0]) & (times < labels[-1]) & ~np.isin(times, labels)]
    if inside.size:
        raise _between(name, int(np.searchsorted(labels, inside[0])) - 1, labels)
    before = times[times < labels[0]]
    first = int(before.max()) if before.size else int(labels[0])
    begins = np.concatenate([[bool(before.size)], np.isin(labels[:-1], times)])
    return begins, first


def _greatest(values: Array) -> Floats:
    """Return the greatest known value of each step, shape (T,); 0 at least."""
    others = tuple(range(1, values.ndim))
    greatest: Floats = np.fmax.reduce(values, axis=others, initial=0.0)
    return greatest.astype(np.float64)


def _falling(fell: float, step: int, allowed: float) -> DataError:
    return DataError(
        f"cannot turn sums into amounts: they fall by {fell:.3g} before step {step} "
        f"after a restart, and rounding explains {allowed:.3g}. If accumulation begins "
        'anew there pass resets=, such as resets="24 hours"; if the file is packed '
        f"more coarsely pass jitter={1.01 * fell:.3g}; if amounts may be negative, as "
        "of heat, pass signed=True."
    )


def _between(name: str, step: int, labels: Micros) -> CFError:
    ends = [
        np.datetime64(int(t), "us").astype("datetime64[s]")
        for t in labels[step : step + 2]
    ]
    return CFError(
        f"cannot use resets=: accumulation would begin anew between two times of "
        f"{name!r}, {ends[0]} and {ends[1]}. Pass the interval that the data have, "
        'such as resets="24 hours", or restarts at times of the axis.'
    )
