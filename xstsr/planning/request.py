"""From a meaning and a wish to a `Job`: options checked, work planned.

Values only: no labelled array comes in here.
"""

import sys
import warnings
from operator import index
from os import PathLike, fspath
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from xstsr.cf.meaning import AssumptionWarning, Meaning
from xstsr.cf.units import to_mm, to_mm_per_hour
from xstsr.errors import XstsrError
from xstsr.execution.window import Job, Mode
from xstsr.factors import Space, in_words, is_whole, read_factor, size_of, space_of
from xstsr.geometry.globe import globe_of
from xstsr.knowledge import check_knows
from xstsr.methods import (
    NEURAL,
    REACH,
    STOCHASTIC,
    Request,
    check_method,
    choose_device,
)
from xstsr.methods.recipe import Recipe
from xstsr.planning.tiling import TILE_HALO, Plan, Reach, make_plan

if TYPE_CHECKING:
    from xstsr.diffusion.network import Architecture

T_MOST, S_MOST = 6, 25  # what every model refines in one stage
MOST_UNEQUAL = 4.0  # longer over shorter side of a cell: benchmarks/anisotropy.py


def prepare(
    meaning: Meaning,
    s: Space,
    t: int,
    *,
    realizations: int | None = None,
    seed: int = 0,
    method: str = "diffusion",
    model: str | PathLike[str] = "default",
    conserve: Mode = "cell",
    recipe: Recipe | None = None,
    steps: int | None = None,
    sampler: str | None = None,
    device: str | None = None,
) -> Job:
    """Check the options and plan the work; the arguments are those of `upscale`."""
    factor = read_factor(s, t)
    size = size_of(space_of(factor))
    name, sha256 = _known_model(model, method, meaning)
    steps, sampler = _sampling(steps, sampler, method, name)
    request = Request(
        method=method,
        factor=factor,
        globe=globe_of(meaning.y_edges, meaning.x_edges, meaning.geometry),
        spacing_km=meaning.longer_side_km(*factor[1:]),
        step_minutes=meaning.step_minutes / t,
        recipe=recipe or Recipe.for_factors(size, t, step=meaning.step_minutes),
        realizations=_realizations(realizations, method),
        seed=_whole(seed, "seed", least=0),
        model=name,
        fingerprint=sha256,
        steps=steps,
        sampler=sampler,
        attends=method == "generator" and bool(_generator(name).temporal),
        device=choose_device(device) if method in NEURAL else "cpu",
        salt=_salt(name, method, meaning),
    )
    _warn_beyond(request)
    _warn_of_narrow_cells(meaning, request)
    return make_job(meaning, request, conserve)


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
    if mode == "window" and meaning.point:
        raise XstsrError(
            f"cannot conserve={mode!r} of {meaning.name!r}: its values are "
            "instantaneous (time: point), and instants have no total over time. Choose "
            "'cell' or 'none', or say what they are: cell_methods='time: mean'."
        )
    return Job(
        request=request,
        plan=make_windows(meaning, request),
        kind=meaning.kind,
        constraint=meaning.constraint,
        unit=_unit(meaning),
        mode=mode,
        time_edges=meaning.time_edges,
        y_edges=meaning.y_edges,
        x_edges=meaning.x_edges,
        geometry=meaning.geometry,
    )


