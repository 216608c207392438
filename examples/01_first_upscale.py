"""Refine the demo's radar rain, check its water and draw it.

Run it from anywhere: python examples/01_first_upscale.py [FOLDER]
"""

import sys
from pathlib import Path

import xstsr

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("xstsr-example")
folder.mkdir(parents=True, exist_ok=True)

# real rain at 2 km and 5 min, made coarse: 10 km and 15 min
truth = xstsr.open_demo().rainfall_amount[:12, :45, :35]
coarse = truth.stsr.coarsen(s=5, t=3)

# how the field was understood, and what would be done, before it is done
print(coarse.stsr)
print(coarse.stsr.plan(s=5, t=3, realizations=2))

# two realizations, and the water of every coarse cell
fine = coarse.stsr.upscale(s=5, t=3, realizations=2, seed=1)
print(fine.stsr.check(coarse))

fine.stsr.plot.compare(coarse, truth, path=folder / "first.png")
fine.to_dataset(name="rainfall_amount").to_netcdf(folder / "first.nc")
print(f"wrote {folder / 'first.png'} and {folder / 'first.nc'}")
