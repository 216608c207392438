"""Independent tools regrid alike: iris, CDO, NCO; files and calls of ESMF and xesmf.

A tool that is not there is a skip that says so. ESMF's own geometry is compared only
where esmpy is installed, as in the conda environment of environment.yml.
"""

import importlib
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
import xarray as xr

from tests import stub_esmpy
from tests.regridding.test_frontend import curvilinear, globe, region, rotated
from xstsr.errors import GridError
from xstsr.regridding.frontend import make_weights
from xstsr.regridding.grid import read_grid
from xstsr.regridding.weight_files import Side, read_weights
from xstsr.regridding.weights import xesmf_weights

CASES = {  # source and target, whose cells are not nested
    "global": (
        lambda: globe(np.linspace(-90, 90, 46), np.linspace(0, 360, 91)),
        lambda: globe(np.linspace(90, -90, 32), np.linspace(-180, 180, 54)),
    ),
    "regional": (
        lambda: region(0.7, rows=30, columns=40),
        lambda: region(1.1, rows=15, columns=20, south=42.3, west=2.2),
    ),
    "gaussian": (
        lambda: globe(np.sort(np.random.default_rng(1).uniform(-80, 80, 20)),
                      np.linspace(0, 360, 33)),
        lambda: globe(np.linspace(70, -70, 23), np.linspace(10, 300, 24)),
    ),
}  # fmt: skip
every = pytest.mark.parametrize("case", sorted(CASES))


def pair(case):
    return tuple(build() for build in CASES[case])


# iris


@every
@pytest.mark.filterwarnings("ignore")
def test_regrid_equals_area_weighted_iris(case):
    """To 1e-12 of each value, on grids that do not nest."""
    pytest.importorskip("iris", reason="scitools-iris is not installed")
    analysis, coords, cube = (
        importlib.import_module(f"iris.{name}")
        for name in ("analysis", "coords", "cube")
    )

    def as_cube(ds):
        axes = [
            coords.DimCoord(
                ds[short].values,
                name,
                units="degrees",
                bounds=ds[f"{short}_bnds"].values,
                circular=short == "lon" and np.ptp(ds.lon_bnds.values) > 359,
            )
            for short, name in (("lat", "latitude"), ("lon", "longitude"))
        ]
        pairs = [(axis, i) for i, axis in enumerate(axes)]
        return cube.Cube(ds.pr.values[0], dim_coords_and_dims=pairs)

    source, target = pair(case)
    theirs = as_cube(source).regrid(as_cube(target), analysis.AreaWeighted(mdtol=0.5))
    ours = source.stsr.regrid("pr", target, min_valid=0.0).pr[0]
    inside = source.stsr.regrid("pr", target, min_valid=1.0).pr[0].notnull()
    assert inside.sum() > 200
    np.testing.assert_allclose(
        np.ma.filled(theirs.data, np.nan)[inside], ours.values[inside], rtol=1e-12
    )


# CDO and NCO


@pytest.fixture(scope="session")
def cdo():
    """Run CDO, or skip where it is not installed."""
    return _tool("cdo", "-s", "-O")


@pytest.fixture(scope="session")
def ncremap():
    """Run NCO's ncremap, or skip where it is not installed."""
    return _tool("ncremap")


