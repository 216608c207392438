r"""Evaluation on known fine fields: coarsen, upscale, score, compare.

The fine field is the truth; its own block means are the input. Every method is given
the same input and scored by the same rules (`xstsr.verification`), in mm h-1 for rain.
`boxes` finds, by a fixed rule, the wettest places that radar covers fully.
"""

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xstsr import methods
from xstsr.cf.coords import dequantify
from xstsr.cf.meaning import Meaning
from xstsr.cf.read import read_meaning
from xstsr.conservation.balance import coarsen
from xstsr.errors import DataError, FactorError
from xstsr.factors import in_words, name_of, read_factor, said, sides, space_of
from xstsr.methods import find_method
from xstsr.methods.recipe import Recipe
from xstsr.pipeline import upscale
from xstsr.planning.predictors import Known
from xstsr.typing import Array, Factor, Space
from xstsr.verification.table import score_table

Say = Callable[[str], object]
Watch = Callable[[str, xr.DataArray, xr.DataArray, xr.DataArray], object]
# the generator is not asked of every model
METHODS = tuple(name for name in methods.METHODS if name != "generator")
BASELINES = tuple(name for name in METHODS if not methods.find_method(name).is_neural)


@dataclass(frozen=True)
class Protocol:
    """How fields are judged.

    Parameters
    ----------
    realizations : int
        Members of the stochastic methods' ensembles.
    methods : tuple of str
        Which methods.
    seed : int
        Of the noise.
    model : str
        Name or path of the checkpoint.
    steps, sampler : optional
        Evaluations of the denoiser per realization, and who makes them; by default
        the model's own.
    recipe : Recipe, optional
        Noise amplitude, context and taper of the networks' methods.
    device : str, optional
        Where networks run.
    side, frames : int
        Fine pixels along a box and fine frames in it, about; multiples of the factors
        are taken.
    boxes : int
        Boxes per event, wettest first.
    static, given : DataArray or Dataset, optional
        Known fine fields for a model that needs them; they may cover more than a box.

    Examples
    --------
    >>> import xstsr
    >>> rain = xstsr.open_demo().rainfall_amount[:6, :40, :30]
    >>> protocol = Protocol(realizations=2, methods=("rainfarm", "linear"))
    >>> list(rain.stsr.evaluate(5, 3, protocol=protocol).table)
    ['rainfarm', 'linear']
    """

    realizations: int = 8
    methods: tuple[str, ...] = METHODS
    seed: int = 0
    model: str = "default"
    steps: int | None = None
    sampler: str | None = None
    recipe: Recipe | None = None
    device: str | None = None
    side: int = 200
    frames: int = 24
    boxes: int = 1
    static: Known | None = None
    given: Known | None = None


def score_methods(
    da: xr.DataArray,
    s: Space,
    t: int = 1,
    *,
    protocol: Protocol | None = None,
    watch: Watch | None = None,
) -> xr.Dataset:
    """Score every method on one known fine field.

    Parameters
    ----------
    da : DataArray
        Fine field, dims time, y and x; its sizes are cut to multiples of the factors.
    s, t : int
        Factors; for s also (y, x).
    protocol : Protocol, optional
        Methods, realizations and the like.
    watch : callable, optional
        Is shown each method's name and fine field, the coarse field and the truth.

    Returns
    -------
    Dataset
        One variable per score, with dim ``method``.

    Raises
    ------
    DataError
        The field holds less than two coarse cells or steps.
    """
    protocol = protocol or Protocol()
    factor = read_factor(s, t)
    da = _trimmed(da, factor).load()
    coarse = coarsen(da, s, t)
    meaning = read_meaning(da)
    truth = _rates(da, meaning)
    given = _rates(coarse, read_meaning(coarse))
    weights = meaning.step_hours()[:, None, None] * meaning.area()
    rows = []
    for method in protocol.methods:
        fine = upscale(coarse, s, t, **_options(protocol, method))
        ensemble = _rates(fine, read_meaning(fine)).reshape(-1, *truth.shape)
        rows.append(score_table(ensemble, truth, given, factor, weights))
        if watch is not None:
            watch(method, fine, coarse, da)
    scores = {
        name: ("method", [row[name] for row in rows], {"long_name": name})
        for name in rows[0]
    }
    return xr.Dataset(
        scores,
        {"method": list(protocol.methods)},
        {"s": in_words(s), "t": t, "realizations": protocol.realizations},
    )


def _options(protocol: Protocol, method: str) -> dict[str, Any]:
    """Gather the options of `upscale` that concern a method."""
    options: dict[str, Any] = {"method": method, "device": protocol.device}
    kind = find_method(method)
    if kind.is_neural:
        options |= {"model": protocol.model}
        options |= {"steps": protocol.steps, "sampler": protocol.sampler}
        options |= {"recipe": protocol.recipe}
        options |= {"static": protocol.static, "given": protocol.given}
    if kind.is_stochastic:
        options |= {"realizations": protocol.realizations, "seed": protocol.seed}
    return options


