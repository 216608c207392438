"""Blocks of (t, sy, sx) fine pixels: repeat, sum and average them.

The problem: reduce a large fine field block by block, by weight and around missing
pixels, in float64 and without a second field in memory. Arrays of shape
(..., T*t, Y*sy, X*sx), from numpy or from torch, come in; coarse ones (..., T, Y, X) go
out, and back. On numpy the work runs in slabs that stay in the cache; on torch each
function is one differentiable expression. What is done with the blocks stands in
`xstsr.conservation.constraint`.
"""

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from array_api_compat import array_namespace, device, is_numpy_array

from xstsr.errors import DataError, FactorError
from xstsr.typing import Factor

if TYPE_CHECKING:
    import dask.array


Array: TypeAlias = Any  # a numpy array or a torch tensor: no static type covers both


# Pixels worked on at a time: half a MiB in float64, to stay in a core's private cache.
SLAB = 1 << 16


def refine(coarse: Array, factor: Sequence[int]) -> Array:
    """Repeat every coarse value over its block; block means equal ``coarse``.

    Parameters
    ----------
    coarse : array, shape (..., T, Y, X)
        Coarse field, numpy or torch, in any unit.
    factor : sequence of int, (t, sy, sx)
        Fine pixels per coarse cell in time, y and x.

    Returns
    -------
    array, shape (..., T*t, Y*sy, X*sx)
        Fine field of the dtype of ``coarse``.

    Raises
    ------
    FactorError
        If ``factor`` is not three whole numbers of 1 or more.
    DataError
        If ``coarse`` has fewer than three axes.
    """
    t, sy, sx = checked_factor(factor)
    check_axes(coarse, "coarse")
    xp = array_namespace(coarse)
    *lead, nt, ny, nx = coarse.shape
    blocks = xp.reshape(coarse, (*lead, nt, 1, ny, 1, nx, 1))
    blocks = xp.broadcast_to(blocks, (*lead, nt, t, ny, sy, nx, sx))
    fine = xp.reshape(blocks, (*lead, nt * t, ny * sy, nx * sx))
    # Where nothing was repeated numpy hands out a read-only view of ``coarse``.
    return fine.copy() if is_numpy_array(fine) and not fine.flags.writeable else fine


def block_sum(
    fine: Array, factor: Sequence[int], weights: Array | None = None
) -> Array:
    """Sum the valid pixels of every block, each times its weight.

    Parameters
    ----------
    fine : array, shape (..., T*t, Y*sy, X*sx)
        Fine field, numpy or torch. NaN marks missing pixels, which add nothing.
    factor : sequence of int, (t, sy, sx)
        Fine pixels per coarse cell in time, y and x.
    weights : array, shape broadcastable to (T*t, Y*sy, X*sx), optional
        Positive weights [1], for example cell area times step length; equal if not
        given.

    Returns
    -------
    array, shape (..., T, Y, X)
        Sums in float64; NaN where no pixel of the block is valid.

    Raises
    ------
    FactorError
        If ``factor`` is malformed or does not divide the last three axes.
    DataError
        If ``fine`` is not floating-point or ``weights`` do not fit or are not positive.
    """
    return _by_slabs(fine, factor, weights, is_mean=False)


def block_mean(
    fine: Array, factor: Sequence[int], weights: Array | None = None
) -> Array:
    """Average the valid pixels of every block by weight, the inverse of `refine`.

    Parameters
    ----------
    fine : array, shape (..., T*t, Y*sy, X*sx)
        Fine field, numpy or torch. NaN marks missing pixels, which are left out.
    factor : sequence of int, (t, sy, sx)
        Fine pixels per coarse cell in time, y and x.
    weights : array, shape broadcastable to (T*t, Y*sy, X*sx), optional
        Positive weights [1], for example cell area times step length; equal if not
        given.

    Returns
    -------
    array, shape (..., T, Y, X)
        Means in float64, in the unit of ``fine``; NaN where no pixel is valid.

    Raises
    ------
    FactorError
        If ``factor`` is malformed or does not divide the last three axes.
    DataError
        If ``fine`` is not floating-point or ``weights`` do not fit or are not positive.
    """
    return _by_slabs(fine, factor, weights, is_mean=True)


