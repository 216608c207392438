r"""Upscaling as a story: read the meaning, plan, refine, conserve, relabel.

.. math:: Y = \mathcal{C}_X\big(\mu_\theta(X) + R_\phi(X, \epsilon)\big)

A coarse field X becomes a fine one Y: the conditional mean, plus a residual drawn by
diffusion, made to agree with X by the conservation transform (Defez et al. 2026, arXiv
2604.21903). What the numbers mean is read from, and written back to, CF metadata.
"""

import warnings
from importlib.metadata import version
from operator import index
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from xstsr import cf
from xstsr.errors import FactorError, PlanError, XstsrError
from xstsr.lazy import upscale_blocks, upscale_now
from xstsr.meaning import AssumptionWarning, Meaning
from xstsr.memory import available_bytes, readable
from xstsr.methods import (
    HALO,
    NEURAL,
    STOCHASTIC,
    Request,
    check_method,
    choose_device,
)
from xstsr.plan import Plan, make_plan
from xstsr.preview import Preview
from xstsr.recipe import MAX_FRAMES, Recipe
from xstsr.units import to_mm, to_mm_per_hour
from xstsr.windows import Job, Mode, check_values, fields

Method = Literal["diffusion", "mean", "linear", "nearest", "rainfarm"]
S_TRAINED, T_TRAINED = 25, 6


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
        Coarse field with a time axis and two spatial axes, in any order; rain rates,
        rain amounts or other means, in any convertible unit. Chunked input gives
        chunked output and computes nothing.
    s, t : int
        Fine cells per coarse cell along each spatial axis, and fine steps per coarse
        step. 1..25 and 1..6 are what the model was made for.
    realizations : int, optional
        How many fields to draw, along a leading dimension ``realization``. By default
        one, without that dimension.
    seed : int
        Of the noise. The same seed gives the same realizations.
    method : str
        ``"diffusion"`` draws from the conditional distribution, ``"mean"`` is its mean;
        ``"linear"``, ``"nearest"`` and ``"rainfarm"`` are the baselines.
    model : str
        Name or path of a checkpoint.
    conserve : str
        ``"cell"``: every coarse cell and step keeps its water; ``"window"``: each time
        window does; ``"none"``.
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


def prepare(
    meaning: Meaning,
    s: int,
    t: int,
    *,
    realizations: int | None = None,
    seed: int = 0,
    method: str = "diffusion",
    model: str | PathLike[str] = "default",
    conserve: Mode = "cell",
    recipe: Recipe | None = None,
    steps: int | None = None,
    device: str | None = None,
) -> Job:
    """Check the options and plan the work; the arguments are those of `upscale`."""
    factor = read_factor(s, t)
    name, sha256 = _known_model(model, method, meaning)
    _warn_beyond(s, t, method)
    request = Request(
        method=method,
        factor=factor,
        spacing_km=meaning.spacing_km / s,
        step_minutes=meaning.step_minutes / t,
        recipe=recipe or Recipe.for_factors(s, t, step=meaning.step_minutes),
        realizations=_realizations(realizations, method),
        seed=_whole(seed, "seed", least=0),
        model=name,
        fingerprint=sha256,
        steps=None if steps is None else _whole(steps, "steps", least=1),
        device=choose_device(device) if method in NEURAL else "cpu",
    )
    return make_job(meaning, request, conserve)


def run(
    job: Job, da: xr.DataArray, meaning: Meaning, *, keep_realization: bool
) -> xr.DataArray:
    """Refine, conserve and relabel, now or, for chunked input, later."""
    meaning.fine_time_edges(job.request.factor[0])  # refuses steps of unknown length
    coarse, _ = cf.strip(da)
    coarse = coarse.transpose(*meaning.extra_dims, *space_time(meaning))
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


def make_job(meaning: Meaning, request: Request, mode: Mode) -> Job:
    """Plan the work: everything that a window must know, and nothing labelled.

    Parameters
    ----------
    meaning : Meaning
        Of the coarse field.
    request : Request
        What is asked for.
    mode : str
        What is conserved.
    """
    if mode not in ("cell", "window", "none"):
        raise XstsrError(
            f"cannot conserve={mode!r}: choose 'cell' (every coarse cell and step), "
            "'window' (every time window) or 'none'."
        )
    return Job(
        request=request,
        plan=make_windows(meaning, request),
        kind=meaning.kind,
        unit=_unit(meaning),
        mode=mode,
        y_edges=meaning.y_edges,
        x_edges=meaning.x_edges,
        geometry=meaning.geometry,
        metres_per_unit=meaning.metres_per_unit,
    )


