"""A fingerprint of values: the same in any chunks, another for any other values."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import dask.array

Array = np.ndarray


def fingerprint(values: "Array | dask.array.Array") -> str:
    """Sum up a scrambled number for each value and its place.

    Not meant to withstand an attack: only to tell data apart. NaN counts as one value,
    whatever its bits, and so does zero of either sign. Lazy data are read once, chunk
    by chunk.

    Parameters
    ----------
    values : numpy or dask array of floats, any shape

    Returns
    -------
    str
        16 hexadecimal digits.

    Examples
    --------
    >>> fingerprint(np.array([1.0, 2.0])) == fingerprint(np.array([2.0, 1.0]))
    False
    """
    if isinstance(values, np.ndarray):
        return f"{_sum(values, (0,) * values.ndim, values.shape):016x}"
    import dask.array

    shape = values.shape

    def part(block: Array, block_info: Any = None) -> Array:
        corner = tuple(start for start, _ in block_info[0]["array-location"])
        total = _sum(block, corner, shape)
        return np.full((1,) * block.ndim, total, np.uint64)

    parts = dask.array.map_blocks(
        part, values, dtype=np.uint64, chunks=tuple((1,) * n for n in values.numblocks)
    )
    return f"{int(np.asarray(parts.compute()).sum(dtype=np.uint64)):016x}"


def _sum(block: Array, corner: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """Sum over one block that lies at `corner` of an array of this shape."""
    strides = np.cumprod([1, *shape[:0:-1]], dtype=np.uint64)[::-1]  # in C order
    total = 0
    row = np.arange(block.shape[-1], dtype=np.uint64)
    # two axes at a time, so that little is held besides the block
    for at in np.ndindex(block.shape[:-2]):
        place = row + np.uint64(corner[-1])
        for axis, i in enumerate(at):
            place = place + np.uint64(corner[axis] + i) * strides[axis]
        if block.ndim > 1:
            rows = np.arange(block.shape[-2], dtype=np.uint64) + np.uint64(corner[-2])
            place = place + (rows * strides[-2])[:, None]
        total += int(_scramble(_bits(block[at]) ^ _scramble(place)).sum())
    return total % 2**64


def _bits(values: Array) -> Array:
    """Take floats for unsigned integers."""
    plain = np.where(np.isnan(values), np.nan, values + 0.0).astype(values.dtype)
    size = values.dtype.itemsize
    return plain.view(f"u{size}").astype(np.uint64)


def _scramble(x: Array) -> Array:
    """Mix 64 bits so that each depends on all (the finalizer of SplitMix64)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = x ^ (x >> np.uint64(31))
    return mixed


def described(edges: Array) -> str:
    """Tell edges apart: by what people see in them, and by all their values.

    Parameters
    ----------
    edges : ndarray, shape (N + 1,)
        Of cells or steps.

    Returns
    -------
    str
        How many cells, both ends, and the fingerprint.
    """
    ends = " to ".join(str(edges[i]) for i in (0, -1))
    digest = fingerprint(edges.astype(np.float64))
    return f"{edges.size - 1} cells, {ends} ({digest})"