def residual(
    fine: Array, coarse: Array, factor: Sequence[int], weights: Array | None = None
) -> Array:
    """Subtract ``coarse`` from the block means of ``fine``: zero where water is kept.

    Parameters
    ----------
    fine : array, shape (..., T*t, Y*sy, X*sx)
        Fine field, numpy or torch, in the unit of ``coarse``.
    coarse : array, shape (..., T, Y, X)
        Coarse field; leading axes broadcast against those of ``fine``.
    factor : sequence of int, (t, sy, sx)
        Fine pixels per coarse cell in time, y and x.
    weights : array, shape broadcastable to (T*t, Y*sy, X*sx), optional
        Positive weights [1]. Equal if not given.

    Returns
    -------
    array, shape (..., T, Y, X)
        Residual in float64, in the unit of ``fine``; NaN where either side is missing.

    Raises
    ------
    FactorError
        If ``fine`` is not ``factor`` times ``coarse``.
    DataError
        As for `block_mean`.
    """
    factor = checked_factor(factor)
    check_pair(fine, coarse, factor)
    xp = array_namespace(fine)
    return block_mean(fine, factor, weights) - xp.astype(coarse, xp.float64)


def _by_slabs(
    fine: Array, factor: Sequence[int], weights: Array | None, *, is_mean: bool
) -> Array:
    """Reduce every block to its sum or mean, NaN where nothing is valid."""
    factor = checked_factor(factor)
    shape = coarse_shape(fine, factor)
    weights = checked_weights(weights, fine)
    if not is_numpy_array(fine):
        return _reduce(fine, factor, weights, is_mean)
    out = np.empty(shape, np.float64)
    for cells, pixels in slabs(fine.shape, factor):
        w = None if weights is None else weights[pixels[-3:]]
        out[cells] = _reduce(fine[pixels], factor, w, is_mean)
    return out


def _reduce(fine: Array, factor: Factor, weights: Array | None, is_mean: bool) -> Array:
    """Sum or average the blocks of one slab in float64."""
    xp = array_namespace(fine)
    x = rows(fine, factor)
    w = None if weights is None else rows(weights, factor)
    total, norm = sum_rows(x, factor, w), norm_rows(factor, w)
    # One NaN makes its sum NaN: on numpy this spares complete slabs the mask.
    if not is_numpy_array(x) or np.isnan(total).any():
        missing = xp.isnan(x)
        total = sum_rows(xp.where(missing, 0.0, x), factor, w)
        norm = norm_rows(factor, w, ~missing)
        total = xp.where(norm > 0, total, xp.nan)
        norm = xp.where(norm > 0, norm, 1.0)
    return total / norm if is_mean else total


# Row form: (..., T, t, Y, sy, X*sx). The last axis stays whole, since numpy's inner
# loops over only sx values would cost more than the arithmetic.


