"""How long regridding takes: beside xarray's coarsen, and beside its sparse product.

Run it with ``make bench ARGS='-k regrid'``. The issue asks that a global field of 0.25
degrees goes to 1 degree in at most twice the time of the sparse product alone.
"""

import time

import numpy as np
import pytest
import xarray as xr

from xstsr.regridding.frontend import make_weights

NORTH = {"standard_name": "latitude", "units": "degrees_north"}
EAST = {"standard_name": "longitude", "units": "degrees_east"}


def plane(frames, size):
    """Rain on cells of 1 km."""
    rng = np.random.default_rng(0)
    values = rng.gamma(0.3, 2.0, (frames, size, size)).astype("float32")
    axes = {
        dim: (dim, np.arange(size) * 1000.0 + 500, {
            "standard_name": f"projection_{dim}_coordinate", "units": "m"})
        for dim in ("y", "x")
    }  # fmt: skip
    attrs = {"standard_name": "rainfall_rate", "units": "mm h-1"}
    return xr.DataArray(values, axes, ("time", "y", "x"), "rain", attrs)


def globe(frames):
    """Rain on 721 x 1440 cells, with half cells at the poles, as ERA5 has them."""
    rng = np.random.default_rng(0)
    values = rng.gamma(0.3, 2.0, (frames, 721, 1440)).astype("float32")
    coords = {
        "lat": ("lat", np.linspace(90, -90, 721), NORTH),
        "lon": ("lon", np.arange(1440) * 0.25, EAST),
    }
    attrs = {"standard_name": "precipitation_flux", "units": "kg m-2 s-1"}
    return xr.DataArray(values, coords, ("time", "lat", "lon"), "pr", attrs)


def test_regrid_nested(benchmark):
    da = plane(24, 1000)
    made = benchmark(da.stsr.regrid, "4 km")
    np.testing.assert_allclose(made, da.coarsen(y=4, x=4).mean(), rtol=1e-5)


def test_coarsen_of_xarray(benchmark):
    da = plane(24, 1000)
    benchmark(lambda: da.coarsen(y=4, x=4).mean())


def test_regrid_with_missing_cells(benchmark):
    da = plane(24, 1000)
    da[:, :300, :300] = np.nan
    benchmark(da.stsr.regrid, "4 km")


def test_regrid_local_grid_builds_weights(benchmark):
    """A region of 200 x 300 cells of 0.25 degrees to 20 km: polygons."""
    da = globe(1).isel(lat=slice(100, 300), lon=slice(0, 300))
    benchmark.pedantic(da.stsr.regrid, ("20 km",), rounds=3)


def test_global_regrid_beside_its_sparse_product():
    da = globe(24)
    links = make_weights(da, "1 degrees")
    sizes = links.sizes["n_b"], links.sizes["n_a"]
    sparse = pytest.importorskip("scipy.sparse")
    at = links.row.values - 1, links.col.values - 1
    matrix = sparse.coo_array((links.S.values, at), sizes).tocsr()
    flat = da.values.reshape(24, -1)

    def product():
        return [matrix @ frame.astype(np.float64) for frame in flat]

    def best(call):
        spent = []
        for _ in range(5):
            start = time.process_time()
            call()
            spent.append(time.process_time() - start)
        return min(spent)

    ratio = best(lambda: da.stsr.regrid("1 degrees")) / best(product)
    print(f"\n721 x 1440 x 24 to 1 degree: {ratio:.2f} times the sparse product")
    assert ratio < 2
