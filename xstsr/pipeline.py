r"""Upscaling as a story: read the meaning, plan, refine, conserve, relabel.

.. math:: Y = \mathcal{C}_X\big(\mu_\theta(X) + R_\phi(X, \epsilon)\big)

A coarse field X becomes a fine one Y: the conditional mean, plus a residual drawn by
diffusion, made to agree with X by the conservation transform (Defez et al. 2026, arXiv
2604.21903). What the numbers mean is read from, and written back to, CF metadata.
"""

import warnings
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import xarray as xr

from xstsr import cf
from xstsr.errors import PlanError
from xstsr.lazy import upscale_blocks, upscale_now
from xstsr.meaning import AssumptionWarning, Meaning
from xstsr.memory import available_bytes, readable
from xstsr.methods import NEURAL, STOCHASTIC
from xstsr.prepare import prepare
from xstsr.preview import Preview
from xstsr.recipe import Recipe
from xstsr.windows import Job, Mode, check_values

Method = Literal["diffusion", "mean", "linear", "nearest", "rainfarm"]


def upscale(
    da: xr.DataArray,
    s: int,
    t: int = 1,
    *,
    realizations: int | None = None,
    seed: int = 0,
    method: Method = "diffusion",
    model: str | PathLike[str] = "default",
    conserve: Mode = "cell",
    recipe: Recipe | None = None,
    steps: int | None = None,
    device: str | None = None,
    cell_methods: str | None = None,
    label: str | None = None,
) -> xr.DataArray:
    """Refine a field s times in space and t times in time, keeping its water.

    Parameters
    ----------
    da : DataArray
        Coarse rain rates, rain amounts or other means, in any convertible unit, with
        a time axis and two spatial axes. Chunked input gives chunked output, lazily.
    s, t : int
        Fine cells per coarse cell along each axis, and fine steps per coarse step;
        the model was made for 1..25 and 1..6.
    realizations : int, optional
        Fields to draw, along a leading dimension; by default one, without it.
    seed : int
        Of the noise. The same seed gives the same realizations.
    method : str
        ``"diffusion"`` draws samples, ``"mean"`` is their mean; ``"linear"``,
        ``"nearest"`` and ``"rainfarm"`` are the baselines.
    model : str
        Name or path of a checkpoint.
    conserve : str
        What keeps its water: each ``"cell"``, each time ``"window"``, or ``"none"``.
    recipe : Recipe, optional
        Noise amplitude, context and taper; by default the paper's rule.
    steps : int, optional
        Network evaluations per realization; by default the model's own number.
    device : str, optional
        ``"cpu"``, ``"cuda"``, ...; by default a GPU where there is one.
    cell_methods, label : str, optional
        Override the metadata: ``"time: sum"``; ``"left"``, ``"mid"``, ``"right"``.

    Returns
    -------
    DataArray
        Dimensions as the input's, after ``realization``; same units; CF coordinates,
        attributes and history.

    Raises
    ------
    XstsrError
        The metadata, the grid, the values or the options cannot be used.

    Examples
    --------
    >>> import xstsr
    >>> rain = xstsr.open_demo().rainfall_amount[:30, :45, :35]
    >>> coarse = rain.stsr.coarsen(s=5, t=3)
    >>> coarse.stsr.upscale(s=10, t=3, method="linear").shape
    (30, 90, 70)
    """
    meaning = cf.read(da, cell_methods=cell_methods, label=label)
    job = prepare(
        meaning,
        s,
        t,
        realizations=realizations,
        seed=seed,
        method=method,
        model=model,
        conserve=conserve,
        recipe=recipe,
        steps=steps,
        device=device,
    )
    return run(job, da, meaning, keep_realization=realizations is not None)


def upscale_dataset(
    ds: xr.Dataset,
    name: str,
    s: int,
    t: int = 1,
    *,
    realizations: int | None = None,
    cell_methods: str | None = None,
    label: str | None = None,
    **options: Any,
) -> xr.Dataset:
    """Refine one variable of a Dataset, with its bounds; options as in `upscale`.

    Returns
    -------
    Dataset
        The variable with bounds, cell areas and grid mapping of the fine grid.
    """
    bounds = cf.bounds_of(ds, name)
    meaning = cf.read(ds[name], cell_methods=cell_methods, label=label, bounds=bounds)
    job = prepare(meaning, s, t, realizations=realizations, **options)
    fine = run(job, ds[name], meaning, keep_realization=realizations is not None)
    return cf.dataset(fine, ds, meaning, s, t)


