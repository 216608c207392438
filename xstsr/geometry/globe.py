r"""How a grid that goes round the globe closes on itself. Integers and arrays only.

East of the last column lies the first one, so tiles take their surroundings, and noise
its values, from there. Beyond a row that ends at a pole lies the same row half-way
round, upside down: the neighbour across the pole::

    row -1, column x   is   row 0, column x + X / 2

Without it, the fields that meet at the pole from all sides would know nothing of each
other. A grid with an odd number of columns has no column exactly opposite; half a cell,
which is nothing that near the pole, is neglected.

Columns of noise are counted from Greenwich, so that -180..180 and 0..360 give the same
field.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xstsr.typing import Floats, Geometry

Ends = tuple[int, int]  # cells before the first and after the last
TOLERANCE = 1e-3  # of a cell: how far edges may be off by rounding


@dataclass(frozen=True)
class Strip:
    """Rows that lie in order on the globe.

    Parameters
    ----------
    first, count : int
        The rows.
    across : bool
        Whether they lie across a pole: upside down, and half-way round.
    """

    first: int
    count: int
    across: bool = False


@dataclass(frozen=True)
class Globe:
    """A grid that closes on itself.

    Parameters
    ----------
    rows, columns : int
        Cells from south to north and around.
    poles : tuple of bool
        Whether a pole lies before the first row, and after the last.
    turn : int
        Columns from Greenwich to the first one, eastwards or as the axis runs.
    opposite : int
        Columns to the meridian half-way round.
    """

    rows: int
    columns: int
    poles: tuple[bool, bool]
    turn: int
    opposite: int

    def strips(self, start: int, stop: int) -> Iterator[Strip]:
        """Give rows from `start` to `stop`, which may lie beyond the poles, in order.

        Examples
        --------
        >>> list(Globe(9, 36, (True, True), 0, 18).strips(7, 11))
        [Strip(first=7, count=2, across=False), Strip(first=7, count=2, across=True)]
        """
        if start < 0:
            yield Strip(-min(stop, 0), min(stop, 0) - start, across=True)
        if start < self.rows and stop > 0:
            low, high = max(start, 0), min(stop, self.rows)
            yield Strip(low, high - low)
        if stop > self.rows:
            low = max(start, self.rows)
            yield Strip(2 * self.rows - stop, stop - low, across=True)

    def runs(self, start: int, stop: int) -> Iterator[Ends]:
        """Give columns as (first, count), each run within the columns of the globe.

        Examples
        --------
        >>> list(Globe(9, 36, (True, True), 0, 18).runs(-2, 3))
        [(34, 2), (0, 3)]
        """
        while start < stop:
            first = start % self.columns
            count = min(stop - start, self.columns - first)
            yield first, count
            start += count

    def refined(self, sy: int, sx: int) -> "Globe":
        """Return the fine grid's globe, for the factors in y and x."""
        return replace(
            self,
            rows=self.rows * sy,
            columns=self.columns * sx,
            turn=self.turn * sx,
            opposite=self.opposite * sx,
        )


def globe_of(y_edges: Floats, x_edges: Floats, geometry: Geometry) -> Globe | None:
    """Find out how a grid closes; None where it does not go round.

    Parameters
    ----------
    y_edges, x_edges : ndarray, shapes (Y + 1,) and (X + 1,)
        Cell edges; degrees on the sphere.
    geometry : {"sphere", "plane"}
        Where the cells lie.

    Examples
    --------
    >>> globe_of(np.linspace(90, -60, 16), np.linspace(-180, 180, 37), "sphere")
    Globe(rows=15, columns=36, poles=(True, False), turn=18, opposite=18)
    """
    width = float(np.min(np.abs(np.diff(x_edges))))
    extent = abs(float(x_edges[-1] - x_edges[0]))
    if geometry == "plane" or abs(extent - 360) > TOLERANCE * width:
        return None
    heights = np.abs(np.diff(y_edges))[[0, -1]]
    before, after = (
        bool(abs(abs(edge) - 90) <= TOLERANCE * height)
        for edge, height in zip(y_edges[[0, -1]], heights, strict=True)
    )
    # the first edge that is not west of Greenwich
    first = int(np.argmin((x_edges[:-1] + TOLERANCE * width) % 360))
    rows, columns = y_edges.size - 1, x_edges.size - 1
    return Globe(rows, columns, (before, after), -first % columns, columns // 2)


def surround(field: Any, globe: Globe, down: Ends, across: Ends) -> Any:
    """Lay the cells beyond its ends around a field.

    Parameters
    ----------
    field : numpy or dask array, shape (..., Y, X)
        On the whole globe.
    globe : Globe
        How it closes.
    down, across : tuple of int
        Cells wanted before the first and after the last, in y and in x; beyond a row
        that ends at no pole there are none.

    Returns
    -------
    array, shape (..., Y + sum(down), X + sum(across))
        Lazy if the field is.
    """
    parts = []
    for strip in globe.strips(-down[0], globe.rows + down[1]):
        rows = field[..., strip.first : strip.first + strip.count, :]
        shift = globe.opposite if strip.across else 0
        rows = rows[..., ::-1, :] if strip.across else rows
        runs = globe.runs(shift - across[0], shift + globe.columns + across[1])
        parts.append(np.concatenate([rows[..., a : a + n] for a, n in runs], axis=-1))
    return np.concatenate(parts, axis=-2)
