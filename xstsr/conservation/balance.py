r"""The water balance of labelled fields: coarsen, conserve, check.

`coarsen` is the exact inverse of refinement: rates are averaged over area and time,
amounts summed over time. `conserve` makes any fine field agree with a coarse one;
`check` says how well it does, in physical units.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import xarray as xr

from xstsr.cf.coords import coarsened, dequantify, interpolate_instants, requantify
from xstsr.cf.meaning import Meaning
from xstsr.cf.read import bounds_of, factors_between, read_meaning
from xstsr.cf.write import extend_history, relabel_coarse, to_dataset
from xstsr.conservation.blocks import block_mean, map_blocks, map_pairs
from xstsr.conservation.constraint import conserve as conserve_blocks
from xstsr.conservation.receipt import Receipt, depth_of_unit
from xstsr.errors import AssumptionWarning, XstsrError
from xstsr.factors import in_words, read_factor, space_of
from xstsr.geometry.cells import side_lengths
from xstsr.typing import Array, Constraint, Space


def coarsen(
    da: xr.DataArray,
    s: Space,
    t: int = 1,
    *,
    cell_methods: str | None = None,
    label: str | None = None,
) -> xr.DataArray:
    """Average blocks of s by s cells and t steps; amounts are summed in time.

    Means are weighted by cell area and step length; missing pixels are left out, and
    a block without any stays missing. Several snapshots (``time: point``) make a mean;
    to have snapshots again, take every t-th and coarsen in space alone. Of an
    upscaled field it gives the coarse one: to 1e-5 of each value in float32 and to
    1e-12 in float64, with bounds or without; cells known by labels in float32 alone
    allow 1e-5. Decimal labels come back bit for bit,
    others to their rounding; where a label was not the middle of its cell (a Gaussian
    grid), the middle comes back.

    Parameters
    ----------
    da : DataArray
        Fine field; chunked input stays lazy.
    s : int or tuple of int
        Fine cells per coarse cell along both spatial axes, or along y and x.
    t : int
        Fine steps per coarse step.
    cell_methods, label : str, optional
        As in `upscale`.

    Returns
    -------
    DataArray
        Dimensions and units as the input's, with CF coordinates of the coarse grid.

    Raises
    ------
    GridError
        The factors do not divide the sizes.

    Examples
    --------
    >>> import xstsr
    >>> rain = xstsr.open_demo().rainfall_amount[:30, :45, :35]
    >>> rain.stsr.coarsen(s=5, t=3).shape
    (10, 9, 7)
    """
    return _coarsen(da, _read(da, cell_methods, label), s, t)


def coarsen_dataset(
    ds: xr.Dataset,
    name: str,
    s: Space,
    t: int = 1,
    *,
    cell_methods: str | None = None,
    label: str | None = None,
) -> xr.Dataset:
    """Coarsen one variable of a Dataset, with its bounds; see `coarsen`.

    Returns
    -------
    Dataset
        The variable with bounds, cell areas and grid mapping of the coarse grid.
    """
    bounds = bounds_of(ds, name)
    meaning = _read(ds[name], cell_methods, label, bounds)
    coarse = _coarsen(ds[name], meaning, s, t)
    return to_dataset(coarse, ds, coarsened(meaning, s, t), 1, 1)


def _coarsen(da: xr.DataArray, meaning: Meaning, s: Space, t: int) -> xr.DataArray:
    """Average a field whose meaning is known."""
    factor = read_factor(s, t)
    t, s = factor[0], space_of(factor)
    coarsened(meaning, s, t)  # refuses factors that do not divide
    plain, _ = dequantify(da)
    plain = plain.transpose(*meaning.extra_dims, *meaning.core_dims)
    is_amount = meaning.kind == "amount"
    average = _Average(_Sides.of(meaning, equal_steps=is_amount), factor, is_amount)
    data = map_blocks(average, plain.data, factor)
    return relabel_coarse(
        data,
        meaning,
        s,
        t,
        provenance={"operation": "coarsen", "version": version("xstsr")},
    )


def conserve(
    fine: xr.DataArray,
    coarse: xr.DataArray,
    *,
    cell_methods: str | None = None,
    label: str | None = None,
) -> xr.DataArray:
    """Make a fine field, of any origin, agree with a coarse one cell by cell.

    Parameters
    ----------
    fine : DataArray
        On a grid that splits each coarse cell and step evenly; further dimensions,
        such as ``realization``, are free. Chunked input stays lazy.
    coarse : DataArray
        Whose water is to be kept.
    cell_methods, label : str, optional
        As in `upscale`, for both fields.

    Returns
    -------
    DataArray
        As `fine`; `coarsen` of it gives `coarse`.

    Raises
    ------
    GridError
        The grids do not match.

    Examples
    --------
    >>> import xstsr
    >>> truth = xstsr.open_demo().rainfall_amount[:6, :40, :30]
    >>> coarse = truth.stsr.coarsen(s=5, t=3)
    >>> wrong = (1.2 * truth).assign_attrs(truth.attrs)
    >>> conserve(wrong, coarse).stsr.check(coarse).relative < 1e-5
    True
    """
    return _conserve(_Pair.read(fine, coarse, cell_methods, label))


def conserve_dataset(
    fine: xr.Dataset,
    name: str,
    coarse: xr.Dataset,
    *,
    cell_methods: str | None = None,
    label: str | None = None,
) -> xr.Dataset:
    """Make one variable agree with that of a coarse Dataset; see `conserve`.

    Returns
    -------
    Dataset
        `fine` with the variable renewed.
    """
    bounds = bounds_of(fine, name), bounds_of(coarse, name)
    pair = _Pair.read(fine[name], coarse[name], cell_methods, label, *bounds)
    return fine.assign({name: _conserve(pair)})


def _conserve(pair: "_Pair") -> xr.DataArray:
    """Make the fine field of a pair agree with the coarse one."""
    rule = _Conserve(
        _Sides.of(pair.fine),
        pair.factor,
        pair.fine.fine_rate_factor(1),
        pair.coarse.rate_factor,
        pair.fine.constraint,
    )
    made = map_pairs(rule, pair.plain.data, pair.coarse_plain.data, pair.factor)
    out = pair.plain.copy(data=made)
    settings = {
        "operation": "conserve",
        "s": in_words(space_of(pair.factor)),
        "t": pair.factor[0],
        "version": version("xstsr"),
    }
    out.attrs["history"] = extend_history(out.attrs.get("history"), settings)
    return requantify(out.transpose(*pair.fine.dims), pair.fine.pint_units)


def check(
    fine: xr.DataArray,
    coarse: xr.DataArray,
    *,
    cell_methods: str | None = None,
    label: str | None = None,
) -> Receipt:
    """Compare the water of a fine field with that of a coarse one: the mass receipt.

    Parameters
    ----------
    fine, coarse : DataArray
        As in `conserve`.
    cell_methods, label : str, optional
        As in `upscale`, for both fields.

    Returns
    -------
    Receipt
        Prints as text, shows as a card in Jupyter; ``.dataset`` holds the residual of
        every coarse cell, in the units of `coarse` and, for water, in mm or kg m-2.

    Raises
    ------
    GridError
        The grids do not match.

    Examples
    --------
    >>> import xstsr
    >>> truth = xstsr.open_demo().rainfall_amount[:6, :40, :30]
    >>> coarse = truth.stsr.coarsen(s=5, t=3)
    >>> receipt = check(coarse.stsr.upscale(s=5, t=3, method="linear"), coarse)
    >>> receipt.relative < 1e-5, receipt.lost
    (True, 0)
    """
    return _check(_Pair.read(fine, coarse, cell_methods, label))


def check_dataset(
    fine: xr.Dataset,
    name: str,
    coarse: xr.Dataset,
    *,
    cell_methods: str | None = None,
    label: str | None = None,
) -> Receipt:
    """Compare one variable's water with that of a coarse Dataset; see `check`.

    Returns
    -------
    Receipt
        With the cells that the bounds of both tell, as on a Gaussian grid.
    """
    bounds = bounds_of(fine, name), bounds_of(coarse, name)
    return _check(_Pair.read(fine[name], coarse[name], cell_methods, label, *bounds))


def _check(pair: "_Pair") -> Receipt:
    """Compare the fine field of a pair with the coarse one."""
    rates = pair.fine_values() * pair.fine.fine_rate_factor(1)[:, None, None]
    means = block_mean(rates, pair.factor, pair.weights())
    target = pair.coarse_values().astype(np.float64)
    residual = means / pair.coarse.rate_factor[:, None, None] - target
    dims = (*pair.fine.extra_dims, *pair.coarse.core_dims)
    attrs = {"units": pair.coarse.units, "long_name": "fine minus coarse"}
    table = xr.Dataset(
        {
            "residual": (dims, residual, attrs),
            "coarse": (dims[-3:], target, {"units": pair.coarse.units}),
            "area": (dims[-2:], pair.coarse.area(), {"units": "m2"}),
        },
        {d: pair.coarse_plain[d] for d in pair.coarse.core_dims},
        {k: v for k, v in pair.plain.attrs.items() if k.startswith("xstsr_")},
    )
    if pair.coarse.kind != "state":
        column = depth_of_unit(pair.coarse)
        attrs = {"units": column.attrs["units"], "long_name": "water gained in a step"}
        table["water"] = (table.residual * column).transpose(*dims).assign_attrs(attrs)
    return Receipt(table, pair.coarse)


@dataclass(frozen=True, eq=False)
class _Sides:
    """Sides of the fine cells in time, y and x, each over its mean."""

    lengths: Array
    heights: Array
    widths: Array

    @classmethod
    def of(cls, meaning: Meaning, *, equal_steps: bool = False) -> "_Sides":
        """Take what is needed of a meaning, and no coordinates."""
        heights, widths = side_lengths(
            meaning.y_edges, meaning.x_edges, meaning.geometry
        )
        lengths = np.diff(meaning.time_edges).astype(np.float64)
        if equal_steps:
            lengths = np.ones_like(lengths)
        return cls(*(v / v.mean() for v in (lengths, heights, widths)))

    def weights(self, place: Sequence[slice]) -> Array:
        """Area times step length of the cells that lie at `place`."""
        time, y, x = place
        area = self.heights[y, None] * self.widths[x]
        weights: Array = self.lengths[time, None, None] * area
        return weights


@dataclass(frozen=True, eq=False)
class _Average:
    """Weighted block means of fields that may come in pieces; amounts are summed."""

    sides: _Sides
    factor: tuple[int, int, int]
    is_amount: bool

    def __call__(self, fine: Array, place: Sequence[slice]) -> Array:
        """Average one piece, shape (..., T t, Y s, X s), that lies at `place`."""
        mean: Array = block_mean(fine, self.factor, self.sides.weights(place))
        return mean * self.factor[0] if self.is_amount else mean


@dataclass(frozen=True, eq=False)
class _Conserve:
    """Conservation of fields that may come in pieces, in mm h-1."""

    sides: _Sides
    factor: tuple[int, int, int]
    fine_rate: Array
    coarse_rate: Array
    constraint: Constraint

    def __call__(self, fine: Array, coarse: Array, place: Sequence[slice]) -> Array:
        """Make one piece, shape (..., T t, Y s, X s), agree with its coarse cells."""
        t, time = self.factor[0], place[0]
        to_rate = self.fine_rate[time, None, None]
        to_coarse = self.coarse_rate[time.start // t : time.stop // t, None, None]
        rates = conserve_blocks(
            fine * to_rate,
            coarse * to_coarse,
            self.factor,
            weights=self.sides.weights(place),
            constraint=self.constraint,
        )
        made: Array = rates / to_rate
        return made


@dataclass(frozen=True, eq=False)
class _Pair:
    """A fine and a coarse field that lie on matching grids."""

    plain: xr.DataArray
    coarse_plain: xr.DataArray
    fine: Meaning
    coarse: Meaning
    factor: tuple[int, int, int]

    @classmethod
    def read(
        cls,
        fine: xr.DataArray,
        coarse: xr.DataArray,
        cell_methods: str | None,
        label: str | None,
        fine_bounds: Mapping[str, Array] | None = None,
        coarse_bounds: Mapping[str, Array] | None = None,
    ) -> "_Pair":
        """Read both, and check that they fit each other."""
        meanings = (
            _read(fine, cell_methods, label, fine_bounds),
            _read(coarse, cell_methods, label, coarse_bounds),
        )
        coarse, known = _at_the_times_of(meanings[0], coarse, meanings[1])
        meanings = meanings[0], known
        s, t = factors_between(*meanings)
        # rates and amounts are compared in mm h-1, states in their own unit
        kinds = {m.units if m.kind == "state" else m.kind for m in meanings}
        if len(kinds) > 1 or meanings[1].extra_dims:
            raise XstsrError(
                f"cannot compare {fine.name!r} ({meanings[0].kind} "
                f"[{meanings[0].units}]) with {coarse.name!r} ({meanings[1].kind} "
                f"[{meanings[1].units}], further dimensions "
                f"{meanings[1].extra_dims}): both must be rates, amounts or states of "
                "one unit, and the coarse one may have time, y and x alone. Select one "
                "field."
            )
        plain = dequantify(fine)[0].transpose(
            *meanings[0].extra_dims, *meanings[0].core_dims
        )
        coarse_plain = dequantify(coarse)[0].transpose(*meanings[1].core_dims)
        return cls(plain, coarse_plain, *meanings, read_factor(s, t))

    def fine_values(self) -> Array:
        """Values of shape (..., T t, Y s, X s)."""
        return np.asarray(self.plain.values)

    def coarse_values(self) -> Array:
        """Values of shape (T, Y, X)."""
        return np.asarray(self.coarse_plain.values)

    def weights(self) -> Array:
        """Area times step length of the fine cells; shape (T t, Y s, X s)."""
        area, length = self.fine.area(), self.fine.step_hours()
        weights: Array = (length / length.mean())[:, None, None] * (area / area.mean())
        return weights


def _at_the_times_of(
    fine: Meaning, coarse: xr.DataArray, known: Meaning
) -> tuple[xr.DataArray, Meaning]:
    """Interpolate coarse snapshots to the times of fine ones; leave means alone."""
    t = round(known.step_minutes / fine.step_minutes)
    if not (known.point and fine.point and t > 1):
        return coarse, known
    return interpolate_instants(coarse, known, t)


def _read(
    da: xr.DataArray,
    cell_methods: str | None,
    label: str | None,
    bounds: Mapping[str, Array] | None = None,
) -> Meaning:
    """Read a meaning; its assumptions were told when the field was first read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        return read_meaning(da, cell_methods=cell_methods, label=label, bounds=bounds)