def _tool(name, *options):
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed (apt-get install {name[:3]})")

    def run(*arguments):
        command = [path, *options, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


def write(ds, path):
    """Write what other tools read: one time, doubles, no gaps."""
    ds.isel(time=slice(0, 1)).drop_vars("time_bnds").to_netcdf(path)
    return path


@pytest.mark.cdo
@every
def test_regrid_equals_remapcon_of_cdo(cdo, tmp_path, case):
    source, target = pair(case)
    a, b = write(source, tmp_path / "a.nc"), write(target, tmp_path / "b.nc")
    cdo(f"remapcon,{b}", a, tmp_path / "out.nc")
    with xr.open_dataset(tmp_path / "out.nc") as out:
        theirs = out.pr.values[0]
    ours = source.stsr.regrid("pr", target, min_valid=0.0).pr.values[0]
    np.testing.assert_allclose(theirs, ours, rtol=1e-10)


@pytest.mark.cdo
def test_curvilinear_source_agrees_with_cdo(cdo, tmp_path):
    """Both take the sides of the cells for great circles."""
    source = curvilinear().drop_vars("time_bnds")
    lat, lon = read_grid(source).corners
    for name, corners in (("lat", lat), ("lon", lon)):
        source[f"{name}_v"] = (("j", "i", "nv"), corners)
        source[name].attrs["bounds"] = f"{name}_v"
    target = region(0.37, rows=16, columns=40, south=46.5, west=10.3)
    source.isel(time=slice(0, 1)).to_netcdf(tmp_path / "a.nc")
    write(target, tmp_path / "b.nc")
    cdo(f"remapcon,{tmp_path / 'b.nc'}", tmp_path / "a.nc", tmp_path / "out.nc")
    with xr.open_dataset(tmp_path / "out.nc") as out:
        theirs = out.pr.values[0]
    ours = source.stsr.regrid("pr", target, min_valid=1.0).pr.values[0]
    inside = ~np.isnan(ours)
    assert inside.sum() > 400
    np.testing.assert_allclose(theirs[inside], ours[inside], rtol=1e-4)


@pytest.mark.cdo
@pytest.mark.parametrize("generator", ["gencon", "genbil"])
def test_weights_of_cdo_are_read(cdo, tmp_path, generator):
    """SCRIP's layout, centres in radians, conservative or not."""
    source, target = pair("regional")
    a, b = write(source, tmp_path / "a.nc"), write(target, tmp_path / "b.nc")
    weights = tmp_path / "weights.nc"
    cdo(f"{generator},{b}", a, weights)
    cdo(f"remap,{b},{weights}", a, tmp_path / "out.nc")
    with xr.open_dataset(tmp_path / "out.nc") as out:
        theirs = out.pr.values[0]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        made = source.stsr.regrid("pr", target, weights=weights, min_valid=0.0)
        with pytest.raises(GridError, match="made for another target grid"):
            source.stsr.regrid("pr", source, weights=weights)
    kept = [w for w in told if "does not keep water" in str(w.message)]
    assert bool(kept) == (generator == "genbil")
    known = ~np.isnan(theirs)
    np.testing.assert_allclose(made.pr.values[0][known], theirs[known], rtol=1e-10)


@pytest.mark.cdo
def test_second_order_weights_of_cdo_are_refused(cdo, tmp_path):
    source, target = pair("regional")
    a, b = write(source, tmp_path / "a.nc"), write(target, tmp_path / "b.nc")
    weights = tmp_path / "weights.nc"
    cdo(f"gencon2,{b}", a, weights)
    with xr.open_dataset(weights) as file:
        numbers = file.sizes["num_wgts"]
    if numbers == 1:
        pytest.skip("this CDO writes second-order weights as plain ones")
    with pytest.raises(GridError, match="they are of second order"):
        source.stsr.regrid("pr", target, weights=weights)


@pytest.mark.cdo
def test_weights_of_nco_are_read(ncremap, tmp_path):
    """ESMF's layout, as ESMF_RegridWeightGen writes it too.

    NCO 5.1.4 counts some overlaps twice where edges of both grids meet; here none do.
    """
    source = region(0.5, rows=40, columns=60)
    target = region(0.83, rows=16, columns=29, south=42.03, west=2.17)
    a, b = write(source, tmp_path / "a.nc"), write(target, tmp_path / "b.nc")
    weights = tmp_path / "weights.nc"
    ncremap("-a", "nco", "-d", b, "-m", weights, a, tmp_path / "out.nc")
    made = source.stsr.regrid("pr", target, weights=weights)
    own = source.stsr.regrid("pr", target)
    np.testing.assert_allclose(made.pr, own.pr, rtol=1e-9)
    with pytest.raises(GridError, match="made for another source grid"):
        target.stsr.regrid("pr", target, weights=weights)


# weight files of both layouts


def test_own_weights_come_back_the_same(tmp_path):
    for source, target in ((region(), "2 degrees"), (rotated(), "0.5 degrees")):
        expected = source.stsr.regrid("pr", target)
        links = make_weights(source.pr if "crs" not in source else source, target)
        made = source.stsr.regrid("pr", expected, weights=links)
        np.testing.assert_allclose(made.pr, expected.pr, rtol=1e-13)
        links.to_netcdf(tmp_path / "links.nc")
        made = source.stsr.regrid("pr", expected, weights=str(tmp_path / "links.nc"))
        np.testing.assert_allclose(made.pr, expected.pr, rtol=1e-13)


def links(**changes):
    """A file of ESMF for one row of four cells into two, half of the last covered."""
    made = {
        "row": np.array([1, 1, 2]),
        "col": np.array([1, 2, 3]),
        "S": np.array([0.5, 0.5, 0.5]),
        "src_grid_dims": np.array([4, 1]),
        "dst_grid_dims": np.array([2, 1]),
        "frac_b": np.array([1.0, 0.5]),
    }
    return {k: v for k, v in (made | changes).items() if v is not None}


SOURCE, TARGET = Side((1, 4)), Side((1, 2))


@pytest.mark.parametrize("norm", ["destarea", "fracarea"])
def test_both_normalisations_mean_the_same(norm):
    values = np.array([0.5, 0.5, 0.5 if norm == "destarea" else 1.0])
    weights = read_weights(links(S=values), {}, SOURCE, TARGET)
    np.testing.assert_array_equal(weights.covered, [[1.0, 0.5]])
    dense = weights.matrix.toarray()
    np.testing.assert_array_equal(dense, [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0]])


