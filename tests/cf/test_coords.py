"""True latitude and longitude of projected grids, against closed forms."""

import numpy as np
import pytest
import xarray as xr

from xstsr.geometry.cells import EARTH_RADIUS_M, refine_edges, unit_vectors

S = 4
POLE = (39.25, -162.0)  # of EURO-CORDEX
LAMBERT = (50.0, 10.0)  # standard parallel and central meridian
STANDARD = {
    "rotated": ("grid_latitude", "grid_longitude"),
    "lambert": ("projection_y_coordinate", "projection_x_coordinate"),
}


def rotated(y, x, pole=POLE):
    """True coordinates of rotated ones, in degrees: two turns of the sphere."""
    phi, lam = np.deg2rad(y), np.deg2rad(x)
    tilt = np.deg2rad(90 - pole[0])
    u, v, w = np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)
    up, along = (
        w * np.cos(tilt) + u * np.sin(tilt),
        u * np.cos(tilt) - w * np.sin(tilt),
    )
    lon = np.rad2deg(np.arctan2(v, along)) + pole[1] + 180
    return np.rad2deg(np.arcsin(up)), (lon + 180) % 360 - 180


def lambert(y, x):
    """True coordinates of a conformal conic map that touches one parallel (Snyder)."""
    parallel, meridian = np.deg2rad(LAMBERT)
    n = np.sin(parallel)

    def stretch(phi):
        return np.tan(np.pi / 4 + phi / 2) ** n

    f = np.cos(parallel) * stretch(parallel) / n
    rho0 = EARTH_RADIUS_M * f / stretch(parallel)
    rho = np.hypot(x, rho0 - y)
    lon = meridian + np.arctan2(x, rho0 - y) / n
    lat = 2 * np.arctan((EARTH_RADIUS_M * f / rho) ** (1 / n)) - np.pi / 2
    return np.rad2deg(lat), np.rad2deg(lon)


GRIDS = {
    "EURO-CORDEX": ("rotated", rotated, (-3.0, 0.11), (2.0, 0.11)),
    "EURO-CORDEX, coarse": ("rotated", rotated, (-20.0, 0.44), (-25.0, 0.44)),
    "northwards down": ("rotated", rotated, (22.0, -0.44), (10.0, 0.44)),
    "the true pole inside": ("rotated", rotated, (38.0, 0.22), (-1.2, 0.22)),
    "the date line inside": (
        "rotated",
        lambda y, x: rotated(y, x, (40.0, 0.0)),
        (-1.0, 0.25),
        (-1.2, 0.25),
    ),
    "HARMONIE": ("lambert", lambert, (-2e5, 12_000.0), (-3e5, 12_000.0)),
}


def dataset(grid):
    """Rain of a regional model, with two-dimensional coordinates and their corners."""
    kind, true, (y0, dy), (x0, dx) = GRIDS[grid]
    edges = y0 + dy * np.arange(9), x0 + dx * np.arange(11)
    y, x = ((e[:-1] + e[1:]) / 2 for e in edges)
    lat, lon = true(*np.meshgrid(y, x, indexing="ij"))
    corners = corners_of(true, *edges)
    units = "m" if kind == "lambert" else "degrees"
    attrs = [{"standard_name": name, "units": units} for name in STANDARD[kind]]
    told = {
        "lat": {"standard_name": "latitude", "units": "degrees_north"},
        "lon": {"standard_name": "longitude", "units": "degrees_east"},
    }
    return xr.Dataset(
        {
            "pr": (
                ("time", "y", "x"),
                np.ones((2, 8, 10), np.float32),
                {"units": "mm h-1", "cell_methods": "time: mean"},
            ),
            "lat_vertices": (("y", "x", "vertices"), corners[0]),
            "lon_vertices": (("y", "x", "vertices"), corners[1]),
        },
        {
            "time": np.array(["2001-01-01T00", "2001-01-01T01"], "M8[ns]"),
            "y": ("y", y, attrs[0]),
            "x": ("x", x, attrs[1]),
            "lat": (("y", "x"), lat, told["lat"] | {"bounds": "lat_vertices"}),
            "lon": (("y", "x"), lon, told["lon"] | {"bounds": "lon_vertices"}),
        },
    )


def corners_of(true, y_edges, x_edges):
    """True corners of cells, anticlockwise, shapes (Y, X, 4)."""
    low, high = np.sort([y_edges[:-1], y_edges[1:]], axis=0)
    y = np.stack([low, low, high, high], -1)[:, None]
    x = np.stack([x_edges[:-1], x_edges[1:], x_edges[1:], x_edges[:-1]], -1)[None]
    return true(*np.broadcast_arrays(y, x))


def angle(lat, lon, lat2, lon2):
    """Degrees between places."""
    gap = unit_vectors(np.asarray(lat), np.asarray(lon)) - unit_vectors(lat2, lon2)
    return np.rad2deg(np.linalg.norm(gap, axis=-1))


@pytest.mark.filterwarnings("ignore::xstsr.errors.AssumptionWarning")
@pytest.mark.parametrize("grid", GRIDS)
def test_fine_coordinates_and_corners_lie_where_the_cells_are(grid):
    _, true, (_, dy), _ = GRIDS[grid]
    ds = dataset(grid)
    fine = ds.stsr.upscale("pr", s=S, method="nearest")
    cell = abs(dy) / S / (111_195 if GRIDS[grid][0] == "lambert" else 1)
    expected = true(*np.meshgrid(fine.y, fine.x, indexing="ij"))
    assert angle(fine.lat, fine.lon, *expected).max() < 0.02 * cell
    edges = (
        refine_edges(GRIDS[grid][i][0] + GRIDS[grid][i][1] * np.arange(n), S)
        for i, n in ((2, 9), (3, 11))
    )
    expected = corners_of(true, *edges)
    assert fine.lat.attrs["bounds"] == "lat_vertices"
    assert fine.lat_vertices.dims == ("y", "x", "vertices")
    assert angle(fine.lat_vertices, fine.lon_vertices, *expected).max() < 0.02 * cell


@pytest.mark.filterwarnings("ignore::xstsr.errors.AssumptionWarning")
def test_corners_are_not_made_up_where_the_input_has_none():
    ds = dataset("EURO-CORDEX").drop_vars("lon_vertices")
    fine = ds.stsr.upscale("pr", s=S, method="nearest")
    assert "lon_vertices" not in fine
    assert "bounds" not in fine.lon.attrs
    assert fine.lat.attrs["bounds"] == "lat_vertices"