def make_windows(meaning: Meaning, request: Request) -> Plan:
    """Cut the record into windows with the context that the method needs."""
    t = request.factor[0]
    # beyond the reach of attention, one frame for the convolutions in time
    halo = (
        request.recipe.context // 2 + 2
        if request.method in NEURAL
        else HALO[request.method]
    )
    step = int(np.median(np.diff(meaning.time_edges)))
    numbers = [int(edge) // step for edge in meaning.time_edges[:-1]]
    return make_plan(
        numbers,
        meaning.shape[1:],
        request.factor,
        halo=halo,
        core=max(2 * MAX_FRAMES // t, halo, 1),
        short_core=max(MAX_FRAMES // t, halo, 1),
    )


def read_factor(s: int, t: int) -> tuple[int, int, int]:
    """Check the factors and give them as (t, s, s).

    Parameters
    ----------
    s, t : int
        Factors in space and in time, 1 or more.

    Raises
    ------
    FactorError
        One of them is no whole number, or below 1.
    """
    for name, value in (("s", s), ("t", t)):
        try:
            good = not isinstance(value, bool) and index(value) >= 1
        except TypeError:
            good = False
        if not good:
            raise FactorError(
                f"cannot use {name}={value!r}: a factor is a whole number of "
                "1 or more, such as s=10, t=3."
            )
    return index(t), index(s), index(s)


def _warn_beyond(s: int, t: int, method: str) -> None:
    """Say that the networks have not seen such factors."""
    if method in NEURAL and (s > S_TRAINED or t > T_TRAINED):
        warnings.warn(
            f"s={s}, t={t} lies beyond what the model was trained for (s <= "
            f"{S_TRAINED}, t <= {T_TRAINED})",
            AssumptionWarning,
            stacklevel=4,
        )


def space_time(meaning: Meaning) -> tuple[str, str, str]:
    """Name the dimensions of time, y and x."""
    return meaning.time_dim, meaning.y_dim, meaning.x_dim


def package_version() -> str:
    """Return the version of xstsr, for the history of what it writes."""
    return version("xstsr")


def _refine(job: Job, coarse: xr.DataArray, meaning: Meaning) -> Any:
    """Run the plan: now for data in memory, later for chunked data."""
    flat = coarse.data.reshape(-1, *meaning.shape)
    t, sy, sx = job.request.factor
    if coarse.chunks is None:
        _check_memory(job, coarse)
        check_values(flat, meaning.kind)
    do = upscale_now if coarse.chunks is None else upscale_blocks
    fine = do(job, flat, meaning.time_edges)
    lead = coarse.shape[: len(meaning.extra_dims)]
    frames, rows, columns = meaning.shape
    return fine.reshape(fine.shape[0], *lead, frames * t, rows * sy, columns * sx)


def _check_memory(job: Job, coarse: xr.DataArray) -> None:
    """Refuse what cannot fit, before hours are spent on it."""
    t, sy, sx = job.request.factor
    size = coarse.nbytes * t * sy * sx * fields(job)
    if size > 0.8 * available_bytes():
        raise PlanError(
            f"cannot upscale {coarse.name!r} in memory: the result takes "
            f"{readable(size)}, and {readable(available_bytes())} are free. Chunk the "
            f'input, da.chunk({{"{coarse.dims[-3]}": 24}}), and write the result with '
            ".to_zarr(...)."
        )


def _realizations(count: int | None, method: str) -> tuple[int, ...]:
    """List the realizations to draw."""
    check_method(method)
    if count is None:
        return (0,)
    if method not in STOCHASTIC:
        raise XstsrError(
            f"cannot draw realizations={count!r} with method={method!r}: it gives one "
            f"field. Leave realizations out, or choose one of {sorted(STOCHASTIC)}."
        )
    return tuple(range(_whole(count, "realizations", least=1)))


def _whole(value: int, name: str, *, least: int) -> int:
    """Check a whole number."""
    try:
        if not isinstance(value, bool) and index(value) >= least:
            return index(value)
    except TypeError:
        pass
    raise XstsrError(
        f"cannot use {name}={value!r}: it is a whole number of {least} or more."
    )


def _known_model(
    model: str | PathLike[str], method: str, meaning: Meaning
) -> tuple[str, str]:
    """Find the model and its fingerprint; refuse what it does not know."""
    name = fspath(model)
    if method not in NEURAL:
        return name, ""
    from xstsr.diffusion.checkpoint import available, find, fingerprint

    if meaning.kind == "state":
        raise XstsrError(
            f"cannot upscale {meaning.name!r} [{meaning.units}] with "
            f"method={method!r}: the model {name!r} knows precipitation only. Use "
            "method='linear'."
        )
    if name not in available():
        name = str(find(name).resolve())  # workers may stand in another folder
    return name, fingerprint(name)


def _unit(meaning: Meaning) -> float:
    """Find mm h-1 per unit of a rate, mm per unit of an amount, 1 for a state."""
    if meaning.kind == "amount":
        return to_mm(meaning.units)
    return to_mm_per_hour(meaning.units) if meaning.kind == "rate" else 1.0


def _provenance(job: Job) -> dict[str, str | int]:
    """Say how the field was made, for its attributes."""
    request = job.request
    told: dict[str, str | int] = {
        "version": package_version(),
        "method": request.method,
        "conserve": job.mode,
    }
    if request.method in STOCHASTIC:
        told["seed"] = request.seed
    if request.method in NEURAL:
        told["model"] = f"{Path(request.model).stem}@sha256:{request.fingerprint[:12]}"
    return told
