r"""Upscaling as a story: read the meaning, plan, refine, conserve, relabel.

.. math:: Y = \mathcal{C}_X\big(\mu_\theta(X) + R_\phi(X, \epsilon)\big)

A coarse field X becomes a fine one Y: the conditional mean, plus a residual drawn by
diffusion, made to agree with X by the conservation transform (Defez et al. 2026, arXiv
2604.21903). What the numbers mean is read from, and written back to, CF metadata.
"""

import warnings
from dataclasses import dataclass
from importlib.metadata import version
from itertools import count
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xstsr.cf.coords import dequantify, interpolate_instants
from xstsr.cf.meaning import Meaning
from xstsr.cf.read import bounds_of, read_meaning
from xstsr.cf.write import relabel, to_dataset
from xstsr.display import PATIENCE, readable, ticking
from xstsr.errors import CostWarning, PlanError
from xstsr.execution.run import refine
from xstsr.execution.window import check_values
from xstsr.factors import read_factor, space_of
from xstsr.memory import available_bytes
from xstsr.methods import Name, find_method
from xstsr.methods.recipe import Recipe
from xstsr.planning.job import Job
from xstsr.planning.predictors import Known, check_stages, known_for
from xstsr.planning.preview import Preview
from xstsr.planning.stages import Jobs, factor_of, plan_stages, settings_of
from xstsr.typing import Factor, Mode, Space


def upscale(
    da: xr.DataArray,
    s: Space,
    t: int = 1,
    *,
    realizations: int | None = None,
    seed: int = 0,
    method: Name = "diffusion",
    model: str | PathLike[str] = "default",
    conserve: Mode = "cell",
    recipe: Recipe | None = None,
    steps: int | None = None,
    sampler: str | None = None,
    device: str | None = None,
    cell_methods: str | None = None,
    label: str | None = None,
    static: Known | None = None,
    given: Known | None = None,
) -> xr.DataArray:
    """Refine a field s times in space and t times in time, keeping its water.

    Parameters
    ----------
    da : DataArray
        Coarse rain rates, rain amounts or other means, in any convertible unit, with
        a time axis and two spatial axes. Chunked input gives chunked output, lazily.
    s, t : int, or a tuple (y, x) of int for s
        Fine cells and steps per coarse one. Instantaneous fields (``time: point``) are
        interpolated in time, from T to (T - 1) t + 1, and refined in space. Networks
        take s up to 25 and t up to 6 at once, and what is more in two stages.
    realizations, seed : int, optional
        Fields to draw, along a leading dimension, by default one without it; the same
        seed gives the same ones.
    method : str
        ``"diffusion"``: the conditional mean and a residual drawn by diffusion;
        ``"generator"``: a draw in one evaluation, where the model can; ``"mean"``,
        ``"linear"``, ``"nearest"`` or ``"rainfarm"``.
    model : str
        Name or path of a checkpoint.
    conserve : str
        What keeps its water: each ``"cell"``, each time ``"window"``, or ``"none"``.
    recipe : Recipe, optional
        Amplitude of the noise, context and taper; by default the paper's rule.
    steps, sampler : optional
        Evaluations of the denoiser per realization, and the sampler that makes them,
        a name in `xstsr.diffusion.sampler.SAMPLERS`; by default the model's own.
    device : str, optional
        ``"cpu"`` or ``"cuda"``, by default a GPU if any.
    cell_methods, label : str, optional
        Override the metadata: ``"time: sum"``; ``"left"``, ``"mid"``, ``"right"``.
    static, given : DataArray or Dataset, optional
        Orography, or another variable, on the fine grid, for models trained with it.

    Returns
    -------
    DataArray
        Dimensions as the input's, after ``realization``; same units; CF metadata.

    Raises
    ------
    XstsrError
        The metadata, the grid, the values or the options cannot be used.

    Examples
    --------
    >>> import xstsr
    >>> coarse = xstsr.open_demo().rainfall_amount[:30, :45, :35].stsr.coarsen(5, 3)
    >>> coarse.stsr.upscale(s=10, t=3, method="linear").shape
    (30, 90, 70)
    """
    asked = ask(
        da,
        (s, t),
        cell_methods=cell_methods,
        label=label,
        static=static,
        given=given,
        realizations=realizations,
        seed=seed,
        method=method,
        model=model,
        conserve=conserve,
        recipe=recipe,
        steps=steps,
        sampler=sampler,
        device=device,
    )
    return run(asked)


def upscale_dataset(
    ds: xr.Dataset,
    name: str,
    s: Space,
    t: int = 1,
    **options: Any,
) -> xr.Dataset:
    """Refine one variable of a Dataset, with its bounds; options as in `upscale`.

    Returns
    -------
    Dataset
        The variable with bounds, cell areas and grid mapping of the fine grid.
    """
    asked = ask(ds, (s, t), name=name, **options)
    return to_dataset(run(asked), ds, asked.meaning, asked.s, asked.factor[0])


def plan(da: xr.DataArray, s: Space, t: int = 1, **options: Any) -> Preview:
    """Tell what `upscale` with the same arguments would do, and compute nothing.

    Returns
    -------
    Preview
        What was inferred, the result's shape, memory and time; a card in Jupyter.
    """
    return ask(da, (s, t), **options).preview


