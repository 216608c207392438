"""``xstsr demo``: coarsen real rain, upscale it, and compare with what was there.

The fine field is known, so every claim can be checked in a minute: the water of each
coarse cell, the skill of the ensemble beside the baselines', the look of the rain.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xstsr.data import open_demo
from xstsr.errors import DataError, XstsrError
from xstsr.files import open_variable, write
from xstsr.units import classify_units, to_mm, to_mm_per_hour
from xstsr.verify import fair_crps

__all__ = ["Choices", "Trial", "compute", "receipt", "run", "scores"]

BASELINES = ("linear", "nearest")


@dataclass(frozen=True)
class Choices:
    """What to coarsen by, what to upscale by, and how to sample."""

    s: int = 5
    t: int = 3
    beyond: int = 1
    """How many times finer than the truth the result is in space."""
    realizations: int = 8
    seed: int = 0
    method: str = "diffusion"
    model: str = "default"
    device: str | None = None


@dataclass(frozen=True)
class Trial:
    """One field at four places of the way; each Dataset has the variable ``name``."""

    name: str
    truth: xr.Dataset
    coarse: xr.Dataset
    fine: xr.Dataset
    """With dim realization first, ``beyond`` times finer in space than ``truth``."""
    compared: xr.Dataset
    """``fine`` on the grid of ``truth``."""
    again: xr.Dataset
    """``fine`` on the grid of ``coarse``: the same water, if it is conserved."""
    choices: Choices
    seconds: float


def run(
    source: Path | None,
    name: str | None,
    out: Path,
    choices: Choices,
    say: Callable[[str], object] = print,
) -> Trial:
    """Run the demo: compute, report, write ``fine.zarr`` and ``fine.png``.

    Parameters
    ----------
    source : Path or None
        A file with a fine field, or None for the bundled radar rain.
    name : str or None
        The variable of ``source``.
    out : Path
        Folder for the two results; older ones are replaced.
    choices : Choices
        Factors, realizations, seed, method, model.
    say : callable
        Takes the lines of the report.

    Returns
    -------
    Trial

    Raises
    ------
    DataError : the file cannot be used, or holds less than one coarse cell.
    """
    truth, name = (
        (open_demo(), "rainfall_amount")
        if source is None
        else open_variable(source, name)
    )
    trial = compute(truth, name, choices)
    for line in _report(trial):
        say(line)
    write(trial.fine, out / "fine.zarr", overwrite=True)
    say(f"\nwrote {out / 'fine.zarr'}")
    try:
        _draw(trial, out / "fine.png")
    except XstsrError as error:
        say(f"no picture: {error}")
    else:
        say(f"wrote {out / 'fine.png'}")
    return trial


def compute(truth: xr.Dataset, name: str, choices: Choices) -> Trial:
    """Coarsen a fine field, upscale it, and coarsen the result twice.

    Parameters
    ----------
    truth : Dataset
        Its variable ``name`` has dims (time, y, x); what does not fill a coarse cell is
        cut off at the upper end of each dim.
    name : str
        The variable.
    choices : Choices
        Factors, realizations, seed, method, model.

    Returns
    -------
    Trial, in memory

    Raises
    ------
    DataError : other dims than three, or less than one coarse cell.
    """
    truth = _cropped(truth, name, choices.s, choices.t)
    coarse = truth.stsr.coarsen(name, s=choices.s, t=choices.t).load()
    started = time.perf_counter()
    fine = coarse.stsr.upscale(
        name,
        s=choices.s * choices.beyond,
        t=choices.t,
        realizations=choices.realizations,
        seed=choices.seed,
        method=choices.method,
        model=choices.model,
        device=choices.device,
    ).load()
    seconds = time.perf_counter() - started
    compared = fine.stsr.coarsen(name, s=choices.beyond, t=1)
    again = fine.stsr.coarsen(name, s=choices.s * choices.beyond, t=choices.t)
    return Trial(name, truth, coarse, fine, compared, again, choices, seconds)


def receipt(trial: Trial) -> tuple[float, list[float], float]:
    """Weigh the water before and after.

    Returns
    -------
    coarse, fine, worst : float, list of float, float
        Mean of the coarse field and of each realization brought back to its grid (mm
        h-1 for rain), and the largest difference in any coarse cell, as a share of what
        the cell holds.
    """
    coarse, again = _rates(trial.coarse[trial.name]), _rates(trial.again[trial.name])
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.abs(again - coarse) / np.abs(coarse)
    worst = float(np.nanmax(np.where(coarse == 0, np.abs(again), share)))
    return float(np.nanmean(coarse)), [float(np.nanmean(r)) for r in again], worst


def scores(trial: Trial) -> dict[str, float]:
    """Score the ensemble and the baselines against the truth, on the truth's grid.

    Returns
    -------
    dict of str to float
        The mean fair CRPS by method, in mm h-1 for rain; the absolute error for
        baselines, which have one realization.
    """
    truth = _rates(trial.truth[trial.name])
    ensemble = _rates(trial.compared[trial.name])
    found = {trial.choices.method: fair_crps(ensemble, truth)}
    for method in BASELINES:
        fine = trial.coarse.stsr.upscale(
            trial.name,
            s=trial.choices.s * trial.choices.beyond,
            t=trial.choices.t,
            method=method,
        )
        field = fine.stsr.coarsen(trial.name, s=trial.choices.beyond, t=1)
        found[method] = fair_crps(_rates(field[trial.name])[np.newaxis], truth)
    return found


def _cropped(dataset: xr.Dataset, name: str, s: int, t: int) -> xr.Dataset:
    field = dataset[name]
    if field.ndim != 3:
        raise DataError(
            f"cannot run the demo on {name!r}: its dims are {field.dims}, not (time, "
            "y, x). Select one of the others first and save the file."
        )
    kept = {
        dim: size - size % factor
        for (dim, size), factor in zip(field.sizes.items(), (t, s, s), strict=True)
    }
    if not all(kept.values()):
        raise DataError(
            f"cannot coarsen {name!r} of shape {field.shape} by t={t}, s={s}: it holds "
            "less than one coarse cell. Choose smaller factors."
        )
    return dataset.isel({dim: slice(size) for dim, size in kept.items()})


def _step_hours(field: xr.DataArray) -> float:
    steps = field[field.dims[-3]].diff(field.dims[-3]).to_numpy()
    return float(np.median(steps / np.timedelta64(1, "s"))) / 3600.0


def _rates(field: xr.DataArray) -> NDArray[np.float64]:
    """Values in mm h-1 where the units are those of rain, else as they are."""
    units = str(field.attrs.get("units", ""))
    values = field.to_numpy().astype(np.float64)
    match classify_units(units):
        case "rate":
            return values * to_mm_per_hour(units)
        case "amount":
            return values * to_mm(units) / _step_hours(field)
        case _:
            return values


def _units(field: xr.DataArray) -> str:
    units = str(field.attrs.get("units", ""))
    return units if classify_units(units) == "other" else "mm h-1"


def _grid(field: xr.DataArray) -> str:
    """Spacing and step in words: "2 km, 5 min"."""
    spacing = field[field.dims[-1]]
    width = abs(float(spacing.diff(spacing.dims[0]).mean()))
    units = str(spacing.attrs.get("units", ""))
    if units.startswith("m"):
        width, units = width / 1000.0, "km"
    units = "°" if units.startswith("degree") else f" {units}"
    minutes = _step_hours(field) * 60.0
    step = f"{minutes:.3g} min" if minutes < 120 else f"{minutes / 60:.3g} h"
    return f"{width:.3g}{units}, {step}"


def _report(trial: Trial) -> Iterator[str]:
    field = trial.truth[trial.name]
    units = _units(field)
    yield str(trial.truth.attrs.get("title", trial.name))
    for label, stage in (
        ("truth", trial.truth),
        ("coarse", trial.coarse),
        ("fine", trial.fine),
    ):
        shape = " x ".join(str(size) for size in stage[trial.name].shape)
        yield f"  {label:10}{_grid(stage[trial.name]):18}{shape}"
    chosen = trial.choices
    yield (
        f"  {chosen.realizations} realizations with seed {chosen.seed} "
        f"in {trial.seconds:.0f} s"
    )
    before, after, worst = receipt(trial)
    yield f"\nwater, mean of the area ({units})"
    yield f"  {'coarse':14}{before:.6f}"
    for index, mean in enumerate(after):
        yield f"  {f'realization {index}':14}{mean:.6f}"
    yield f"  largest difference in any coarse cell: {worst:.1e} of its water"
    skill = scores(trial)
    yield f"\nfair CRPS at {_grid(field)} ({units}; smaller is better)"
    for method, score in skill.items():
        ratio = skill[chosen.method] / score if score else float("nan")
        beside = "" if method == chosen.method else f"   ratio {ratio:.2f}"
        yield f"  {method:14}{score:.4f}{beside}"


def _draw(trial: Trial, path: Path) -> None:
    from xstsr.plot import compare

    def panel(dataset: xr.Dataset, index: int | None = None) -> xr.DataArray:
        field = dataset[trial.name]
        field = field.copy(data=_rates(field)).assign_attrs(units=_units(field))
        return field if index is None else field[index]

    fine = panel(trial.fine)
    grid = _grid(fine)
    mean = fine.mean("realization", keep_attrs=True)
    compare(
        {
            f"coarse\n{_grid(trial.coarse[trial.name])}": panel(trial.coarse),
            f"realization 0\n{grid}": fine[0],
            f"realization 1\n{grid}": fine[1],
            f"mean of {fine.shape[0]}\n{grid}": mean,
            f"truth\n{_grid(trial.truth[trial.name])}": panel(trial.truth),
        },
        path,
    )
