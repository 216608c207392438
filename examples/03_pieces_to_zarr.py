"""Write a result that need not fit in memory, stop half way, and go on.

Every value is a function of its place, so pieces that are computed in another run fit.

Run it from anywhere: python examples/03_pieces_to_zarr.py [FOLDER]
"""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import xarray as xr

import xstsr

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("xstsr-example")
folder.mkdir(parents=True, exist_ok=True)
store = folder / "fine.zarr"

coarse = xstsr.open_demo().rainfall_amount[:30, :45, :35].stsr.coarsen(s=5, t=3)
fine = (
    coarse.chunk(time=4)
    .stsr.upscale(s=5, t=3, method="rainfarm", realizations=4)
    .chunk(time=6)  # the pieces
    .to_dataset(name="rain")
)
fine.to_zarr(store, mode="w", compute=False, consolidated=False)
pieces = list(pairwise(np.cumsum([0, *fine.chunksizes["time"]])))


def write_piece(first: int, last: int) -> None:
    """Compute some steps and write them to their place."""
    piece = fine[["rain"]].isel(time=slice(first, last))
    fixed = [name for name, coord in piece.coords.items() if "time" not in coord.dims]
    piece.drop_vars(fixed).to_zarr(
        store, region={"time": slice(first, last)}, consolidated=False
    )


# a first run writes the last piece alone, a second one all the others
write_piece(*pieces[-1])
for piece in pieces[:-1]:
    write_piece(*piece)

written = xr.open_zarr(store, consolidated=False).rain
assert np.array_equal(written, fine.rain), "pieces differ from the whole"
written[:, :12].stsr.plot.compare(coarse[:4], path=folder / "pieces.png")
print(f"wrote {store} in {len(pieces)} pieces: the same bits as in one")
