"""Where fields lie: axes in km, in degrees, or on the map's own projection.

A field that knows its grid mapping is drawn on that projection, with a graticule, where
cartopy can be imported. Coastlines are added if Natural Earth's are on the disk
already: nothing is downloaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xstsr.cf.meaning import Meaning
from xstsr.errors import GridError
from xstsr.geometry.projections import crs_of_mapping
from xstsr.plot.style import FRAME, INK
from xstsr.typing import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_LEAST_SIDE = 0.45  # of a panel's longer side, so that a narrow field can be seen
_SPHERE_LABELS = {
    "latitude": "latitude [°N]",
    "longitude": "longitude [°E]",
    "grid_latitude": "grid latitude [°]",
    "grid_longitude": "grid longitude [°]",
}


@dataclass(frozen=True, eq=False)
class Place:
    """The axes on which fields are drawn.

    Parameters
    ----------
    origin : tuple of float
        (y, x) that the axes count from, in the coordinates' unit.
    unit : float
        Coordinates' units per unit of the axes.
    labels : tuple of str
        Of the y and the x axis.
    extent : tuple of float
        (x0, x1, y0, y1) in the units of the axes.
    aspect : float
        Length of a unit of y over that of x.
    projection : cartopy Projection or None
        Of the map, if there is one.
    """

    origin: tuple[float, float]
    unit: float
    labels: tuple[str, str]
    extent: tuple[float, float, float, float]
    aspect: float
    projection: Any = None

    @property
    def shape(self) -> tuple[float, float]:
        """Height and width of a panel, the longer one 1."""
        x0, x1, y0, y1 = self.extent
        height, width = (y1 - y0) * self.aspect, x1 - x0
        longer = max(height, width)
        return max(height / longer, _LEAST_SIDE), max(width / longer, _LEAST_SIDE)

    def edges(self, meaning: Meaning) -> tuple[Floats, Floats]:
        """Edges of a field's cells along y and x, in the units of the axes."""
        y = (meaning.y_edges - self.origin[0]) / self.unit
        return y, (meaning.x_edges - self.origin[1]) / self.unit

    def prepare(self, axes: "Axes", *, outer: tuple[bool, bool]) -> None:
        """Set limits, aspect and labels.

        Parameters
        ----------
        axes : Axes
        outer : tuple of bool
            Whether the axes stand in the first column, and in the last row.
        """
        x0, x1, y0, y1 = self.extent
        if self.projection is not None:
            _prepare_map(axes, self.projection, self.extent, outer)
            return
        axes.set(xlim=(x0, x1), ylim=(y0, y1))
        axes.set_aspect(self.aspect, adjustable="box")
        axes.locator_params(nbins=4)
        axes.tick_params(labelleft=outer[0], labelbottom=outer[1])
        if outer[0]:
            axes.set_ylabel(self.labels[0], labelpad=1.5)
        if outer[1]:
            axes.set_xlabel(self.labels[1], labelpad=1.5)


def place_of(meaning: Meaning, *, on_map: bool = True) -> Place:
    """Find the axes for a field: on its map, else in km from its corner or in degrees.

    Parameters
    ----------
    meaning : Meaning
        Of the field.
    on_map : bool
        Whether to look for a projection.
    """
    y, x = meaning.y_edges, meaning.x_edges
    metres = meaning.metres_per_unit
    is_sphere = meaning.geometry == "sphere"
    on_sphere = 0.0, 0.0, 1.0
    corner = float(y.min()), float(x.min()), 1000 / metres
    whole = on_sphere if is_sphere else (0.0, 0.0, 1 / metres)
    projection = _projection(meaning, _extent(y, x, *whole)) if on_map else None
    if projection is None:
        whole = on_sphere if is_sphere else corner
    aspect = 1.0
    if projection is None and _standard_name(meaning, meaning.y_dim) == "latitude":
        # a degree of longitude is shorter than one of latitude
        aspect = 1.0 / max(float(np.cos(np.deg2rad(y.mean()))), 0.1)
    labels = [
        _sphere_label(meaning, dim) if is_sphere else f"{letter} [km]"
        for letter, dim in (("y", meaning.y_dim), ("x", meaning.x_dim))
    ]
    return Place(
        whole[:2],
        whole[2],
        (labels[0], labels[1]),
        _extent(y, x, *whole),
        aspect,
        projection,
    )


def _extent(
    y: Floats, x: Floats, y0: float, x0: float, unit: float
) -> tuple[float, float, float, float]:
    """Limits (x0, x1, y0, y1) of cells, counted from an origin in a unit."""
    return (
        float(x.min() - x0) / unit,
        float(x.max() - x0) / unit,
        float(y.min() - y0) / unit,
        float(y.max() - y0) / unit,
    )


