"""Figures about an ensemble: spectra, ranks, spread, and the mass receipt."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xstsr.conservation.balance import check
from xstsr.errors import DataError
from xstsr.plot.curves import (
    Line,
    draw_ranks,
    draw_spatial,
    draw_spread_error,
    draw_temporal,
    empty,
)
from xstsr.plot.maps import place_of
from xstsr.plot.series import Series, load, read, thinned
from xstsr.plot.style import (
    FRAME,
    INK,
    LABEL,
    SMALL,
    TITLE,
    Scale,
    colour_bar,
    draw_field,
    new_figure,
    note,
    robust_scale,
    save,
    symmetric_scale,
    tidy,
)
from xstsr.typing import Floats
from xstsr.verification import diagnostics
from xstsr.verification.scores import WET
from xstsr.verification.spectra import spatial_spectrum, temporal_spectrum

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROMISE = 1e-5  # largest relative residual of a cell, in float32
_RAIN = {"mm h-1": WET, "mm d-1": 24 * WET}


def spectra(
    fine: xr.DataArray,
    coarse: xr.DataArray | None = None,
    truth: xr.DataArray | None = None,
    *,
    path: str | Path | None = None,
) -> "Figure":
    """Draw the power spectra in space and in time.

    Thin lines are single realizations, the thick one their mean. The coarse field's
    spectrum ends where its grid does; what lies beyond, the refinement has made.

    Parameters
    ----------
    fine : DataArray
        From `xstsr.upscale`; all of it is brought to memory.
    coarse, truth : DataArray, optional
        What was refined, and what should have come out.
    path : str or Path, optional
        Write the picture there, in the format of the suffix (.png, .pdf, .svg).

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    DataError, UnitError, PlotError
        As `xstsr.plot.compare`.

    Examples
    --------
    >>> import xstsr
    >>> truth = xstsr.open_demo().rainfall_amount[:6, :40, :30]
    >>> coarse = truth.stsr.coarsen(s=5, t=3)
    >>> fine = coarse.stsr.upscale(s=5, t=3, method="rainfarm", realizations=4)
    >>> figure = fine.stsr.plot.spectra(coarse, truth)
    >>> [axes.get_title() for axes in figure.axes]
    ['power spectrum in space', 'power spectrum in time']
    """
    series = read(fine, "fine")
    others = {"coarse": coarse, "truth": truth}
    fields = {"fine": load([series.data])[0]}
    given = {"fine": series}
    for name, field in others.items():
        if field is not None:
            given[name] = read(field, name, series.units)
            fields[name] = load([given[name].data])[0]
    space = {name: _spatial(fields[name], given[name]) for name in given}
    time = {name: _temporal(fields[name], given[name]) for name in given}
    figure = new_figure(3.3)
    axes = figure.subplots(1, 2)
    rough = given.get("coarse")
    draw_spatial(
        axes[0],
        _means(space),
        series.units,
        limit=2 * rough.meaning.spacing_km if rough else None,
        faint=_singles(space["fine"]),
    )
    draw_temporal(
        axes[1],
        _means(time),
        series.units,
        limit=2 * rough.meaning.step_minutes if rough and rough.steps > 1 else None,
        faint=_singles(time["fine"]),
    )
    save(figure, path)
    return figure


def rank_histogram(
    fine: xr.DataArray, truth: xr.DataArray, *, path: str | Path | None = None
) -> "Figure":
    """Draw how often the truth has each rank among the realizations.

    Flat for a reliable ensemble, a U for one that is too narrow, a hump for one that
    is too wide. For rain, pixels count where the truth or any realization is wet
    (0.1 mm/h or more).

    Parameters
    ----------
    fine : DataArray
        Realizations, two or more.
    truth : DataArray
        On the same grid and steps.
    path : str or Path, optional
        Write the picture there, in the format of the suffix (.png, .pdf, .svg).

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    DataError
        One realization, or different grids; else as `xstsr.plot.compare`.
    UnitError, PlotError
        As `xstsr.plot.compare`.

    Examples
    --------
    >>> import xstsr
    >>> truth = xstsr.open_demo().rainfall_amount[:6, :40, :30]
    >>> coarse = truth.stsr.coarsen(s=5, t=3)
    >>> fine = coarse.stsr.upscale(s=5, t=3, method="rainfarm", realizations=4)
    >>> fine.stsr.plot.rank_histogram(truth).axes[0].get_title()
    'rank of the truth among 4 realizations'
    """
    series, ensemble, known = _ensemble_and_truth(fine, truth)
    shares = diagnostics.rank_histogram(ensemble, known, _RAIN.get(series.units))
    figure = new_figure(3.0, 5.5)
    draw_ranks(figure.subplots(), shares)
    save(figure, path)
    return figure


def spread(
    fine: xr.DataArray,
    truth: xr.DataArray | None = None,
    *,
    path: str | Path | None = None,
) -> "Figure":
    """Draw where the realizations differ, and whether by as much as they err.

    At the left the standard deviation of the realizations, its mean square taken over
    time. At the right, with a truth, the error of the mean in ten bins of the spread;
    without, the spread of every step beside the mean.

    Parameters
    ----------
    fine : DataArray
        Realizations, two or more.
    truth : DataArray, optional
        On the same grid and steps.
    path : str or Path, optional
        Write the picture there, in the format of the suffix (.png, .pdf, .svg).

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    DataError
        One realization, or different grids; else as `xstsr.plot.compare`.
    UnitError, PlotError
        As `xstsr.plot.compare`.

    Examples
    --------
    >>> import xstsr
    >>> truth = xstsr.open_demo().rainfall_amount[:6, :40, :30]
    >>> coarse = truth.stsr.coarsen(s=5, t=3)
    >>> fine = coarse.stsr.upscale(s=5, t=3, method="rainfarm", realizations=4)
    >>> fine.stsr.plot.spread(truth).axes[1].get_title()
    'spread and error'
    """
    series, ensemble, known = _ensemble_and_truth(fine, truth)
    variance = ensemble.var(axis=0, ddof=1)
    field = np.sqrt(_mean(variance, (0,)))
    figure = new_figure(3.5)
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    title = "spread (standard deviation)"
    scale = robust_scale([field], series.units, least=0.0)
    _map(figure, left, field, series, scale, title)
    if truth is not None:
        draw_spread_error(
            right, *diagnostics.spread_error(ensemble, known), series.units
        )
    else:
        _draw_spread_in_time(right, ensemble, variance, series)
    save(figure, path)
    return figure


def receipt(
    fine: xr.DataArray, coarse: xr.DataArray, *, path: str | Path | None = None
) -> "Figure":
    """Draw the mass receipt: what each coarse cell has gained or lost.

    At the left the residual that is largest over time and realizations, with its sign.
    At the right how many cells and steps have which relative residual, beside the 1e-5
    that ``conserve="cell"`` promises.

    Parameters
    ----------
    fine, coarse : DataArray
        As in `xstsr.check`.
    path : str or Path, optional
        Write the picture there, in the format of the suffix (.png, .pdf, .svg).

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    GridError
        The grids do not match.
    DataError, PlotError
        As `xstsr.plot.compare`.

    Examples
    --------
    >>> import xstsr
    >>> truth = xstsr.open_demo().rainfall_amount[:6, :40, :30]
    >>> coarse = truth.stsr.coarsen(s=5, t=3)
    >>> fine = coarse.stsr.upscale(s=5, t=3, method="rainfarm", realizations=4)
    >>> fine.stsr.plot.receipt(coarse).axes[0].get_title()
    'largest residual of each cell'
    """
    slip = check(fine, coarse)
    rough = read(coarse, "coarse")
    data, core = slip.dataset, slip.meaning.core_dims
    gained = data["water"] if "water" in data else data["residual"]
    flat = np.asarray(gained.transpose(..., *core)).reshape(-1, *slip.meaning.shape[1:])
    size = np.abs(np.nan_to_num(flat))
    largest = np.take_along_axis(flat, size.argmax(axis=0)[None], axis=0)[0]
    figure = new_figure(3.4)
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    scale = symmetric_scale(largest, f"{gained.attrs['units']} in a step")
    if "water" not in data:
        scale = symmetric_scale(largest, slip.meaning.units)
    _map(figure, left, largest, rough, scale, "largest residual of each cell")
    value = abs(data["coarse"])
    relative = (abs(data["residual"]) / value).where(value > 1e-6 * value.max())
    _draw_relative(right, np.asarray(relative).ravel())
    note(
        figure,
        f"largest residual {np.nan_to_num(slip.largest):.2g} {slip.meaning.units}; "
        f"cells that lost their data: {slip.lost}",
    )
    save(figure, path)
    return figure


def _ensemble_and_truth(
    fine: xr.DataArray, truth: xr.DataArray | None
) -> tuple[Series, Floats, Floats]:
    """Load realizations, shape (M, T, Y, X), and truth; zeros where there is none."""
    series = read(fine, "fine")
    if series.realizations < 2:
        raise DataError(
            f"cannot judge the spread of {series.realizations} realization of "
            f"{series.meaning.name!r}: upscale with realizations=8, say."
        )
    if truth is None:
        ensemble = load([series.data])[0]
        return series, ensemble, np.zeros(ensemble.shape[1:])
    known = read(truth, "truth", series.units)
    if known.meaning.shape != series.meaning.shape:
        raise DataError(
            f"cannot compare realizations of shape {series.meaning.shape} (time, y, x) "
            f"with a truth of {known.meaning.shape}. Bring them to one grid first, "
            "with .stsr.coarsen(s, t)."
        )
    ensemble, field = load([series.data, known.data])
    return series, ensemble, field[0]


def _spatial(fields: Floats, series: Series) -> tuple[Floats, Floats]:
    """Wavelengths, shape (K,), and the power of each realization, shape (M, K)."""
    pairs = [spatial_spectrum(one, series.meaning.spacing_km) for one in fields]
    return pairs[0][0], np.stack([power for _, power in pairs])


def _temporal(fields: Floats, series: Series) -> tuple[Floats, Floats]:
    """Periods, shape (K,), and the power of each realization, shape (M, K)."""
    step = series.meaning.step_minutes
    pairs = [temporal_spectrum(one, step) for one in fields]
    return pairs[0][0], np.stack([power for _, power in pairs])


def _means(curves: dict[str, tuple[Floats, Floats]]) -> dict[str, Line]:
    return {name: (x, power.mean(axis=0)) for name, (x, power) in curves.items()}


def _singles(curves: tuple[Floats, Floats]) -> list[Line]:
    x, power = curves
    return [(x, one) for one in power] if len(power) > 1 else []


def _mean(values: Floats, axes: tuple[int, ...]) -> Floats:
    """Average what is known; NaN where nothing is."""
    known = np.isfinite(values)
    total, count = np.where(known, values, 0.0).sum(axis=axes), known.sum(axis=axes)
    mean: Floats = np.where(count, total / np.maximum(count, 1), np.nan)
    return mean


def _map(
    figure: "Figure", axes: Any, field: Floats, series: Series, scale: Scale, title: str
) -> None:
    """Draw one field with its own colour bar."""
    place = place_of(series.meaning, on_map=False)
    values, y, x, width = thinned(field, *place.edges(series.meaning))
    mesh = draw_field(axes, values, y, x, scale)
    place.prepare(axes, outer=(True, True))
    blocks = f", means of {width} x {width} cells" if width > 1 else ""
    axes.set_title(title + blocks, fontsize=TITLE, color=INK)
    colour_bar(figure, axes, mesh, scale)


def _draw_spread_in_time(
    axes: Any, ensemble: Floats, variance: Floats, series: Series
) -> None:
    """Draw the area's mean and spread at every step."""
    mean = _mean(ensemble, (0, 2, 3))
    axes.set_title("spread in time", fontsize=TITLE, color=INK)
    if not np.isfinite(mean).any():
        empty(axes, "no data")
        return
    deviation = np.sqrt(_mean(variance, (1, 2)))
    edges = series.meaning.time_edges
    hours = (edges[:-1] - edges[0]) / 3.6e9
    axes.plot(hours, mean, color=INK, linewidth=1.5, label="mean of the area")
    axes.plot(hours, deviation, "o-", markersize=3, label="spread, a pixel's")
    axes.set_xlabel(f"hours since {' '.join(series.period(0)).split(chr(0x2013))[0]}")
    axes.set_ylabel(f"[{series.units}]")
    axes.legend(fontsize=SMALL, frameon=False, labelcolor=INK)
    tidy(axes)