def plan(
    da: xr.DataArray,
    s: int,
    t: int = 1,
    *,
    cell_methods: str | None = None,
    label: str | None = None,
    **options: Any,
) -> Preview:
    """Tell what `upscale` with the same arguments would do, and compute nothing.

    Returns
    -------
    Preview
        What was inferred, the result's shape, memory and time; a card in Jupyter.
    """
    meaning = cf.read(da, cell_methods=cell_methods, label=label)
    return _preview(da, meaning, prepare(meaning, s, t, **options))


def plan_dataset(
    ds: xr.Dataset,
    name: str,
    s: int,
    t: int = 1,
    *,
    cell_methods: str | None = None,
    label: str | None = None,
    **options: Any,
) -> Preview:
    """Tell what `upscale_dataset` with the same arguments would do; see `plan`.

    Returns
    -------
    Preview
        What was inferred, also from bounds; the result's shape, memory and time.
    """
    bounds = cf.bounds_of(ds, name)
    meaning = cf.read(ds[name], cell_methods=cell_methods, label=label, bounds=bounds)
    return _preview(ds[name], meaning, prepare(meaning, s, t, **options))


def _preview(da: xr.DataArray, meaning: Meaning, job: Job) -> Preview:
    """Put together what the card tells."""
    meaning.fine_time_edges(job.request.factor[0])  # refuses steps of unknown length
    extra = tuple(da.sizes[dim] for dim in meaning.extra_dims)
    return Preview(meaning, job, da.dtype.itemsize, extra)


def run(
    job: Job, da: xr.DataArray, meaning: Meaning, *, keep_realization: bool
) -> xr.DataArray:
    """Refine, conserve and relabel, now or, for chunked input, later."""
    meaning.fine_time_edges(job.request.factor[0])  # refuses steps of unknown length
    coarse, _ = cf.strip(da)
    coarse = coarse.transpose(*meaning.extra_dims, *meaning.core_dims)
    fine = _refine(job, coarse, meaning)
    t, s, _ = job.request.factor
    return cf.relabel(
        fine if keep_realization else fine[0],
        meaning,
        s,
        t,
        realizations=job.request.realizations if keep_realization else None,
        provenance=_provenance(job),
    )


def _refine(job: Job, coarse: xr.DataArray, meaning: Meaning) -> Any:
    """Run the plan: now for data in memory, later for chunked data."""
    flat = coarse.data.reshape(-1, *meaning.shape)
    t, sy, sx = job.request.factor
    _check_memory(job, coarse, meaning)
    if coarse.chunks is None:
        check_values(flat, meaning.kind)
    do = upscale_now if coarse.chunks is None else upscale_blocks
    fine = do(job, flat, meaning.time_edges)
    lead = coarse.shape[: len(meaning.extra_dims)]
    frames, rows, columns = meaning.shape
    return fine.reshape(fine.shape[0], *lead, frames * t, rows * sy, columns * sx)


def _check_memory(job: Job, coarse: xr.DataArray, meaning: Meaning) -> None:
    """Refuse what cannot fit, or warn where workers may have more memory."""
    preview = _preview(coarse, meaning, job)
    lazy = coarse.chunks is not None
    needed = preview.window_bytes + (0 if lazy else preview.nbytes)
    free = available_bytes()
    if needed < 0.9 * free:
        return
    told = (
        f"{coarse.name!r} takes {readable(needed)} of memory, "
        f"{readable(preview.nbytes)} of it the result, and {readable(free)} are free"
    )
    if lazy:
        warnings.warn(
            f"one window of {told}; ask for fewer realizations or a smaller region",
            AssumptionWarning,
            stacklevel=5,
        )
        return
    raise PlanError(
        f"cannot upscale in memory: {told}. Chunk the input, "
        f'da.chunk({{"{meaning.time_dim}": 24}}), and write the result with '
        ".to_zarr(...)."
    )


def _provenance(job: Job) -> dict[str, str | int]:
    """Say how the field was made, for its attributes."""
    request = job.request
    told: dict[str, str | int] = {
        "version": version("xstsr"),
        "method": request.method,
        "conserve": job.mode,
    }
    if request.method in STOCHASTIC:
        told["seed"] = request.seed
    if request.method in NEURAL:
        told["model"] = f"{Path(request.model).stem}@sha256:{request.fingerprint[:12]}"
    return told
