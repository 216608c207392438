"""From water accumulated since midnight, in metres, to amounts of twenty minutes.

ERA5-Land's total precipitation grows through the day. This makes a field of that form,
turns it into hourly amounts, refines it and writes it with bounds and cell areas.

Run it from anywhere: python examples/02_era5_accumulations.py [FOLDER]
"""

import sys
from pathlib import Path

import numpy as np
import xarray as xr

import xstsr

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("xstsr-example")
folder.mkdir(parents=True, exist_ok=True)

# rain of each hour, and what an archive that accumulates would hold
rng = np.random.default_rng(0)
hours = np.datetime64("2020-06-01T01", "ns") + np.arange(48) * np.timedelta64(1, "h")
rain = 1e-3 * rng.gamma(0.3, 2.0, (2, 24, 8, 10))
land = xr.DataArray(
    rain.cumsum(axis=1).reshape(48, 8, 10),
    dims=("time", "latitude", "longitude"),
    coords={
        "time": hours,
        "latitude": ("latitude", 50 - 0.1 * np.arange(8), {"units": "degrees_north"}),
        "longitude": ("longitude", 5 + 0.1 * np.arange(10), {"units": "degrees_east"}),
    },
    name="tp",
    attrs={"units": "m", "long_name": "total precipitation"},
)

amounts = xstsr.deaccumulate(land, resets="24 hours")
print(amounts.stsr)

fine = amounts.stsr.upscale(s=4, t=3, method="rainfarm", realizations=4, seed=0)
print(fine.stsr.check(amounts))

# the water of two days is the same in all three
print("m of water, mean over the region:")
for name, field in (("archive", land[23] + land[47]), ("fine", fine.sum("time"))):
    print(f"  {name:8} {float(field.mean()):.6f}")

fine.stsr.plot.compare(amounts, path=folder / "era5.png")
fine.to_dataset(name="tp").to_netcdf(folder / "era5.nc")
print(f"wrote {folder / 'era5.png'} and {folder / 'era5.nc'}")