def make_windows(meaning: Meaning, request: Request) -> Plan:
    """Cut the record into windows with the context that the method needs."""
    step = int(np.median(np.diff(meaning.time_edges)))
    numbers = [int(edge) // step for edge in meaning.time_edges[:-1]]
    return make_plan(
        numbers,
        meaning.shape[1:],
        request.factor,
        _reach(request),
        globe=request.globe,
    )


def _reach(request: Request) -> Reach:
    """How far the method looks."""
    if request.method not in NEURAL:
        return REACH[request.method](request.factor)
    from xstsr.diffusion.checkpoint import read_spec

    spec = read_spec(request.model)
    # beyond the reach of attention, one frame for the convolutions in time
    frames = request.recipe.context // 2 + 1
    stride = max(spec.mean.stride, spec.denoiser.stride)
    halo = max(TILE_HALO, stride)
    if not request.needs_mean:
        generator = _generator(request.model)
        stride = generator.stride
        halo = max(TILE_HALO, 3 * stride)
        if not generator.temporal:
            frames = -(-generator.frames // request.factor[0])
    return Reach(frames, halo, stride, request.bytes_per_pixel)


def _generator(model: str) -> "Architecture":
    """Read the shape of a model's generator, which `check_knows` has found."""
    from xstsr.diffusion.checkpoint import read_spec

    generator = read_spec(model).generator
    assert generator is not None
    return generator


def limits_of(model: str | PathLike[str], method: str) -> tuple[int, int]:
    """Find the largest factors in time and in space that a method takes at once.

    Parameters
    ----------
    model : str
        Name or path of a checkpoint; one trained beyond the usual factors knows more.
    method : str
        Without a network there is no limit.
    """
    if method not in NEURAL:
        return sys.maxsize, sys.maxsize
    from xstsr.diffusion.checkpoint import read_header

    card = read_header(fspath(model))["card"]
    return max([T_MOST, *card.get("t", [])]), max([S_MOST, *card.get("s", [])])


def _warn_beyond(request: Request) -> None:
    """Say where the networks have not been: unequal factors, spacings, steps."""
    if request.method not in NEURAL:
        return
    from xstsr.diffusion.checkpoint import read_header

    space = space_of(request.factor)
    card = read_header(request.model)["card"]
    told = []
    if isinstance(space, tuple):
        told.append(f"s = {in_words(space)}, trained with equal factors in y and x")
    for factor, key in zip(request.factor, ("t", "s", "s"), strict=True):
        known = card.get(key, [factor])
        note = f"{key}={factor}, trained with {key} from {min(known)} to {max(known)}"
        if not min(known) <= factor <= max(known) and note not in told:
            told.append(note)
    for value, key, unit in (
        (request.spacing_km, "spacing_km", "km"),
        (request.step_minutes, "step_minutes", "min"),
    ):
        low, high = card.get(key, (0.0, float("inf")))
        if not 0.8 * low <= value <= 1.25 * high:
            told.append(f"{value:.3g} {unit}, trained with {low:g} to {high:g} {unit}")
    for note in told:
        warnings.warn(
            f"the fine grid lies beyond what the model has seen: {note}; see "
            "evaluate() before you trust it",
            AssumptionWarning,
            stacklevel=6,
        )


def _warn_of_narrow_cells(meaning: Meaning, request: Request) -> None:
    """Say where cells are more unequal in height and width than was ever judged."""
    if request.method not in NEURAL:
        return
    _, sy, sx = request.factor
    heights, widths = (
        side / n for side, n in zip(meaning.sides_km, (sy, sx), strict=True)
    )
    ratio = float(np.max(np.maximum(heights / widths, widths / heights)))
    if ratio > MOST_UNEQUAL:
        warnings.warn(
            f"the longer side of some cells is {ratio:.3g} times the shorter one; the "
            f"networks were judged up to {MOST_UNEQUAL:g}, as between 75 degrees south "
            "and north: do not trust their texture beyond, or regrid() to cells of "
            "equal sides",
            AssumptionWarning,
            stacklevel=4,
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


def _sampling(
    steps: int | None, sampler: str | None, method: str, model: str
) -> tuple[int | None, str | None]:
    """Find how a sample is drawn by diffusion, by default as the model's header says.

    Returns
    -------
    tuple
        Evaluations of the denoiser and the name of the sampler; None for methods
        without a denoiser.
    """
    if steps is not None:
        steps = _whole(steps, "steps", least=1)
    if method != "diffusion":
        return None, None
    from xstsr.diffusion.checkpoint import read_spec
    from xstsr.diffusion.sampler import find_sampler

    settings = read_spec(model).settings
    name = settings.sampler if sampler is None else sampler
    steps = settings.steps if steps is None else steps
    return find_sampler(name, steps).used(steps), name


def _whole(value: int, name: str, *, least: int) -> int:
    """Check a whole number."""
    if is_whole(value, least=least):
        return index(value)
    raise XstsrError(
        f"cannot use {name}={value!r}: it is a whole number of {least} or more."
    )


def _known_model(
    model: str | PathLike[str], method: str, meaning: Meaning
) -> tuple[str, str]:
    """Find the model and its fingerprint; refuse what it does not know."""
    name = fspath(model)
    if method == "rainfarm" and meaning.kind == "state":
        raise XstsrError(
            f"cannot upscale {meaning.name!r} [{meaning.units}] with {method!r}: "
            "RainFARM draws rain, which is never negative. Use method='linear'."
        )
    if method not in NEURAL:
        return name, ""
    from xstsr.diffusion.checkpoint import available, find, fingerprint, read_header

    check_knows(name, read_header(name), method, meaning)
    if name not in available():
        name = str(find(name).resolve())  # workers may stand in another folder
    return name, fingerprint(name)


def _salt(model: str, method: str, meaning: Meaning) -> int:
    """Give the noise of each variable a number of its own.

    The components of the wind, or rain and what is drawn given it, would be tied to
    each other by the same noise. Rain alone has that of its seed.
    """
    if method not in NEURAL:
        return 0
    from xstsr.diffusion.checkpoint import read_header

    given = any(f["timed"] for f in read_header(model)["spec"].get("known", ()))
    if meaning.kind != "state" and not given:
        return 0
    return crc32(str(meaning.name).encode()) << 32


def _unit(meaning: Meaning) -> float:
    """Find mm h-1 per unit of a rate, mm per unit of an amount, 1 for a state."""
    if meaning.kind == "amount":
        return to_mm(meaning.units)
    return to_mm_per_hour(meaning.units) if meaning.kind == "rate" else 1.0
