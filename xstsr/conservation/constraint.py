r"""Make a fine field carry exactly the water of a coarse one.

The problem: a fine field ``x`` of any origin has to agree with a coarse field ``c``
such that the weighted mean of every block of ``(t, sy, sx)`` fine pixels is ``c``.

Notation: ``<x>`` is the weighted mean over the valid pixels of a block, ``U`` repeats a
coarse value over its block, and ``f`` is the taper.

- multiplicative, for fields that cannot be negative: ``y = f(x) U(c / <f(x)>)``;
- additive, for states such as temperature: ``y = x + U(c - <x>)``, the projection on
  the null space of the block mean.

Arrays of shape (..., T*t, Y*sy, X*sx) come in and go out, from numpy or from torch. On
numpy the work runs slab by slab in one small buffer; on torch it is one differentiable
expression. Coordinates, units and cell areas are not known here: weights arrive as an
array.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from array_api_compat import array_namespace, is_numpy_array

from xstsr.conservation.blocks import (
    Array,
    block_mean,
    check_pair,
    checked_factor,
    checked_weights,
    norm_rows,
    refine,
    rows,
    slabs,
    spread_rows,
    sum_rows,
)
from xstsr.errors import DataError
from xstsr.typing import Constraint, Factor, Mode

Taper: TypeAlias = Callable[[Array], Array]

MODES = ("cell", "window", "none")
CONSTRAINTS = ("multiplicative", "additive")

# Raw values above this count as this: no sum overflows, and infinity has a place.
CEILING = 1e30
# A block mean at or below this counts as dry: the gain stays finite in float64 for any
# coarse value up to CEILING.
FLOOR = 1e-250


def conserve(
    fine: Array,
    coarse: Array,
    factor: Sequence[int],
    *,
    weights: Array | None = None,
    mode: Mode = "cell",
    constraint: Constraint = "multiplicative",
    taper: Taper | None = None,
    gain_cap: float | None = None,
    threshold: float = 0.0,
) -> Array:
    r"""Adjust ``fine`` so that its weighted block means equal ``coarse``.

    .. math:: y = f(x)\,U(c / \langle f(x) \rangle)
              \qquad\text{or}\qquad y = x + U(c - \langle x \rangle)

    Multiplicative fields have no negative pixel, and none is wet in a dry cell. A block
    whose raw pixels are all dry becomes uniform; one that only the taper or threshold
    would empty keeps its untapered pattern. Where ``c > G m`` for a gain cap ``G`` and
    the mean ``m = <x>`` (``x`` after the taper), ``y = G x + (c - G m) b / <b>`` with
    the bounded weight ``b = x / (x + m)``, zero in dry pixels.

    Parameters
    ----------
    fine : array, shape (..., T*t, Y*sy, X*sx)
        Raw fine field, numpy or torch. Negative values count as dry. NaN pixels stay
        NaN, and the other pixels of their block carry the water.
    coarse : array, shape (..., T, Y, X)
        Means to be met, in the unit of ``fine``: an intensive quantity such as mm h-1.
        Leading axes broadcast against those of ``fine``. NaN makes its block NaN.
    factor : sequence of int, (t, sy, sx)
        Fine pixels per coarse cell in time, y and x.
    weights : array, shape broadcastable to (T*t, Y*sy, X*sx), optional
        Positive weights [1], for example cell area times step length; equal if not
        given.
    mode : {"cell", "window", "none"}
        Meet every coarse cell; only the total over the last three axes (one gain for
        each leading index); or nothing beyond the rules for dry and missing cells.
    constraint : {"multiplicative", "additive"}
        For non-negative fields, or for states.
    taper : callable, optional
        The function ``f``, elementwise on float64 arrays of any shape.
    gain_cap : float, optional
        Largest gain [1]; the remainder goes to the wet pixels.
    threshold : float
        Raw pixels below it count as dry, in the unit of ``fine``. Like ``taper`` and
        ``gain_cap`` it serves the multiplicative constraint only.

    Returns
    -------
    array, shape (..., T*t, Y*sy, X*sx)
        Field of the dtype of ``fine``. In mode "cell" its block means are ``coarse``
        to 1e-6 relative in float32 and 1e-12 in float64 (of the field's magnitude, if
        additive).

    Raises
    ------
    FactorError
        If ``fine`` is not ``factor`` times ``coarse``.
    DataError
        If ``fine`` is not floating-point, ``coarse`` has negative values under the
        multiplicative constraint, or ``weights`` or an option cannot be used.

    Notes
    -----
    On torch the result is differentiable. The gradient grows as ``c / m``: add a small
    floor to the raw field in training. Apply it outside autocast regions.

    References
    ----------
    .. [1] Harder et al. (2023), Hard-constrained deep learning for climate downscaling,
       Journal of Machine Learning Research 24 (MultCL, AddCL).
    """
    factor = checked_factor(factor)
    check_pair(fine, coarse, factor)
    rule = _Rule(mode, constraint, taper, gain_cap, threshold)
    rule.check()
    return _conserve(fine, coarse, factor, checked_weights(weights, fine), rule)


@dataclass(frozen=True)
class _Rule:
    """The options of `conserve`, held together."""

    mode: Mode
    constraint: Constraint
    taper: Taper | None
    gain_cap: float | None
    threshold: float

    @property
    def is_multiplicative(self) -> bool:
        return self.constraint == "multiplicative"

    def check(self) -> None:
        if self.mode not in MODES:
            raise DataError(f"mode {self.mode!r} is unknown: pass one of {MODES}.")
        if self.constraint not in CONSTRAINTS:
            raise DataError(
                f"constraint {self.constraint!r} is unknown: pass one of {CONSTRAINTS}."
            )
        if self.gain_cap is not None and not 0 < self.gain_cap < CEILING:
            raise DataError(
                f"gain_cap {self.gain_cap!r} cannot limit a gain: pass a positive "
                "number, or None for no cap."
            )
        if not 0 <= self.threshold < CEILING:
            raise DataError(
                f"threshold {self.threshold!r} is not a rain rate: pass 0 or more."
            )


def _conserve(
    fine: Array, coarse: Array, factor: Factor, weights: Array | None, rule: _Rule
) -> Array:
    """Set up the problem for `_constrain`: one gain for each block, or one for all."""
    xp = array_namespace(fine)
    coarse = xp.astype(coarse, xp.float64)
    if rule.is_multiplicative:
        _check_not_negative(coarse)
    coarse = xp.broadcast_to(coarse, (*fine.shape[:-3], *coarse.shape[-3:]))
    if rule.mode == "window":
        fine, coarse = _window_problem(fine, coarse, factor, weights, rule)
        factor = (fine.shape[-3], fine.shape[-2], fine.shape[-1])
    if is_numpy_array(fine):
        return _constrain_slabs(fine, coarse, factor, weights, rule)
    y = _constrain(xp.astype(fine, xp.float64), coarse, factor, weights, rule)
    return xp.astype(y, fine.dtype)


def _constrain_slabs(
    fine: Array, coarse: Array, factor: Factor, weights: Array | None, rule: _Rule
) -> Array:
    """Constrain a numpy field slab by slab, through one buffer."""
    out = np.empty(fine.shape, fine.dtype)
    buffer = np.empty(0)
    for cells, pixels in slabs(fine.shape, factor):
        raw = fine[pixels]
        # Fresh temporaries of this size would come from the system each time.
        buffer = buffer if buffer.size >= raw.size else np.empty(raw.size)
        x = buffer[: raw.size].reshape(raw.shape)
        np.copyto(x, raw)
        w = None if weights is None else weights[pixels[-3:]]
        out[pixels] = _constrain(x, coarse[cells], factor, w, rule)
    return out


def _constrain(
    x: Array, coarse: Array, factor: Factor, weights: Array | None, rule: _Rule
) -> Array:
    """Constrain a float64 slab, which numpy overwrites, or a whole torch field."""
    xp = array_namespace(x)
    shape, x = x.shape, rows(x, factor)
    if rule.is_multiplicative:
        x = _clipped(x, 0.0, CEILING)
    w = None if weights is None else rows(weights, factor)
    blocks = _Blocks(factor, w, norm_rows(factor, w))
    # One NaN makes the sum NaN: on numpy this spares complete slabs the mask.
    missing = None
    if _maybe(xp.isnan(xp.sum(x))):
        missing = xp.isnan(x)
        x = _filled(x, missing, 0.0)
        norm = norm_rows(factor, w, ~missing)
        blocks = _Blocks(factor, w, xp.where(norm > 0, norm, 1.0))
    absent = xp.isnan(coarse)
    solve = _multiply if rule.is_multiplicative else _add
    y = solve(x, xp.where(absent, 0.0, coarse), blocks, rule)
    if missing is not None:
        y = _filled(y, missing, xp.nan)
    if _maybe(absent):
        y = _filled(y, blocks.spread(absent), xp.nan)
    return xp.reshape(y, shape)


@dataclass(frozen=True)
class _Blocks:
    """The geometry of a slab in row form: factor, weights, and their sum per block."""

    factor: Factor
    weights: Array | None
    norm: Array

    def mean(self, x: Array) -> Array:
        return sum_rows(x, self.factor, self.weights) / self.norm

    def spread(self, coarse: Array) -> Array:
        return spread_rows(coarse, self.factor)


def _add(x: Array, coarse: Array, blocks: _Blocks, rule: _Rule) -> Array:
    """Shift every block so that its mean is ``coarse`` (AddCL)."""
    if rule.mode == "none":
        return x
    return x + blocks.spread(coarse - blocks.mean(x))


def _multiply(x: Array, coarse: Array, blocks: _Blocks, rule: _Rule) -> Array:
    """Scale every block so that its mean is ``coarse`` (MultCL); spread where dry."""
    xp = array_namespace(x)
    u = _shaped(x, rule)
    if rule.mode == "none":
        return _filled(u, blocks.spread(coarse == 0), 0.0)
    mean = blocks.mean(u)
    if u is not x and _maybe(emptied := ~(mean > FLOOR)):
        u = xp.where(blocks.spread(emptied), x, u)
        mean = blocks.mean(u)
    is_dry = ~(mean > FLOOR)
    gain = xp.where(is_dry, 0.0, coarse / xp.where(is_dry, 1.0, mean))
    if rule.gain_cap is not None and _maybe(gain > rule.gain_cap):
        y = _multiply_capped(u, gain, mean, blocks, rule.gain_cap)
    else:
        y = _scaled(u, blocks.spread(gain))
    if _maybe(is_dry & (coarse > 0)):
        y = y + blocks.spread(xp.where(is_dry, coarse, 0.0))
    return y


def _multiply_capped(
    u: Array, gain: Array, mean: Array, blocks: _Blocks, cap: float
) -> Array:
    """Scale with gains up to ``cap``; add the remainder in proportion to u/(u+m)."""
    xp = array_namespace(u)
    is_over = gain > cap
    bounded = u / (u + blocks.spread(xp.where(is_over, mean, 1.0)))
    share = xp.where(is_over, blocks.mean(bounded), 1.0)
    rest = xp.where(is_over, (gain - cap) * mean / share, 0.0)
    gain = xp.where(is_over, cap, gain)
    return _scaled(u, blocks.spread(gain)) + _scaled(bounded, blocks.spread(rest))


def _shaped(x: Array, rule: _Rule) -> Array:
    """Apply the threshold and the taper to a clipped field; dry stays dry."""
    xp = array_namespace(x)
    if rule.threshold > 0:
        x = xp.where(x < rule.threshold, 0.0, x)
    if rule.taper is not None:
        # Square-root tapers have no gradient at zero, so they never see a zero.
        is_wet = x > 0
        tapered = xp.clip(rule.taper(xp.where(is_wet, x, 1.0)), 0.0, CEILING)
        x = xp.where(is_wet, tapered, 0.0)
    return x


def _window_problem(
    fine: Array, coarse: Array, factor: Factor, weights: Array | None, rule: _Rule
) -> tuple[Array, Array]:
    """Restate mode "window" as one block: raw field, and mean of (..., 1, 1, 1)."""
    xp = array_namespace(fine)
    whole = (fine.shape[-3], fine.shape[-2], fine.shape[-1])
    target = refine(coarse, factor)
    missing = xp.isnan(fine) | xp.isnan(target)
    target = xp.where(missing, xp.nan, target)
    mean = block_mean(target, whole, weights)
    if rule.is_multiplicative:
        raw = xp.where(target == 0, 0.0, xp.clip(fine, 0.0, CEILING))
        is_dry = ~(block_mean(xp.where(missing, xp.nan, raw), whole, weights) > FLOOR)
        # Nothing to scale: fall back on the coarse pattern, which keeps dry cells dry.
        fine = xp.where(is_dry, xp.astype(target, fine.dtype), raw)
    return xp.where(missing, xp.nan, fine), mean


# A slab is our own copy and numpy may overwrite it; torch must keep its graph, and does
# not look at values, which would halt a GPU.


def _maybe(mask: Array) -> bool:
    """Tell whether ``mask`` holds anywhere; on torch, that it may."""
    return bool(mask.any()) if is_numpy_array(mask) else True


def _clipped(x: Array, low: float, high: float) -> Array:
    if is_numpy_array(x):
        return np.clip(x, low, high, out=x)
    return array_namespace(x).clip(x, low, high)


def _filled(x: Array, mask: Array, value: float) -> Array:
    if is_numpy_array(x):
        np.copyto(x, value, where=mask)
        return x
    return array_namespace(x).where(mask, value, x)


def _scaled(x: Array, gain: Array) -> Array:
    return np.multiply(x, gain, out=x) if is_numpy_array(x) else x * gain


def _check_not_negative(coarse: Array) -> None:
    xp = array_namespace(coarse)
    if xp.any(coarse < 0):
        lowest = float(xp.min(xp.where(coarse < 0, coarse, 0.0)))
        raise DataError(
            f"coarse goes down to {lowest:.6g}, but the multiplicative constraint "
            'keeps fields non-negative: clip it, or pass constraint="additive".'
        )