def rows(fine: Array, factor: Factor) -> Array:
    """Bring a fine field of shape (..., T*t, Y*sy, X*sx) into row form."""
    t, sy, _ = factor
    *lead, nt, ny, nx = fine.shape
    shape = (*lead, nt // t, t, ny // sy, sy, nx)
    return array_namespace(fine).reshape(fine, shape)


def sum_rows(x: Array, factor: Factor, weights: Array | None = None) -> Array:
    """Sum row form, by weight, to shape (..., T, Y, X) in float64."""
    xp = array_namespace(x)
    if weights is None:
        part = xp.sum(x, axis=(-4, -2), dtype=xp.float64)
    elif is_numpy_array(x):
        # Without a field-sized product, unlike sum(x * weights).
        part = np.einsum("...tjyix,tjyix->...tyx", x, weights, dtype=np.float64)
    else:
        part = xp.sum(x * weights, axis=(-4, -2), dtype=xp.float64)
    shape = (*part.shape[:-1], part.shape[-1] // factor[2], factor[2])
    return xp.sum(xp.reshape(part, shape), axis=-1)


def norm_rows(
    factor: Factor, weights: Array | None, valid: Array | None = None
) -> Array:
    """Sum the weights of the valid pixels: a number, or shape (..., T, Y, X)."""
    if valid is not None:
        return sum_rows(valid, factor, weights)
    return prod(factor) if weights is None else sum_rows(weights, factor)


def spread_rows(coarse: Array, factor: Factor) -> Array:
    """Repeat shape (..., T, Y, X) along x, to broadcast against row form."""
    long = refine(coarse, (1, 1, factor[2]))
    *lead, nt, ny, nx = long.shape
    return array_namespace(long).reshape(long, (*lead, nt, 1, ny, 1, nx))


def slabs(
    shape: Sequence[int], factor: Factor
) -> Iterator[tuple[tuple[int | slice, ...], tuple[int | slice, ...]]]:
    """Cut a fine shape into slabs of SLAB pixels: (index of cells, index of pixels)."""
    t, sy, sx = factor
    *lead, nt, ny, nx = shape
    steps = max(1, SLAB // max(t * ny * nx, 1))
    rows = max(1, SLAB // max(t * sy * nx, 1)) if steps == 1 else max(ny // sy, 1)
    for at in np.ndindex(*lead):
        for i in range(0, nt // t, steps):
            for j in range(0, ny // sy, rows):
                i1, j1 = min(i + steps, nt // t), min(j + rows, ny // sy)
                yield (
                    (*at, slice(i, i1), slice(j, j1), slice(0, nx // sx)),
                    (*at, slice(i * t, i1 * t), slice(j * sy, j1 * sy), slice(0, nx)),
                )


def checked_factor(factor: Sequence[int]) -> Factor:
    """Return ``factor`` as three ints for arrays of shape (..., time, y, x)."""
    values: tuple[object, ...] = tuple(factor)
    is_whole = all(
        isinstance(n, int | np.integer) and not isinstance(n, bool) and n >= 1
        for n in values
    )
    if len(values) != 3 or not is_whole:
        raise FactorError(
            f"factor {values!r} is not (t, sy, sx), three whole numbers of 1 or more: "
            "pass for example (3, 10, 10)."
        )
    t, sy, sx = (int(n) for n in factor)
    return t, sy, sx


def check_axes(array: Array, name: str) -> None:
    """Refuse an array that lacks the shape (..., time, y, x)."""
    if array.ndim < 3:
        raise DataError(
            f"{name} has shape {tuple(array.shape)}, but (..., time, y, x) is needed: "
            f"insert axes of length 1."
        )


def coarse_shape(fine: Array, factor: Factor) -> tuple[int, ...]:
    """Check the axes and the type of ``fine``; return the shape of its block means."""
    check_axes(fine, "fine")
    if not array_namespace(fine).isdtype(fine.dtype, "real floating"):
        raise DataError(
            f"fine has dtype {fine.dtype}, but missing pixels need a float: convert it "
            "to float32 or float64 first."
        )
    sizes = tuple(fine.shape[-3:])
    if any(size % n for size, n in zip(sizes, factor, strict=True)):
        raise FactorError(
            f"factor {factor} does not divide the fine shape {sizes} of (time, y, x): "
            "trim the field to whole blocks."
        )
    cells = (size // n for size, n in zip(sizes, factor, strict=True))
    return (*fine.shape[:-3], *cells)


def check_pair(fine: Array, coarse: Array, factor: Factor) -> None:
    """Refuse a ``fine`` whose shape is not ``factor`` times that of ``coarse``."""
    check_axes(coarse, "coarse")
    expected = coarse_shape(fine, factor)
    try:
        is_pair = (
            tuple(coarse.shape[-3:]) == expected[-3:]
            and np.broadcast_shapes(tuple(coarse.shape), expected) == expected
        )
    except ValueError:
        is_pair = False
    if not is_pair:
        raise FactorError(
            f"fine of shape {tuple(fine.shape)} is not {factor} times coarse of shape "
            f"{tuple(coarse.shape)}: coarse must broadcast to {expected}."
        )


def checked_weights(weights: Array | None, fine: Array) -> Array | None:
    """Return ``weights`` in float64 in the shape (time, y, x) of ``fine``."""
    if weights is None:
        return None
    xp = array_namespace(fine)
    values = xp.asarray(weights, dtype=xp.float64, device=device(fine))
    if not xp.all((values > 0) & xp.isfinite(values)):
        raise DataError(
            f"weights go down to {float(xp.min(values)):.6g}, but every pixel needs a "
            "positive finite one: pass cell areas times step lengths."
        )
    shape = tuple(fine.shape[-3:])
    try:
        values = xp.broadcast_to(values, shape)
    except (ValueError, RuntimeError):
        raise DataError(
            f"weights of shape {tuple(values.shape)} do not broadcast to the fine "
            f"shape {shape} of (time, y, x): pass for example (y, x) cell areas."
        ) from None
    return values


def map_blocks(
    average: Callable[[Array, Sequence[slice]], Array],
    fine: "Array | dask.array.Array",
    factor: tuple[int, int, int],
) -> "Array | dask.array.Array":
    """Reduce blocks of a field in memory or in chunks.

    Parameters
    ----------
    average : callable
        Takes a piece, shape (..., n t, m sy, k sx), and the slices where it lies.
    fine : array, shape (..., T t, Y sy, X sx)
        numpy or dask; chunks are merged until each holds whole blocks.
    factor : tuple of int
        (t, sy, sx).

    Returns
    -------
    array, shape (..., T, Y, X), of the dtype of `fine`
    """
    if isinstance(fine, np.ndarray):
        whole = [slice(0, n) for n in fine.shape[-3:]]
        return average(fine, whole).astype(fine.dtype)
    import dask.array

    aligned, coarse = _aligned(fine, factor)

    def piece(block: Array, block_info: Any = None) -> Array:
        place = block_info[0]["array-location"][-3:]
        return average(block, [slice(*p) for p in place]).astype(block.dtype)

    means: dask.array.Array = dask.array.map_blocks(
        piece, aligned, dtype=fine.dtype, chunks=(*fine.chunks[:-3], *coarse)
    )
    return means


def map_pairs(
    rule: Callable[[Array, Array, Sequence[slice]], Array],
    fine: "Array | dask.array.Array",
    coarse: "Array | dask.array.Array",
    factor: tuple[int, int, int],
) -> "Array | dask.array.Array":
    """Apply a rule to the blocks of a fine field and the cells of a coarse one.

    Parameters
    ----------
    rule : callable
        Takes a fine piece, shape (..., n t, m sy, k sx), its coarse cells, shape
        (n, m, k), and the slices where the fine piece lies.
    fine : array, shape (..., T t, Y sy, X sx)
        numpy or dask.
    coarse : array, shape (T, Y, X)
        numpy or dask.
    factor : tuple of int
        (t, sy, sx).

    Returns
    -------
    array, of the shape and dtype of `fine`; lazy if one of both is
    """
    if isinstance(fine, np.ndarray) and isinstance(coarse, np.ndarray):
        whole = [slice(0, n) for n in fine.shape[-3:]]
        return rule(fine, coarse, whole).astype(fine.dtype)
    import dask.array

    aligned, chunks = _aligned(dask.array.asanyarray(fine), factor)

    def piece(block: Array, cells: Array, block_info: Any = None) -> Array:
        place = block_info[0]["array-location"][-3:]
        return rule(block, cells, [slice(*p) for p in place]).astype(block.dtype)

    matched = dask.array.asanyarray(coarse).rechunk(tuple(chunks))
    made: dask.array.Array = dask.array.map_blocks(
        piece, aligned, matched, dtype=fine.dtype, chunks=aligned.chunks
    )
    return made


def _aligned(
    fine: "dask.array.Array", factor: tuple[int, int, int]
) -> "tuple[dask.array.Array, list[tuple[int, ...]]]":
    """Rechunk to whole blocks; also the chunks of the coarse field."""
    chunks = [
        _whole_blocks(c, f) for c, f in zip(fine.chunks[-3:], factor, strict=True)
    ]
    coarse = [tuple(n // f for n in c) for c, f in zip(chunks, factor, strict=True)]
    return fine.rechunk((*fine.chunks[:-3], *chunks)), coarse


def _whole_blocks(chunks: tuple[int, ...], factor: int) -> tuple[int, ...]:
    """Keep chunks that hold whole blocks; else cut equal ones, the last shorter.

    Examples
    --------
    >>> _whole_blocks((2, 6, 4), 2), _whole_blocks((4, 4, 4), 3)
    ((2, 6, 4), (3, 3, 3, 3))
    """
    if not any(n % factor for n in chunks):
        return chunks
    length = max(max(chunks) // factor, 1) * factor
    whole, rest = divmod(sum(chunks), length)
    return (length,) * whole + ((rest,) if rest else ())