def _standard_name(meaning: Meaning, dim: str) -> str:
    coord = meaning.coords.get(dim)
    attrs: Mapping[str, Any] = {} if coord is None else coord.attrs
    name = str(attrs.get("standard_name", ""))
    if not name and str(attrs.get("units", "")).startswith(("degrees_n", "degree_n")):
        return "latitude"
    if not name and str(attrs.get("units", "")).startswith(("degrees_e", "degree_e")):
        return "longitude"
    return name or {"lat": "latitude", "lon": "longitude"}.get(dim, dim)


def _sphere_label(meaning: Meaning, dim: str) -> str:
    name = _standard_name(meaning, dim)
    return _SPHERE_LABELS.get(name, f"{dim} [°]")


def _projection(meaning: Meaning, extent: tuple[float, float, float, float]) -> Any:
    """Turn the grid mapping into cartopy's projection, if both are there."""
    mapping = meaning.coords.get(meaning.grid_mapping or "")
    if mapping is None or not _has_cartopy():
        return None
    import cartopy.crs

    attrs = dict(mapping.attrs)
    try:
        if attrs.get("grid_mapping_name") == "rotated_latitude_longitude":
            return cartopy.crs.RotatedPole(
                float(attrs["grid_north_pole_longitude"]),
                float(attrs["grid_north_pole_latitude"]),
                float(attrs.get("north_pole_grid_longitude", 0.0)),
            )
        crs = crs_of_mapping(attrs)
    except (GridError, KeyError):
        return None  # a mapping that cannot be read: the axes stay plain
    if crs is None or not crs.is_projected:
        return None
    projection = cartopy.crs.Projection(crs)
    x0, x1, y0, y1 = extent
    # without an area of use, cartopy does not know how far a projection goes
    projection.bounds = extent
    projection.threshold = max(x1 - x0, y1 - y0) / 200
    return projection


@lru_cache(maxsize=1)
def _has_cartopy() -> bool:
    try:
        import cartopy.crs  # noqa: F401
    except ImportError:
        return False
    return True


def _prepare_map(
    axes: Any,
    projection: Any,
    extent: tuple[float, float, float, float],
    outer: tuple[bool, bool],
) -> None:
    """Set the extent of a map; draw its graticule, labelled on the outer sides."""
    axes.set_extent(extent, crs=projection)
    lines = axes.gridlines(
        draw_labels={"left": "y", "bottom": "x"},
        x_inline=False,
        y_inline=False,
        linewidth=0.4,
        color=FRAME,
        alpha=0.7,
    )
    lines.left_labels, lines.bottom_labels = outer
    lines.rotate_labels = False
    for style in (lines.xlabel_style, lines.ylabel_style):
        style.update(size=7.5, color=INK)
    from matplotlib.ticker import FixedLocator

    x0, x1, y0, y1 = extent
    # longitudes are read at the lower edge, latitudes at the left one
    lower = np.linspace(x0, x1, 9), np.full(9, y0)
    left = np.full(9, x0), np.linspace(y0, y1, 9)
    lines.xlocator = FixedLocator(_round_values(_lon_lat(projection, *lower)[:, 0], 2))
    lines.ylocator = FixedLocator(_round_values(_lon_lat(projection, *left)[:, 1], 3))
    if _has_coastlines():
        axes.coastlines(resolution="10m", linewidth=0.6, color=INK)


def _lon_lat(projection: Any, x: Floats, y: Floats) -> Floats:
    """Transform points of a projection to degrees, shape (N, 2)."""
    import cartopy.crs

    points: Floats = cartopy.crs.PlateCarree().transform_points(projection, x, y)
    return points[:, :2]


def _round_values(along: Floats, count: int) -> list[float]:
    """Choose round values well inside the range of those along an edge."""
    from matplotlib.ticker import MaxNLocator

    known = along[np.isfinite(along)]
    if not known.size or np.ptp(known) > 180:  # across the date line or round the pole
        return [float(degrees) for degrees in range(-180, 181, 30)]
    low, high = float(known.min()), float(known.max())
    margin = 0.1 * (high - low)
    inside: list[float] = []
    for bins in range(count, count + 4):
        ticks = np.asarray(MaxNLocator(bins).tick_values(low, high), dtype=np.float64)
        kept = (ticks > low + margin) & (ticks < high - margin)
        inside = ticks[kept].tolist()
        if len(inside) >= 2:
            break
    return inside


@lru_cache(maxsize=1)
def _has_coastlines() -> bool:
    """Whether Natural Earth's coastlines are on the disk: they are not fetched."""
    from cartopy import config

    folders = (config["pre_existing_data_dir"], config["data_dir"])
    name = "shapefiles/natural_earth/physical/ne_10m_coastline.shp"
    return any(folder and (Path(folder) / name).is_file() for folder in folders)
