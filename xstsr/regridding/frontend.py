"""Regridding labelled fields, conservatively, onto any grid.

Means, rates and amounts per area are averaged over the parts of source cells inside
each target cell, whatever they are in time. See `xstsr.regrid` for the arithmetic,
`xstsr.regridding.targets` for what a target may be.
"""

import warnings
from functools import partial
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import xarray as xr

from xstsr.cf import cell_methods as cm
from xstsr.cf.coords import clean, dequantify, requantify
from xstsr.cf.quantity import area_methods
from xstsr.cf.read import check_field
from xstsr.cf.write import complete, extend_history
from xstsr.errors import AssumptionWarning, GridError
from xstsr.regridding.grid import Grid, flat_lat_lon, read_grid
from xstsr.regridding.overlap import cell_areas, weights_between
from xstsr.regridding.targets import target_grid
from xstsr.regridding.weight_files import Side, read_weights
from xstsr.regridding.weights import AnyWeights, means
from xstsr.typing import Array

if TYPE_CHECKING:
    from pyproj import CRS

Target = Union[xr.DataArray, xr.Dataset, str, "CRS"]
WeightFile = str | PathLike[str] | xr.Dataset


def regrid(
    da: xr.DataArray,
    target: Target,
    *,
    spacing: str | None = None,
    min_valid: float = 0.5,
    weights: WeightFile | None = None,
) -> xr.DataArray:
    """Average a field over the cells of another grid, keeping its water.

    Every target value is the mean over the parts of source cells that lie in its cell,
    weighted by area: sines of latitude on the sphere, lengths on a projection. Missing
    cells are left out. Longitudes repeat, so a target may cross the date line.

    Parameters
    ----------
    da : DataArray, shape (..., Y, X) in any order
        Rates, amounts or other means over cells, with one-dimensional axes or
        two-dimensional latitude and longitude; other dimensions are free. Chunked input
        stays lazy, in one chunk along space.
    target : DataArray, Dataset, str or pyproj.CRS
        A field on the grid to go to; or the spacing of a new one over the same region,
        ``"0.25 degrees"`` or ``"10 km"`` (on the plane of the source, else on one of
        equal area around its middle); or a projection, ``"EPSG:3035"``, with what lies
        in its area of use.
    spacing : str, optional
        Of the cells on a projection; by default that of the source.
    min_valid : float
        Part of a target cell, 0..1, that known source cells must cover, or it is
        missing. At 0 any part will do, as in `coarsen`.
    weights : path or Dataset, optional
        Overlap weights from `make_weights`, ESMF, xesmf, CDO or NCO for these grids, in
        place of our own.

    Returns
    -------
    DataArray, shape (..., Y', X')
        Of the same units and dtype, with coordinates, bounds apart, and grid mapping of
        the target. Between grids on one surface areas are exact; from one projection to
        another to 1e-5 of a cell, and areas are those of the target's plane.

    Raises
    ------
    CFError, DataError
        The field has no mean over area: categories, directions, sums over area.
    GridError
        A grid cannot be read, or placed on the globe; both have nothing in common;
        weights are those of other grids; both are curvilinear and xesmf is not there.

    Examples
    --------
    >>> import xstsr
    >>> rain = xstsr.open_demo().rainfall_amount
    >>> rain.sizes["y"], rain.stsr.regrid("5 km").sizes["y"]
    (48, 20)
    """
    return _regrid(da, None, target, spacing, min_valid, weights)[0]


def regrid_dataset(
    ds: xr.Dataset,
    name: str,
    target: Target,
    *,
    spacing: str | None = None,
    min_valid: float = 0.5,
    weights: WeightFile | None = None,
) -> xr.Dataset:
    """Regrid one variable of a Dataset, with the cells that bounds tell; see `regrid`.

    Returns
    -------
    Dataset
        The variable, shape (..., Y', X'), with bounds of all coordinates, cell areas
        and the grid mapping.

    Examples
    --------
    >>> import xstsr
    >>> rain = xstsr.open_demo().stsr.regrid("rainfall_amount", "0.05 degrees")
    >>> sorted(rain.data_vars)
    ['cell_area', 'lat_bnds', 'lon_bnds', 'rainfall_amount', 'time_bnds']
    """
    out, grid = _regrid(ds, name, target, spacing, min_valid, weights)
    return _dataset(out, grid, ds)


