"""`Meaning`: what the metadata of one coarse field mean, as plain values.

`xstsr.cf.read` builds it, the pipeline computes with it and `xstsr.cf.write` turns
arrays back into labelled fields with it. Here are only the quantities that follow from
it by arithmetic: step lengths, areas, spacing, factors to mm h-1.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from xstsr.cf.cell_methods import CellMethod
from xstsr.cf.units import to_mm, to_mm_per_hour
from xstsr.errors import CFError
from xstsr.factors import sides
from xstsr.geometry.cells import (
    EARTH_RADIUS_M,
    areas_m2,
    centers,
    refine_edges,
    spacing_km,
)
from xstsr.geometry.globe import globe_of
from xstsr.typing import Constraint, Floats, Geometry, Kind, Label, Micros, Space

if TYPE_CHECKING:
    import xarray as xr


# standard names of states that have a zero and nothing below it; not their changes
_NEVER_NEGATIVE = re.compile(
    r"(?!tendency_|change_|product_).*?(wind_speed|humidity|mixing_ratio|"
    r"(mass|mole|volume|area)_fraction|_concentration|mass_content|optical_thickness|"
    r"(surface_snow|ice)_(amount|thickness|area|depth)|downwelling_\w+_flux|visibility)"
    r"(?!.*(anomaly|difference|standard_error))"
)


HOUR = 3_600_000_000


@dataclass(frozen=True, eq=False)
class Meaning:
    """What the metadata of one coarse DataArray mean."""

    name: str | None
    """Name of the variable."""
    dims: tuple[str, ...]
    """Dimensions in the order of the input."""
    time_dim: str
    """Dimension of time."""
    y_dim: str
    """Dimension that runs north-south (or along projected y)."""
    x_dim: str
    """Dimension that runs east-west (or along projected x)."""
    extra_dims: tuple[str, ...]
    """All other dimensions, in the order of the input: height, realization, ..."""
    kind: Kind
    """Mean rate of water, amount of water summed over the step, or another mean."""
    point: bool
    """Whether values are instantaneous: cell_methods say ``time: point``."""
    units: str
    """The user's unit string, unchanged; empty when a state has none."""
    time_edges: Micros
    """Contiguous cell edges, shape (T + 1,), microseconds since 1970-01-01."""
    time_label: Label
    """Which part of a step its label is."""
    step_known: bool
    """Whether the step length is known; False for a single time without bounds."""
    calendar: str | None
    """cftime calendar, or None for numpy's datetime64."""
    resolution: str
    """Resolution of the input's datetime64: "s", "ms", "us" or "ns"."""
    y_edges: Floats
    """Cell edges, shape (Y + 1,), in the coordinate's unit and direction."""
    x_edges: Floats
    """Cell edges, shape (X + 1,), in the coordinate's unit and direction."""
    geometry: Geometry
    """Whether cells lie on the sphere (degrees) or in a plane (lengths)."""
    metres_per_unit: float
    """Length of the spatial coordinates' unit in metres; 1 on the sphere."""
    cell_methods: tuple[CellMethod, ...]
    """What was done to the data before, parsed."""
    grid_mapping: str | None
    """Name of the grid mapping variable."""
    bounds_names: Mapping[str, str] = field(default_factory=dict)
    """Names of the input's bounds variables, by coordinate."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """Attributes of the input."""
    coords: "Mapping[str, xr.Variable]" = field(default_factory=dict)
    """Coordinates of the input."""
    notes: tuple[str, ...] = ()
    """Everything that was inferred or assumed, one sentence each."""
    pint_units: Any = None
    """Unit of a pint-quantified input, which comes back quantified; else None."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the coarse sizes (T, Y, X)."""
        return self.time_edges.size - 1, self.y_edges.size - 1, self.x_edges.size - 1

    @property
    def statistic(self) -> str:
        """Return what holds in time, for cell_methods: "sum", "point" or "mean"."""
        return "sum" if self.kind == "amount" else "point" if self.point else "mean"

    @property
    def constraint(self) -> Constraint:
        """Return how values are corrected: by gains, where none may be negative."""
        standard_name = str(self.attrs.get("standard_name", ""))
        never_negative = self.kind != "state" or _NEVER_NEGATIVE.match(standard_name)
        return "multiplicative" if never_negative else "additive"

    @property
    def core_dims(self) -> tuple[str, str, str]:
        """Return the dimensions of time, y and x."""
        return self.time_dim, self.y_dim, self.x_dim

    @property
    def spacing_km(self) -> float:
        """Return the representative spacing of the coarse cells in km."""
        return spacing_km(
            self.y_edges, self.x_edges, self.geometry, self.metres_per_unit
        )

    @property
    def sides_km(self) -> tuple[Floats, Floats]:
        """Return heights and widths of the cells of each row, shape (Y,), in km."""
        heights = np.abs(np.diff(self.y_edges))
        widths = np.full(heights.shape, np.median(np.abs(np.diff(self.x_edges))))
        unit = self.metres_per_unit / 1000
        if self.geometry == "sphere":
            unit = np.deg2rad(EARTH_RADIUS_M) / 1000
            widths = widths * np.cos(np.deg2rad(centers(self.y_edges)))
        return heights * unit, widths * unit

    def longer_side_km(self, sy: int = 1, sx: int = 1) -> float:
        """Return the longer side of a typical cell in km, which networks are told.

        Parameters
        ----------
        sy, sx : int
            Fine cells per cell, whose longer side it is then.
        """
        height, width = (float(np.median(sides)) for sides in self.sides_km)
        return max(height / sy, width / sx)

    @property
    def step_minutes(self) -> float:
        """Return the median length of the coarse steps in minutes (60 if unknown)."""
        return float(np.median(np.diff(self.time_edges)) / 60_000_000)

    @property
    def wraps(self) -> bool:
        """Whether longitude goes round the globe, so that east meets west."""
        return globe_of(self.y_edges, self.x_edges, self.geometry) is not None

    @property
    def rate_factor(self) -> Floats:
        """Return factors, shape (T,): coarse value times factor is mm h-1.

        Ones for a state, whose values are left in their own unit.
        """
        return self.fine_rate_factor(1)

    def fine_rate_factor(self, t: int) -> Floats:
        """Return factors from fine values to mm h-1; ones for a state.

        Parameters
        ----------
        t : int
            Fine steps per coarse step.

        Returns
        -------
        ndarray, shape (T * t,)
            ``fine value * factor`` is in mm h-1. For amounts it holds the length of
            each fine step.

        Raises
        ------
        CFError
            The step length is unknown and ``t`` is not 1.
        """
        hours = self.step_hours(t)
        if self.kind == "rate":
            return np.full(hours.shape, to_mm_per_hour(self.units))
        if self.kind == "amount":
            return to_mm(self.units) / hours
        return np.ones(hours.shape)

    def fine_time_edges(self, t: int) -> Micros:
        """Return the edges of the fine steps.

        Parameters
        ----------
        t : int
            Fine steps per coarse step.

        Returns
        -------
        ndarray, shape (T * t + 1,)
            Microseconds; every t-th is a coarse edge.

        Raises
        ------
        CFError
            The step length is unknown and ``t`` is not 1.
        """
        if t != 1 and not self.step_known:
            raise CFError(
                f"cannot split the single time of {self.name!r} into {t} steps: "
                f"{self.time_dim!r} has one label and no bounds, so the length of the "
                "step is unknown. Use t=1, pass more times, or a Dataset with time "
                "bounds: ds.stsr.upscale(...)."
            )
        return refine_edges(self.time_edges, t)

    def step_hours(self, t: int = 1) -> Floats:
        """Return the lengths of the fine steps.

        Parameters
        ----------
        t : int
            Fine steps per coarse step.

        Returns
        -------
        ndarray, shape (T * t,)
            Hours.

        Raises
        ------
        CFError
            The step length is unknown and ``t`` is not 1.
        """
        return np.diff(self.fine_time_edges(t)) / HOUR

    def area(self, s: Space = 1) -> Floats:
        """Return the areas of the fine cells.

        Parameters
        ----------
        s : int or tuple of int
            Fine cells per coarse cell along both sides, or along y and x.

        Returns
        -------
        ndarray, shape (Y * sy, X * sx)
            Areas in m2.
        """
        sy, sx = sides(s)
        y, x = refine_edges(self.y_edges, sy), refine_edges(self.x_edges, sx)
        return areas_m2(y, x, self.geometry, self.metres_per_unit)
