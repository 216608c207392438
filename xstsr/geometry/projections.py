"""Map projections through pyproj, which is imported when one is first needed.

``None`` stands for true latitude and longitude, taken to be those of the projection's
own ellipsoid: climate data seldom say on which one theirs are.
"""

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from xstsr.errors import GridError
from xstsr.geometry.cells import EARTH_RADIUS_M
from xstsr.typing import Floats

if TYPE_CHECKING:
    from pyproj import CRS


def read_crs(text: object) -> "CRS":
    """Read a coordinate reference system as users write it.

    Parameters
    ----------
    text : str, int or pyproj.CRS
        "EPSG:3035", "+proj=laea +lat_0=52 +lon_0=10", WKT; or whatever pyproj reads.

    Returns
    -------
    pyproj.CRS

    Raises
    ------
    GridError
        pyproj does not know it.

    Examples
    --------
    >>> read_crs("EPSG:3035").name
    'ETRS89-extended / LAEA Europe'
    """
    pyproj = _pyproj()
    try:
        crs: CRS = pyproj.CRS.from_user_input(text)
    except pyproj.exceptions.CRSError as error:
        raise GridError(
            f"cannot read the projection {text!r}. Write an EPSG code, "
            '"EPSG:3035", or a proj string, "+proj=laea +lat_0=52 +lon_0=10"; a '
            'spacing has a unit: "10 km", "0.25 degrees".'
        ) from error
    return crs


def crs_of_mapping(attrs: Mapping[str, Any]) -> "CRS | None":
    """Read the attributes of a CF grid mapping variable.

    Parameters
    ----------
    attrs : mapping
        ``grid_mapping_name`` and its parameters, or ``crs_wkt``.

    Returns
    -------
    pyproj.CRS or None
        None for true latitude and longitude, and where nothing is said.

    Raises
    ------
    GridError
        pyproj cannot make sense of them.
    """
    text = attrs.get("crs_wkt", attrs.get("spatial_ref"))
    if not text and "grid_mapping_name" not in attrs:
        return None
    pyproj = _pyproj()
    try:
        crs: CRS = pyproj.CRS.from_wkt(text) if text else pyproj.CRS.from_cf(attrs)
    except (pyproj.exceptions.CRSError, KeyError) as error:
        name = attrs.get("grid_mapping_name", "crs_wkt")
        raise GridError(
            f"cannot read the grid mapping {name!r}: {error}. Correct its attributes, "
            "or write them anew: ds.crs.attrs = pyproj.CRS(...).to_cf()."
        ) from error
    return None if crs.is_geographic and not crs.is_derived else crs


def is_crs(value: object) -> "TypeGuard[CRS]":
    """Tell whether a value is a pyproj CRS; pyproj need not be installed for that."""
    return hasattr(value, "to_wkt") and hasattr(value, "is_projected")


def local_crs(lat: float, lon: float) -> "CRS":
    """Return the equal-area projection around a place, on the sphere of `cells`.

    Areas are those of the latitudes and longitudes exactly; shapes are too at the
    place itself, and a distance c from it lengths are off by 1 / cos(c / 2).

    Parameters
    ----------
    lat, lon : float
        The place, in degrees.
    """
    # from a proj string pyproj would write no grid_mapping_name
    crs: CRS = _pyproj().CRS.from_cf(
        {
            "grid_mapping_name": "lambert_azimuthal_equal_area",
            "latitude_of_projection_origin": lat,
            "longitude_of_projection_origin": lon,
            "earth_radius": EARTH_RADIUS_M,
        }
    )
    return crs


def transform(
    x: Floats, y: Floats, source: "CRS | None", target: "CRS | None"
) -> tuple[Floats, Floats]:
    """Carry coordinates from one system to another.

    Parameters
    ----------
    x, y : ndarray, any shape
        Eastward and northward: degrees, or metres.
    source, target : pyproj.CRS or None
        At least one projection or rotated pole; None is latitude and longitude.

    Returns
    -------
    tuple of ndarray, same shape
        NaN where the projection is not defined.
    """
    pair = [source or _below(target), target or _below(source)]
    transformer = _pyproj().Transformer.from_crs(*pair, always_xy=True)
    into, out = (metres_per_unit(crs) for crs in pair)
    u, v = transformer.transform(x / into, y / into)
    bad = ~(np.isfinite(u) & np.isfinite(v))
    return np.where(bad, np.nan, u * out), np.where(bad, np.nan, v * out)


def metres_per_unit(crs: "CRS") -> float:
    """Return how many metres the unit of a projection's coordinates has; 1 for angles.

    Parameters
    ----------
    crs : pyproj.CRS
    """
    axis = crs.axis_info[0] if crs.is_projected and crs.axis_info else None
    return float(axis.unit_conversion_factor) if axis else 1.0


def _below(crs: "CRS | None") -> Any:
    """Return the latitudes and longitudes of which a system is made."""
    assert crs is not None, "two systems of latitude and longitude need no transform"
    while crs.is_derived and crs.source_crs is not None:
        crs = crs.source_crs
    return crs.geodetic_crs or crs


def _pyproj() -> ModuleType:
    pyproj = importlib.import_module("pyproj")
    importlib.import_module("pyproj.exceptions")
    return pyproj