def test_both_layouts_mean_the_same():
    plain = links()
    scrip = {
        "dst_address": plain["row"],
        "src_address": plain["col"],
        "remap_matrix": plain["S"][:, None],
        "dst_grid_frac": plain["frac_b"],
    }
    theirs = read_weights(scrip, {}, SOURCE, TARGET).matrix.toarray()
    ours = read_weights(plain, {}, SOURCE, TARGET).matrix.toarray()
    np.testing.assert_array_equal(theirs, ours)


def test_bare_links_of_xesmf_are_enough():
    bare = links(src_grid_dims=None, dst_grid_dims=None, frac_b=None)
    weights = read_weights(bare, {}, SOURCE, TARGET)
    np.testing.assert_array_equal(weights.covered, [[1.0, 0.5]])


def test_weights_of_another_layout_are_refused():
    with pytest.raises(
        GridError, match=r"from the variables \['a'\]: there are neither"
    ):
        read_weights({"a": np.zeros(1)}, {}, SOURCE, TARGET)
    with pytest.raises(GridError, match="there are neither row, col, S"):
        read_weights({"S": np.zeros(1)}, {}, SOURCE, TARGET)


def test_weights_of_another_shape_are_refused():
    with pytest.raises(GridError, match=r"target grid; its \(y, x\) shape is \(2, 1\)"):
        read_weights(links(dst_grid_dims=np.array([1, 2])), {}, SOURCE, TARGET)
    with pytest.raises(GridError, match=r"source grid; it has a cell 9 .*not 4 cells"):
        read_weights(links(col=np.array([1, 2, 9])), {}, SOURCE, TARGET)
    with pytest.raises(GridError, match=r"target grid; it has a cell 2 \(or 0\)"):
        read_weights(links(row=np.array([0, 1, 2])), {}, SOURCE, TARGET)


def test_weights_that_count_twice_are_refused():
    broken = links(S=np.array([0.5, 0.85, 0.5]), frac_b=np.array([1.35, 0.5]))
    with pytest.raises(GridError, match=r"target cell 1 add up to 1\.35"):
        read_weights(broken, {}, SOURCE, TARGET)


