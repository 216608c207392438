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

from xstsr.cf.meaning import Meaning
from xstsr.cf.read import bounds_of, read_meaning
from xstsr.cf.write import to_dataset
from xstsr.conservation.balance import check, coarsen
from xstsr.conservation.receipt import Receipt
from xstsr.data import open_demo
from xstsr.errors import DataError
from xstsr.files import open_variable, write
from xstsr.methods import METHODS, Name
from xstsr.pipeline import upscale
from xstsr.plot import PlotError, side_by_side
from xstsr.verification.scores import fair_crps

BASELINES = [
    name for name, m in METHODS.items() if not (m.is_neural or m.is_stochastic)
]


@dataclass(frozen=True)
class Choices:
    """What to coarsen by, what to upscale by, and how to sample."""

    s: int = 5
    t: int = 3
    beyond: int = 1
    """How many times finer than the truth the result is in space."""
    realizations: int = 8
    seed: int = 0
    method: Name = "diffusion"
    model: str = "default"
    device: str | None = None
    steps: int | None = None
    sampler: str | None = None


@dataclass(frozen=True)
class Trial:
    """One field at four places of the way, with dims ([realization], time, y, x)."""

    truth: xr.DataArray
    coarse: xr.DataArray
    fine: xr.DataArray
    """``beyond`` times finer in space than ``truth``."""
    compared: xr.DataArray
    """``fine`` on the grid of ``truth``."""
    label: str
    """Which part of a time step its label is."""
    choices: Choices
    seconds: float

    def meaning(self, field: xr.DataArray) -> Meaning:
        """Read what one of the fields means."""
        return read_meaning(field, label=self.label)

    def rates(self, field: xr.DataArray) -> xr.DataArray:
        """Turn rain into mm h-1; other quantities stay as they are."""
        meaning = self.meaning(field)
        factor = xr.DataArray(meaning.rate_factor, dims=meaning.time_dim)
        units = meaning.units if meaning.kind == "state" else "mm h-1"
        return (field * factor).transpose(*field.dims).assign_attrs(units=units)

    def receipt(self) -> Receipt:
        """Weigh the water of every coarse cell before and after."""
        return check(self.fine, self.coarse, label=self.label)

    def dataset(self, source: xr.Dataset) -> xr.Dataset:
        """Complete the fine field with bounds, areas and the grid mapping."""
        s, t = self.choices.s * self.choices.beyond, self.choices.t
        return to_dataset(self.fine, source, self.meaning(self.coarse), s, t)


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
    dataset, name = (
        (open_demo(), "rainfall_amount")
        if source is None
        else open_variable(source, name)
    )
    trial = compute(dataset, name, choices)
    say(str(dataset.attrs.get("title", name)))
    for line in report(trial):
        say(line)
    write(trial.dataset(dataset), out / "fine.zarr", overwrite=True)
    say(f"\nwrote {out / 'fine.zarr'}")
    try:
        _draw(trial, out / "fine.png")
    except PlotError as error:
        say(f"no picture: {error}")
    else:
        say(f"wrote {out / 'fine.png'}")
    return trial


