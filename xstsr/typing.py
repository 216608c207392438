"""The types that the signatures of several folders share."""

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import dask.array

Array: TypeAlias = NDArray[Any]
Chunked: TypeAlias = "Array | dask.array.Array"  # in memory, or lazy
Field: TypeAlias = NDArray[np.floating[Any]]
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]
Micros: TypeAlias = NDArray[np.int64]  # microseconds since 1970-01-01

Space: TypeAlias = int | tuple[int, int]  # a factor in space: of both axes, or (y, x)
Factor: TypeAlias = tuple[int, int, int]  # (t, sy, sx)

Kind: TypeAlias = Literal["rate", "amount", "state"]  # of quantity
Label: TypeAlias = Literal["left", "mid", "right"]  # which part of a step a label is
Geometry: TypeAlias = Literal["sphere", "plane"]
Constraint: TypeAlias = Literal["multiplicative", "additive"]
Mode: TypeAlias = Literal["cell", "window", "none"]  # what is conserved