def test_weights_of_another_place_are_refused():
    """A latitude that runs the other way has the same shape."""
    lat, lon = np.array([[10.0, 10, 20, 20]]), np.array([[0.0, 1, 0, 1]])
    here = Side((1, 4), lat, lon)
    there = {"yc_a": np.deg2rad(lat[0]), "xc_a": np.deg2rad(lon[0])}
    units = {"yc_a": "radians", "xc_a": "radians"}
    read_weights(links(**there), units, here, TARGET)
    turned = {"yc_a": lat[0, ::-1], "xc_a": lon[0]}
    with pytest.raises(GridError, match="its cell 1 is at 20 N 0 E, not 10 N 0 E here"):
        read_weights(links(**turned), {}, here, TARGET)
    few = {"yc_a": lat[0, :2], "xc_a": lon[0, :2]}
    with pytest.raises(GridError, match="it has 2 cells, not 4"):
        read_weights(links(**few), {}, here, TARGET)


# xesmf


@pytest.fixture
def xesmf(monkeypatch):
    """The real xesmf on a stub of esmpy: no geometry of ESMF is in these tests."""
    for name in ("xesmf", "sparse", "numba"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed (pip install xesmf sparse)")
    stub_esmpy.install(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield importlib.import_module("xesmf")
    for name in [n for n in sys.modules if n.partition(".")[0] == "xesmf"]:
        del sys.modules[name]


@pytest.mark.filterwarnings("ignore")
def test_contract_with_xesmf_apply_path_stubbed_esmpy(xesmf):
    """Our links are read and applied by xesmf's own code; ESMF has no part in it."""
    source = region(0.7, rows=30, columns=40)
    target = region(1.1, rows=15, columns=20, south=42.3, west=2.2)
    regridder = xesmf.Regridder(
        source, target, "conservative", weights=make_weights(source, target)
    )
    theirs = regridder(source.pr)
    ours = source.stsr.regrid("pr", target).pr
    assert ours.notnull().all()
    np.testing.assert_allclose(theirs, ours, rtol=1e-13)


@pytest.mark.filterwarnings("ignore")
def test_contract_with_xesmf_weights_stubbed_esmpy(xesmf):
    """What we hand to xesmf and take from it; the weights are any numbers here."""
    shapes = (3, 4), (2, 3)
    grids = []
    for rows, columns in shapes:
        lat, lon = np.meshgrid(np.arange(rows), 10 + np.arange(columns), indexing="ij")
        lat_b, lon_b = np.meshgrid(
            np.arange(rows + 1) - 0.5, 9.5 + np.arange(columns + 1), indexing="ij"
        )
        grids.append({"lat": lat, "lon": lon, "lat_b": lat_b, "lon_b": lon_b})
    row, column = np.array([1, 2, 6]), np.array([1, 5, 12])
    stub_esmpy.Regrid.links = row, column, np.array([1.0, 0.5, 0.25])
    weights = xesmf_weights(*grids)
    assert (weights.source_shape, weights.target_shape) == shapes
    field = np.arange(12.0).reshape(3, 4)
    expected = [[0.0, 2.0, 0.0], [0.0, 0.0, 11 / 4]]
    np.testing.assert_array_equal(weights.product(field), expected)
    asked = stub_esmpy.Regrid.last
    assert asked.options["norm_type"] == 0  # destarea: rows add up to what is covered
    corners = asked.srcfield.grid.coords[3]
    np.testing.assert_array_equal(corners[1], grids[0]["lat_b"].T)
    np.testing.assert_array_equal(corners[0], grids[0]["lon_b"].T)


@pytest.mark.esmf
@pytest.mark.filterwarnings("ignore")
def test_two_curvilinear_grids_through_esmf():
    """ESMF's own geometry: constants and water are kept from one grid to another."""
    pytest.importorskip("esmpy", reason="esmpy is not installed (conda-forge only)")
    pytest.importorskip("xesmf", reason="xesmf is not installed (conda-forge)")
    source = curvilinear()
    target = curvilinear(rotated().isel(rlat=slice(4, 25, 2), rlon=slice(5, 35, 2)))
    ones = source.assign(pr=source.pr * 0 + 2.0).stsr.regrid("pr", target)
    np.testing.assert_allclose(ones.pr, 2.0, rtol=1e-12)
    made = source.stsr.regrid("pr", target)
    plain = rotated().stsr.regrid("pr", target)
    np.testing.assert_allclose(made.pr, plain.pr, rtol=1e-2, atol=1e-3)