def make_weights(
    data: xr.DataArray | xr.Dataset, target: Target, *, spacing: str | None = None
) -> xr.Dataset:
    """Find the overlap weights that `regrid` would use, to keep or to use elsewhere.

    Parameters
    ----------
    data : DataArray or Dataset
        On the source grid.
    target, spacing
        As in `regrid`.

    Returns
    -------
    Dataset
        In the layout of ESMF, with links ``row``, ``col`` and ``S`` of shape (n_s,),
        counted from 1 on. Weights
        are parts of target cells: "conservative" to ``xesmf.Regridder(weights=...)``,
        "destarea" to ESMF.

    Raises
    ------
    CFError, GridError
        As in `regrid`.

    Examples
    --------
    >>> import xstsr
    >>> rain = xstsr.open_demo().rainfall_amount
    >>> links = make_weights(rain, "5 km")
    >>> links.sizes["n_a"], links.sizes["n_b"], links.sizes["n_s"]
    (1776, 320, 3484)
    """
    source = read_grid(data)
    grid, text = target_grid(target, source, spacing)
    made = weights_between(source, grid).full()
    links = made.matrix.tocoo()
    sides = {"a": (source, "src"), "b": (grid, "dst")}
    variables: dict[str, Any] = {
        "row": ("n_s", links.row.astype(np.int32) + 1),
        "col": ("n_s", links.col.astype(np.int32) + 1),
        "S": ("n_s", links.data),
        "frac_b": ("n_b", made.covered.ravel()),
    }
    for letter, (side, word) in sides.items():
        dims = np.array(side.shape[::-1], np.int32)
        variables[f"{word}_grid_dims"] = (f"{word}_grid_rank", dims)
        for place, axis in zip(side.lat_lon() or (), "yx", strict=False):
            units = f"degrees_{'north' if axis == 'y' else 'east'}"
            variables[f"{axis}c_{letter}"] = (
                f"n_{letter}",
                place.ravel(),
                {"units": units},
            )
    line = extend_history(None, {"operation": "make_weights", "target": text})
    attrs = {"map_method": "Conservative remapping", "normalization": "destarea"}
    return xr.Dataset(variables, attrs=attrs | {"history": line})


def _regrid(
    data: xr.DataArray | xr.Dataset,
    name: str | None,
    target: Target,
    spacing: str | None,
    min_valid: float,
    weights: WeightFile | None,
) -> tuple[xr.DataArray, Grid]:
    """Regrid, and tell onto which grid."""
    if not 0 <= min_valid <= 1:
        raise GridError(
            f"cannot use min_valid={min_valid!r}: it is the part of a target cell that "
            "must be known, 0 to 1, such as min_valid=0.5."
        )
    if isinstance(data, xr.Dataset):
        source = read_grid(data, name)
        da = data[name]
    else:
        source, da = read_grid(data), data
    check_field(da)
    _, area_names = cm.axis_names("time", *source.dims)
    methods = area_methods(_name(da), da.attrs, None, area_names)
    grid, text = target_grid(target, source, spacing)
    if weights is None:
        links = weights_between(source, grid)
    else:
        links = _read(weights, source, grid)
    plain, pint_units = dequantify(da)
    out = _label(plain, _values(plain, source, grid, links, min_valid), source, grid)
    if not any(area_names & set(m.names) for m in methods):
        methods = (*methods, cm.CellMethod(("area",), "mean"))
    out.attrs["cell_methods"] = cm.write(methods)
    settings = {"operation": "regrid", "target": text, "min_valid": min_valid}
    out.attrs["history"] = extend_history(da.attrs.get("history"), settings)
    return requantify(out, pint_units), grid


def _values(
    plain: xr.DataArray, source: Grid, grid: Grid, links: AnyWeights, min_valid: float
) -> xr.Variable:
    """Average the values; the last dimensions are those of the target."""
    variable = plain.variable
    if plain.chunks is not None:
        variable = variable.chunk(dict.fromkeys(source.dims, -1))
    clash = set(grid.dims) & (set(map(str, plain.dims)) - set(source.dims))
    if clash:
        raise GridError(
            f"cannot regrid {plain.name!r}: its dimensions {sorted(clash)} are named "
            "as those of the target grid are. Rename them: "
            f'da.rename({sorted(clash)[0]}="height").'
        )
    made: xr.Variable = xr.apply_ufunc(
        partial(means, links, min_valid=min_valid),
        variable,
        input_core_dims=[list(source.dims)],
        output_core_dims=[list(grid.dims)],
        exclude_dims=set(source.dims),
        dask="parallelized",
        output_dtypes=[plain.dtype],
        dask_gufunc_kwargs={
            "output_sizes": dict(zip(grid.dims, grid.shape, strict=True))
        },
    )
    renamed = dict(zip(source.dims, grid.dims, strict=True))
    return made.transpose(*(renamed.get(str(d), d) for d in plain.dims))