def compute(dataset: xr.Dataset, name: str, choices: Choices) -> Trial:
    """Coarsen a fine field, upscale it, and bring the result back to its grid.

    Parameters
    ----------
    dataset : Dataset
        Its variable ``name`` has time, y and x alone; what does not fill a coarse cell
        is cut off at the upper end of each dim.
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
    meaning = read_meaning(dataset[name], bounds=bounds_of(dataset, name))
    label = meaning.time_label
    truth = _cropped(dataset[name], meaning, choices).load()
    coarse = coarsen(truth, choices.s, choices.t, label=label)
    started = time.perf_counter()
    fine = upscale(
        coarse,
        choices.s * choices.beyond,
        choices.t,
        realizations=choices.realizations,
        seed=choices.seed,
        method=choices.method,
        model=choices.model,
        device=choices.device,
        steps=choices.steps,
        sampler=choices.sampler,
        label=label,
    )
    seconds = time.perf_counter() - started
    compared = coarsen(fine, choices.beyond, label=label)
    return Trial(truth, coarse, fine, compared, label, choices, seconds)


def scores(trial: Trial) -> dict[str, float]:
    """Score the ensemble and the baselines against the truth, on the truth's grid.

    Parameters
    ----------
    trial : Trial
        From `compute`.

    Returns
    -------
    dict of str to float
        The mean fair CRPS by method, in mm h-1 for rain; for the baselines, which give
        one field, it is the mean absolute error.
    """
    chosen = trial.choices
    truth = _values(trial.rates(trial.truth))
    ensemble = _values(trial.rates(trial.compared))
    found = {str(chosen.method): fair_crps(ensemble, truth)}
    for method in BASELINES:
        fine = upscale(
            trial.coarse,
            chosen.s * chosen.beyond,
            chosen.t,
            method=method,
            label=trial.label,
        )
        field = trial.rates(coarsen(fine, chosen.beyond, label=trial.label))
        found[method] = fair_crps(_values(field)[np.newaxis], truth)
    return found


def _values(field: xr.DataArray) -> NDArray[np.float64]:
    return field.to_numpy().astype(np.float64)


def _cropped(field: xr.DataArray, meaning: Meaning, choices: Choices) -> xr.DataArray:
    if meaning.extra_dims:
        raise DataError(
            f"cannot run the demo on {field.name!r}: its dims are {field.dims}, more "
            "than time, y and x. Select from the others and save that."
        )
    factors = {
        meaning.time_dim: choices.t,
        meaning.y_dim: choices.s,
        meaning.x_dim: choices.s,
    }
    kept = {dim: size - size % factors[str(dim)] for dim, size in field.sizes.items()}
    if not all(kept.values()):
        raise DataError(
            f"cannot coarsen {field.name!r} of shape {field.shape} by t={choices.t}, "
            f"s={choices.s}: it holds less than one coarse cell. Choose smaller "
            "factors."
        )
    field = field.isel({dim: slice(size) for dim, size in kept.items()})
    return field.transpose(*factors)


def _grid(meaning: Meaning) -> str:
    """Spacing and step in words: "2 km, 5 min"."""
    minutes = meaning.step_minutes
    step = f"{minutes:.3g} min" if minutes < 120 else f"{minutes / 60:.3g} h"
    return f"{meaning.spacing_km:.2g} km, {step}"


def report(trial: Trial) -> Iterator[str]:
    """Tell the grids, the water balance and the scores, line by line.

    Parameters
    ----------
    trial : Trial
        From `compute`.
    """
    chosen = trial.choices
    stages = {"truth": trial.truth, "coarse": trial.coarse, "fine": trial.fine}
    for title, field in stages.items():
        shape = " x ".join(str(size) for size in field.shape)
        yield f"  {title:10}{_grid(trial.meaning(field)):18}{shape}"
    yield (
        f"  {chosen.realizations} realizations by {chosen.method!r} with seed "
        f"{chosen.seed} in {trial.seconds:.0f} s"
    )
    yield f"\n{trial.receipt()}"
    found = scores(trial)
    grid, units = _grid(trial.meaning(trial.truth)), trial.rates(trial.truth).units
    yield f"\nFair CRPS at {grid} in {units} (less is better)"
    for method, score in found.items():
        ratio = found[chosen.method] / score if score else float("nan")
        beside = "" if method == chosen.method else f"  ratio {ratio:.2f}"
        yield f"  {method:10}{score:.4f}{beside}"


def _draw(trial: Trial, path: Path) -> None:
    fine, coarse, truth = trial.fine, trial.coarse, trial.truth
    grids = [_grid(trial.meaning(field)) for field in (fine, coarse, truth)]
    mean = fine.mean("realization", keep_attrs=True)
    side_by_side(
        {
            f"coarse\n{grids[1]}": coarse,
            f"realization 0\n{grids[0]}": fine[0],
            f"realization 1\n{grids[0]}": fine[1],
            f"mean of {fine.shape[0]}\n{grids[0]}": mean,
            f"truth\n{grids[2]}": truth,
        },
        path,
    )