def plan_dataset(
    ds: xr.Dataset, name: str, s: Space, t: int = 1, **options: Any
) -> Preview:
    """Tell what `upscale_dataset` with the same arguments would do; see `plan`.

    Returns
    -------
    Preview
        What was inferred, also from bounds; the result's shape, memory and time.
    """
    return ask(ds, (s, t), name=name, **options).preview


@dataclass(frozen=True, eq=False)
class Asked:
    """What is to be refined, plain, with time, y and x last; what it means; how."""

    coarse: xr.DataArray
    meaning: Meaning
    jobs: Jobs
    t: int
    keep_realization: bool
    known: Any = None

    @property
    def job(self) -> Job:
        """The first stage, mostly the only one; both agree in what is asked for."""
        return self.jobs[0]

    @property
    def factor(self) -> Factor:
        """All that is refined: (t, sy, sx); t is 1 for instants."""
        return factor_of(self.jobs)

    @property
    def s(self) -> Space:
        """The factor in space."""
        return space_of(self.factor)

    @property
    def preview(self) -> Preview:
        """What the card tells."""
        extra = tuple(self.coarse.sizes[dim] for dim in self.meaning.extra_dims)
        return Preview(self.meaning, self.jobs, self.coarse.dtype.itemsize, extra)


def ask(
    data: xr.DataArray | xr.Dataset,
    factors: tuple[Space, int],
    *,
    name: str = "",
    cell_methods: str | None = None,
    label: str | None = None,
    static: Known | None = None,
    given: Known | None = None,
    **options: Any,
) -> Asked:
    """Read what the data mean and what is wanted of them."""
    bounds = bounds_of(data, name) if isinstance(data, xr.Dataset) else None
    da = data[name] if isinstance(data, xr.Dataset) else data
    meaning = read_meaning(da, cell_methods=cell_methods, label=label, bounds=bounds)
    t, sy, sx = read_factor(*factors)
    meaning.fine_time_edges(t)  # refuses steps of unknown length
    coarse, _ = dequantify(da)
    split = t
    if meaning.point and t > 1:
        coarse, meaning = interpolate_instants(coarse, meaning, t)
        split = 1  # a snapshot has no parts in time
    coarse = coarse.transpose(*meaning.extra_dims, *meaning.core_dims)
    jobs = plan_stages(meaning, (split, sy, sx), **options)
    check_stages(static, given, [job.request.factor for job in jobs])
    keep = options.get("realizations") is not None
    known = known_for(static, given, jobs[0].request, meaning)
    return Asked(coarse, meaning, jobs, t, keep, known)


def run(asked: Asked) -> xr.DataArray:
    """Refine, conserve and relabel, now or, for chunked input, later."""
    job = asked.job
    return relabel(
        _refine(asked),
        asked.meaning,
        asked.s,
        asked.factor[0],
        realizations=job.request.realizations if asked.keep_realization else None,
        provenance={"t": asked.t, **_provenance(asked.jobs)},
    )


def _refine(asked: Asked) -> Any:
    """Run the plan: now for data in memory, later for chunked data."""
    coarse, job, keep = asked.coarse, asked.job, asked.keep_realization
    _check_memory(asked)
    if coarse.chunks is not None:
        return refine(asked.jobs, coarse.data, keep_realization=keep, known=asked.known)
    check_values(coarse.data, asked.meaning.constraint)
    known = None if asked.known is None else np.asarray(asked.known)
    windows, done = asked.preview.tasks, count(1)
    with ticking(0, windows, name=job.request.method, patience=PATIENCE) as tick:
        return refine(
            asked.jobs,
            coarse.data,
            keep_realization=keep,
            known=known,
            tick=lambda: tick(next(done), windows),
        )


def _check_memory(asked: Asked) -> None:
    """Refuse what cannot fit, or warn where workers may have more memory."""
    preview, coarse = asked.preview, asked.coarse
    lazy = coarse.chunks is not None
    needed = preview.window_bytes + (0 if lazy else preview.held_bytes)
    free = available_bytes()
    if needed < 0.9 * free:
        return
    told = (
        f"{coarse.name!r} takes {readable(needed)} of memory, "
        f"{readable(preview.nbytes)} of it the result, and {readable(free)} are free"
    )
    if lazy:
        warnings.warn(
            f"one window of {coarse.name!r} takes {readable(needed)} of memory, and "
            f"{readable(free)} are free here: compute it where there is more",
            CostWarning,
            stacklevel=5,
        )
        return
    raise PlanError(
        f"cannot upscale in memory: {told}. Chunk the input, "
        f'da.chunk({{"{asked.meaning.time_dim}": 24}}), and write the result with '
        "xstsr.to_zarr(...)."
    )


def _provenance(jobs: Jobs) -> dict[str, str | int | float]:
    """Say how the field was made, for its attributes."""
    request = jobs[0].request
    told: dict[str, str | int | float] = {
        "version": version("xstsr"),
        **settings_of(jobs),
        "conserve": jobs[0].mode,
    }
    if find_method(request.method).is_stochastic:
        told["seed"] = request.seed
    if request.is_neural:
        told["model"] = f"{Path(request.model).stem}@sha256:{request.fingerprint[:12]}"
    return told
