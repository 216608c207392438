"""Write a result that need not fit in memory, stop half way, go on, and add to it.

Windows go to the store as they are drawn. A run that was stopped, or killed, goes on
with ``resume=True`` and ends with the same bytes.

Run it from anywhere: python examples/03_stop_and_resume.py [FOLDER]
"""

import sys
from pathlib import Path

import numpy as np
import xarray as xr

import xstsr

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("xstsr-example")
folder.mkdir(parents=True, exist_ok=True)
store = folder / "fine.zarr"

# a long record: the demo's rain, again and again
event = xstsr.open_demo().rainfall_amount[:30, :45, :35].stsr.coarsen(s=5, t=3)
start, following = event.time.values[:2]
steps = start + (following - start) * np.arange(120)
time = xr.Variable("time", steps, event.time.attrs)
coarse = xr.concat([event] * 12, "time").assign_coords(time=time).chunk(time=24)
call = {"s": 5, "t": 3, "method": "rainfarm", "seed": 7}


def stop_half_way(done: int, total: int) -> None:
    """Stand for Ctrl-C, a power cut or a full disk."""
    if done >= total / 2:
        raise KeyboardInterrupt


try:
    coarse.stsr.to_zarr(store, realizations=2, progress=stop_half_way, **call)
except KeyboardInterrupt:
    assert not store.exists()  # no one reads what is not complete

coarse.stsr.to_zarr(store, realizations=2, resume=True, progress=False, **call)
fine = coarse.stsr.to_zarr(store, realizations=4, resume=True, progress=False, **call)

expected = coarse.stsr.upscale(realizations=4, **call)
assert np.array_equal(fine.rainfall_amount, expected), (
    "the bits of a run that asks once"
)
part = fine.rainfall_amount[:, :12].load()
part.stsr.plot.compare(coarse[:4].load(), path=folder / "resumed.png")
print(f"wrote {store} in three runs: the same bits as in one")