def _label(
    plain: xr.DataArray, values: xr.Variable, source: Grid, grid: Grid
) -> xr.DataArray:
    """Give values the coordinates of the target, and what else stays true."""
    coords: dict[Any, xr.Variable] = {}
    old_mapping = source.mapping[0] if source.mapping else None
    for name, coord in plain.coords.items():
        if not set(source.dims) & set(map(str, coord.dims)) and name != old_mapping:
            coords[name] = clean(coord.variable)
            if "xstsr_label" in coord.attrs:
                coords[name].attrs["xstsr_label"] = coord.attrs["xstsr_label"]
    coords |= grid.coords
    for coord in coords.values():
        if coord.dtype.kind == "f":
            coord.encoding["_FillValue"] = None  # CF wants none in coordinates
    attrs = clean(xr.Variable((), 0, dict(plain.attrs))).attrs
    attrs.pop("grid_mapping", None)
    out = xr.DataArray(values, coords, name=plain.name, attrs=attrs)
    if grid.mapping:
        name, variable = grid.mapping
        out = out.assign_coords({name: variable})
        out.encoding["grid_mapping"] = name
    return out


def _dataset(out: xr.DataArray, grid: Grid, ds_in: xr.Dataset) -> xr.Dataset:
    """Complete a regridded field to a Dataset that is self-contained in CF terms."""
    field = out.copy(deep=False)
    line = str(field.attrs.pop("history")).rpartition("\n")[2]
    field.encoding.pop("grid_mapping", None)
    mapping = [grid.mapping[0]] if grid.mapping else []
    ds = field.drop_vars(mapping).to_dataset()
    for name, dims, corners in _bounds(grid):
        bounds = grid.bounds_names.get(name, f"{name}_bnds")
        ds[bounds] = xr.Variable(dims, corners, encoding={"_FillValue": None})
        ds[name].attrs["bounds"] = bounds
    attrs = {"standard_name": "cell_area", "units": "m2"}
    areas = xr.Variable(grid.dims, cell_areas(grid), attrs, {"_FillValue": None})
    ds["cell_area"] = areas
    ds[field.name].attrs["cell_measures"] = "area: cell_area"
    if grid.mapping:
        ds[grid.mapping[0]] = grid.mapping[1]
        ds[field.name].attrs["grid_mapping"] = grid.mapping[0]
    return complete(ds, ds_in, line, renewed=grid.coords)


def _bounds(grid: Grid) -> list[tuple[str, tuple[str, ...], Array]]:
    """Bounds of a grid's coordinates: name, dimensions, values."""
    if grid.edges is not None:
        return [
            (dim, (dim, "bnds"), np.stack([e[:-1], e[1:]], axis=1))
            for dim, e in zip(grid.dims, grid.edges, strict=True)
        ]
    names = flat_lat_lon(grid.coords)
    assert grid.corners is not None
    return [
        (names[word], (*grid.dims, "nv"), corners)
        for word, corners in zip(("latitude", "longitude"), grid.corners, strict=True)
    ]


def _read(weights: WeightFile, source: Grid, grid: Grid) -> AnyWeights:
    """Read a weight file, which must be that of the two grids."""
    ds = _opened(weights)
    method = str(ds.attrs.get("map_method", ""))
    if method and "conserv" not in method.lower():
        warnings.warn(
            f"weights are of the method {method!r}, which does not keep water. Make "
            "others: `cdo gencon`, `ESMF_RegridWeightGen --method conserve` or "
            "xstsr.regridding.frontend.make_weights.",
            AssumptionWarning,
            stacklevel=5,
        )
    variables = {str(n): np.asarray(v.values) for n, v in ds.variables.items()}
    units = {str(n): str(v.attrs.get("units", "")) for n, v in ds.variables.items()}
    sides = [Side(g.shape, *(g.lat_lon() or (None, None))) for g in (source, grid)]
    return read_weights(variables, units, *sides)


def _opened(weights: WeightFile) -> xr.Dataset:
    """Open a weight file."""
    if isinstance(weights, xr.Dataset):
        return weights
    try:
        with xr.open_dataset(fspath(weights)) as file:
            loaded: xr.Dataset = file.load()
    except (OSError, TypeError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise GridError(
            f"cannot read weights={weights!r}: {first}. Pass a NetCDF file or Dataset "
            "of weights, such as xstsr.regridding.frontend.make_weights gives."
        ) from error
    return loaded


def _name(da: xr.DataArray) -> str | None:
    return None if da.name is None else str(da.name)