def _draw_relative(axes: Any, relative: NDArray[Any]) -> None:
    """Draw how many cells have which relative residual."""
    axes.set_title("residual over the cell's own value", fontsize=TITLE, color=INK)
    known = relative[np.isfinite(relative)]
    exact = int((known == 0).sum())
    if exact == known.size:
        empty(axes, f"all {known.size} are exactly zero" if exact else "no wet cell")
        return
    decades = np.log10(known[known > 0])
    low = min(float(np.floor(decades.min())), -8.0)
    high = max(float(np.ceil(decades.max())), -4.0)
    axes.hist(decades, bins=np.arange(low, high + 0.25, 0.25), color="#0072b2")
    axes.axvline(np.log10(PROMISE), color="#d55e00", linewidth=1.4)
    axes.annotate(
        "promised",
        (np.log10(PROMISE), 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-3, -4),
        textcoords="offset points",
        rotation=90,
        ha="right",
        va="top",
        fontsize=SMALL,
        color="#d55e00",
    )
    ticks = np.arange(low, high + 1, 2 if high - low > 6 else 1)
    axes.set_xticks(ticks, labels=[f"$10^{{{tick:.0f}}}$" for tick in ticks])
    axes.set_ylabel("cells and steps")
    if exact:
        axes.set_xlabel(f"relative residual ({exact} are exactly 0)")
    else:
        axes.set_xlabel("relative residual")
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    tidy(axes)
    axes.spines["left"].set_color(FRAME)
    axes.yaxis.label.set_fontsize(LABEL)
