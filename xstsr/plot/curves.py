"""Curves and bars on axes that are given: what figures and reports have in common."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from xstsr.plot.style import ACCENT, FRAME, INK, LABEL, LINE_STYLES, SMALL, TITLE, tidy
from xstsr.typing import Floats

Line = tuple[Floats, Floats]

_PERIODS = (  # minutes, and what people call them
    (1.0, "1 min"),
    (2.0, "2 min"),
    (5.0, "5 min"),
    (10.0, "10 min"),
    (20.0, "20 min"),
    (30.0, "30 min"),
    (60.0, "1 h"),
    (120.0, "2 h"),
    (360.0, "6 h"),
    (720.0, "12 h"),
    (1440.0, "1 d"),
    (4320.0, "3 d"),
    (10080.0, "1 week"),
    (43200.0, "1 month"),
    (525960.0, "1 year"),
)


def draw_spatial(
    axes: Any,
    lines: Mapping[str, Line],
    units: str,
    *,
    limit: float | None = None,
    faint: Iterable[Line] = (),
) -> None:
    """Draw power against wavelength, long waves at the left.

    Parameters
    ----------
    axes : Axes
    lines : mapping of name to (wavelengths [km], power)
    units : str
        Of the field.
    limit : float, optional
        Shortest wavelength that the coarse grid holds [km].
    faint : iterable of (wavelengths, power)
        Drawn behind: single realizations.
    """
    axes.set_title("power spectrum in space", fontsize=TITLE, color=INK)
    if not _draw_power(axes, lines, limit, faint):
        return
    axes.set_xlabel("wavelength [km]")
    axes.set_ylabel(f"power [({units})$^2$ km$^2$]")
    _decimal_ticks(axes.xaxis)


def draw_temporal(
    axes: Any,
    lines: Mapping[str, Line],
    units: str,
    *,
    limit: float | None = None,
    faint: Iterable[Line] = (),
) -> None:
    """Draw power against period, long periods at the left; as `draw_spatial`.

    Parameters
    ----------
    axes : Axes
    lines : mapping of name to (periods [min], power)
    units : str
        Of the field.
    limit : float, optional
        Shortest period that the coarse steps hold [min].
    faint : iterable of (periods, power)
        Drawn behind: single realizations.
    """
    axes.set_title("power spectrum in time", fontsize=TITLE, color=INK)
    if not any(len(x) for x, _ in lines.values()):
        empty(axes, "needs four steps or more")
        return
    if not _draw_power(axes, lines, limit, faint):
        return
    low, high = sorted(axes.get_xlim())
    inside = [(value, name) for value, name in _PERIODS if low <= value <= high]
    axes.xaxis.set_minor_locator(_no_ticks())
    axes.set_xticks([v for v, _ in inside], labels=[name for _, name in inside])
    axes.set_xlabel("period")
    axes.set_ylabel(f"power [({units})$^2$ h]")


def draw_exceedance(
    axes: Any, probabilities: Floats, lines: Mapping[str, Floats], units: str
) -> None:
    """Draw which values are exceeded how often: the extremes are at the right.

    Parameters
    ----------
    axes : Axes
    probabilities : ndarray, shape (P,)
        Falling.
    lines : mapping of name to ndarray, shape (P,)
        Values; NaN where too few pixels tell.
    units : str
        Of the values.
    """
    axes.set_title("how often is it exceeded?", fontsize=TITLE, color=INK)
    shown = {k: v for k, v in lines.items() if np.nanmax(v, initial=-np.inf) > 0}
    if not shown:
        empty(axes, "dry throughout")
        return
    for name, values in shown.items():
        above = np.where(values > 0, values, np.nan)
        axes.plot(probabilities, above, label=name, **line_style(name))
    axes.set(xscale="log", yscale="log", ylabel=f"rate [{units}]")
    highest = max(float(np.nanmax(values)) for values in shown.values())
    axes.set_ylim(highest / 1000, highest * 1.5)
    axes.invert_xaxis()
    axes.set_xlabel("share of pixels and steps above")
    axes.set_xticks(
        [0.5, 0.1, 0.01, 0.001, 0.0001], labels=["50%", "10%", "1%", "0.1%", "0.01%"]
    )
    _decimal_ticks(axes.yaxis)
    _legend(axes, "lower right")
    _grid(axes)


def draw_ranks(axes: Any, shares: Floats) -> None:
    """Draw the ranks of the truth; the dashed line is what a reliable ensemble gives.

    Parameters
    ----------
    axes : Axes
    shares : ndarray, shape (M + 1,)
        Sum 1; NaN where there is nothing to rank.
    """
    m = len(shares) - 1
    axes.set_title(
        f"rank of the truth among {m} realizations", fontsize=TITLE, color=INK
    )
    if not np.isfinite(shares).all():
        empty(axes, "dry throughout")
        return
    axes.bar(np.arange(m + 1), shares * (m + 1), width=0.9, color=ACCENT)
    axes.axhline(1.0, color=INK, linewidth=1.0, linestyle=(0, (4, 2)))
    axes.annotate(
        "reliable",
        (m + 0.45, 1.0),
        xytext=(0, 2),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=SMALL,
        color=INK,
        path_effects=_halo(),
    )
    axes.set_xlabel(f"rank (0: below all, {m}: above all)")
    axes.set_ylabel("frequency over the reliable one's")
    axes.set_ylim(0, max(2.0, 1.08 * float(shares.max()) * (m + 1)))
    axes.xaxis.get_major_locator().set_params(integer=True)
    tidy(axes)


def draw_spread_error(axes: Any, spread: Floats, error: Floats, units: str) -> None:
    """Draw the error of the mean against the spread; reliable is on the diagonal.

    Parameters
    ----------
    axes : Axes
    spread, error : ndarray, shape (N,)
    units : str
        Of both.
    """
    axes.set_title("spread and error", fontsize=TITLE, color=INK)
    kept = (spread > 0) & (error > 0)
    if not kept.any():
        empty(axes, "no spread")
        return
    both = np.concatenate([spread[kept], error[kept]])
    ends = np.array([both.min() / 1.5, both.max() * 1.5])
    axes.plot(ends, ends, color=INK, linewidth=1.0, linestyle=(0, (4, 2)))
    axes.plot(spread[kept], error[kept], "o-", color=ACCENT, markersize=4)
    axes.annotate(
        "reliable",
        (0.75, 0.75),
        xycoords="axes fraction",
        xytext=(4, -4),
        textcoords="offset points",
        ha="center",
        va="center",
        rotation=45,
        fontsize=SMALL,
        color=INK,
        path_effects=_halo(),
    )
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
    axes.set_xlabel(f"spread [{units}]")
    axes.set_ylabel(f"error of the mean [{units}]")
    for axis in (axes.xaxis, axes.yaxis):
        _decimal_ticks(axis)
    _grid(axes)


def line_style(name: str) -> dict[str, Any]:
    """Look up how a source is drawn; anything else looks like the diffusion model."""
    return dict(LINE_STYLES.get(name, LINE_STYLES["diffusion"]))


def empty(axes: Any, reason: str) -> None:
    """Say why there is nothing to draw."""
    axes.set(xticks=[], yticks=[])
    axes.text(
        0.5,
        0.5,
        reason,
        transform=axes.transAxes,
        ha="center",
        va="center",
        fontsize=LABEL,
        color="#666666",
    )
    tidy(axes)


def _draw_power(
    axes: Any, lines: Mapping[str, Line], limit: float | None, faint: Iterable[Line]
) -> bool:
    """Draw power on logarithmic axes, or say that there is none."""
    shown = [y[y > 0] for _, y in lines.values()]
    if not any(y.size for y in shown):
        empty(axes, "nothing varies here")
        return False
    for x, y in faint:
        axes.plot(x, y, color=ACCENT, linewidth=0.6, alpha=0.3)
    for name, (x, y) in lines.items():
        axes.plot(x, np.where(y > 0, y, np.nan), label=name, **line_style(name))
    axes.set(xscale="log", yscale="log")
    axes.invert_xaxis()
    if limit is not None:
        _mark_limit(axes, limit)
    low, high = axes.get_ylim()
    if high < 30 * low and 1e-3 < low < high < 1e4:
        _decimal_ticks(axes.yaxis)
    _legend(axes)
    _grid(axes)
    return True


def _mark_limit(axes: Any, limit: float) -> None:
    """Mark where the coarse grid ends, in the corner that falling curves leave free."""
    axes.axvline(limit, color=FRAME, linewidth=0.9, linestyle=(0, (1, 1)))
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.06)  # a line of text above the curves
    longest, shortest = np.log(axes.get_xlim())
    is_right = (np.log(limit) - longest) / (shortest - longest) > 0.6
    axes.annotate(
        "coarse grid ends",
        (limit, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-3 if is_right else 3, -3),
        textcoords="offset points",
        ha="right" if is_right else "left",
        va="top",
        fontsize=SMALL - 0.5,
        color="#666666",
        path_effects=_halo(),
    )


def _halo() -> list[Any]:
    """Let text that stands on a curve be read, and the curve be seen."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2, foreground="white")]


def _legend(axes: Any, where: str = "lower left") -> None:
    axes.legend(
        fontsize=SMALL,
        frameon=False,
        labelcolor=INK,
        loc=where,
        handlelength=2.4,
        labelspacing=0.3,
    )


def _grid(axes: Any) -> None:
    axes.grid(which="major", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    tidy(axes)


def _decimal_ticks(axis: Any) -> None:
    """Label a logarithmic axis 1, 2, 5, 10 in plain figures."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = sorted(axis.get_view_interval())
    decades = np.log10(max(high, 1e-30) / max(low, 1e-30))
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _no_ticks() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()