def boxes(da: xr.DataArray, s: Space, t: int, protocol: Protocol) -> list[xr.DataArray]:
    """Cut the wettest fully covered boxes out of an event, without overlap.

    Parameters
    ----------
    da : DataArray
        The event, dims time, y and x.
    s, t : int
        Factors: boxes are whole multiples.
    protocol : Protocol
        Size and number of the boxes.
    """
    meaning = read_meaning(da)
    time, y, x = meaning.core_dims
    da = da.transpose(time, y, x)
    _trimmed(da, read_factor(s, t))  # refuses what is too small
    frames = t * max(2, min(round(protocol.frames / t), da.sizes[time] // t))
    rows, columns = (
        n * min(max(2, round(protocol.side / n)), da.sizes[dim] // n)
        for dim, n in zip((y, x), sides(s), strict=True)
    )
    size = (frames, rows, columns)
    start = (da.sizes[time] - frames) // 2
    calm = da.isel({time: slice(start, start + frames)}).values
    sums, valid = np.nan_to_num(calm).sum(axis=0), np.isfinite(calm).all(axis=0)
    found = []
    for _ in range(protocol.boxes):
        place = _wettest(sums, valid, size[1:])
        if place is None:
            break
        j, i = place
        valid[j : j + rows, i : i + columns] = False
        found.append(
            da.isel(
                {
                    time: slice(start, start + frames),
                    y: slice(j, j + rows),
                    x: slice(i, i + columns),
                }
            )
        )
    if not found:
        raise DataError(
            f"cannot evaluate {da.name!r} at s={s}, t={t}: no box of {size} (time, y, "
            f"x) in its {dict(da.sizes)} is fully covered by data. Pass a smaller side."
        )
    return found


def score_events(
    events: Iterable[tuple[str, xr.DataArray]],
    factors: Sequence[tuple[Space, int]],
    protocol: Protocol,
    say: Say = print,
    watch: Callable[[str, Space, int], Watch] | None = None,
) -> xr.Dataset:
    """Score every method on the boxes of several events and factors.

    Parameters
    ----------
    events : iterable of (str, DataArray)
        Names and fine fields.
    factors : sequence of (s, t)
        Factors.
    protocol : Protocol
        How fields are judged.
    say : callable
        Takes a line per event and factor.
    watch : callable, optional
        Takes an event and its factors and gives what watches a box.

    Returns
    -------
    Dataset
        Scores with dims (event, factor, method); boxes of an event are averaged.
    """
    by_event = []
    for name, da in events:
        by_factor = []
        for s, t in factors:
            watcher = watch(name, s, t) if watch else None
            scored = [
                score_methods(box, s, t, protocol=protocol, watch=watcher)
                for box in boxes(da, s, t, protocol)
            ]
            mean = xr.concat(scored, "box").mean("box")
            told = ", ".join(
                f"{method} {float(value):.4f}"
                for method, value in zip(
                    mean.method.values, mean.fair_crps, strict=True
                )
            )
            say(f"{name} ({in_words(s)}, {t}): fair CRPS {told}")
            by_factor.append(mean.assign_coords(factor=name_of(s, t)))
        by_event.append(xr.concat(by_factor, "factor").assign_coords(event=name))
    return xr.concat(by_event, "event")


def ratios(
    scores: xr.Dataset,
    over: Sequence[str] = BASELINES,
    *,
    score: str = "fair_crps",
    method: str = "diffusion",
) -> xr.DataArray:
    """Divide a method's score, for which less is better, by that of the best baseline.

    Parameters
    ----------
    scores : Dataset
        From `score_events`.
    over : sequence of str
        The baselines to choose the best of, for each event and factor.
    score, method : str
        Which score of which method.

    Returns
    -------
    DataArray
        With dims (event, factor); below 1 where the method is better.
    """
    # as dicts: `method` is also the name of an option of sel
    best = scores[score].sel({"method": list(over)}).min("method")
    ratio: xr.DataArray = scores[score].sel({"method": method}, drop=True) / best
    return ratio


def markdown(scores: xr.Dataset) -> str:
    """Write the table of scores, by event and factor, for people."""
    names = [str(n) for n in scores.data_vars]
    lines = [
        "| event | factor | method | " + " | ".join(names) + " |",
        "|---" * (len(names) + 3) + "|",
    ]
    for row in _rows(scores):
        values = " | ".join(f"{row[n]:.3g}" for n in names)
        lines.append(
            f"| {row['event']} | {row['factor']} | {row['method']} | {values} |"
        )
    for label, over in (
        ("nearest and linear", ("linear", "nearest")),
        ("nearest, linear and RainFARM", BASELINES),
    ):
        if set(over) | {"diffusion"} <= set(scores.method.values):
            r = ratios(scores, over)
            mean = math.exp(float(np.log(r).mean()))
            lines.append(
                f"\nFair CRPS of diffusion over the best of {label}: geometric mean "
                f"{mean:.3f}, largest {float(r.max()):.3f}."
            )
    return "\n".join(lines) + "\n"


def parse_factors(text: str) -> list[tuple[Space, int]]:
    """Read factors such as "4x2,10x3" as (s, t); "5x10x3" has them in y, x and time.

    Raises
    ------
    FactorError
        The text is of another form.

    Examples
    --------
    >>> parse_factors("4x2,10x3")
    [(4, 2), (10, 3)]
    >>> parse_factors("5x10x3")
    [((5, 10), 3)]
    """
    try:
        found = []
        for part in text.split(","):
            *space, t = map(int, part.split("x"))
            sy, sx = space * 2 if len(space) == 1 else space
            found.append((space_of((t, sy, sx)), t))
        return found
    except ValueError as error:
        raise FactorError(
            f"cannot read the factors {text!r}: write them as SxT (or YxXxT) between "
            "commas, for example 4x2,10x3."
        ) from error


def write_table(scores: xr.Dataset, path: Path | None) -> str:
    """Write the table where it is wanted, and return it as Markdown.

    Parameters
    ----------
    scores : Dataset
        From `score_events`.
    path : Path, optional
        ``*.md``, ``*.csv`` or ``*.nc``.

    Raises
    ------
    DataError
        The name ends in something else.
    """
    text = markdown(scores)
    if path is None:
        return text
    if path.suffix == ".md":
        path.write_text(text, encoding="utf-8")
    elif path.suffix == ".csv":
        _write_csv(scores, path)
    elif path.suffix == ".nc":
        scores.to_netcdf(path)
    else:
        raise DataError(
            f"cannot write a table to {str(path)!r}: its name must end in .md, .csv "
            "or .nc."
        )
    return text


def _write_csv(scores: xr.Dataset, path: Path) -> None:
    """Write the table of scores as CSV."""
    rows = _rows(scores)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _rows(scores: xr.Dataset) -> list[dict[str, str | float]]:
    """List the table's rows: event, factor, method and every score."""
    return [
        {
            "event": str(e.item()),
            "factor": str(f.item()),
            "method": str(m.item()),
            **{
                str(n): float(scores[n].sel({"event": e, "factor": f, "method": m}))
                for n in scores.data_vars
            },
        }
        for e in scores.event
        for f in scores.factor
        for m in scores.method
    ]


def _trimmed(da: xr.DataArray, factor: Factor) -> xr.DataArray:
    """Cut a field to whole coarse cells."""
    meaning = read_meaning(da)
    dims = meaning.core_dims
    sizes = {d: da.sizes[d] // n * n for d, n in zip(dims, factor, strict=True)}
    if any(sizes[d] < 2 * n for d, n in zip(dims, factor, strict=True)):
        raise DataError(
            f"cannot evaluate {da.name!r} at {said(factor)}: its sizes "
            f"{dict(da.sizes)} hold less than two coarse cells or steps. Pass smaller "
            "factors."
        )
    return da.transpose(*dims).isel({d: slice(0, n) for d, n in sizes.items()})


def _rates(da: xr.DataArray, meaning: Meaning) -> Array:
    """Values in mm h-1 (states in their own units), further dimensions first."""
    plain, _ = dequantify(da)
    plain = plain.transpose(*meaning.extra_dims, *meaning.core_dims)
    return np.asarray(plain.values * meaning.rate_factor[:, None, None])


def _wettest(
    sums: Array, valid: Array, size: tuple[int, int]
) -> tuple[int, int] | None:
    """Find the box with most rain among those that are valid throughout."""
    totals = [_box_sums(field.astype(np.float64), size) for field in (sums, valid)]
    rain, cover = totals
    allowed = cover > size[0] * size[1] - 0.5
    if not allowed.any():
        return None
    j, i = np.unravel_index(int(np.argmax(np.where(allowed, rain, -1.0))), rain.shape)
    return int(j), int(i)


def _box_sums(field: Array, size: tuple[int, int]) -> Array:
    """Sum over every box of a size, by a summed-area table."""
    table = np.pad(field, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    rows, columns = size
    total: Array = (
        table[rows:, columns:]
        - table[:-rows, columns:]
        - table[rows:, :-columns]
        + table[:-rows, :-columns]
    )
    return total
