"""From a meaning and a wish to a `Job`: options checked, work planned.

Values only: no labelled array comes in here.
"""

import warnings
from operator import index
from os import PathLike, fspath

import numpy as np

from xstsr.errors import FactorError, XstsrError
from xstsr.globe import globe_of
from xstsr.knowledge import check_knows
from xstsr.meaning import AssumptionWarning, Meaning
from xstsr.methods import (
    NEURAL,
    REACH,
    STOCHASTIC,
    Request,
    check_method,
    choose_device,
)
from xstsr.plan import TILE_HALO, Plan, Reach, make_plan
from xstsr.recipe import Recipe
from xstsr.units import to_mm, to_mm_per_hour
from xstsr.windows import Job, Mode

S_TRAINED, T_TRAINED = 25, 6
MOST_UNEQUAL = 4.0  # longer over shorter side of a cell: benchmarks/anisotropy.py


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
    request = Request(
        method=method,
        factor=factor,
        globe=globe_of(meaning.y_edges, meaning.x_edges, meaning.geometry),
        spacing_km=meaning.longer_side_km / s,
        step_minutes=meaning.step_minutes / t,
        recipe=recipe or Recipe.for_factors(s, t, step=meaning.step_minutes),
        realizations=_realizations(realizations, method),
        seed=_whole(seed, "seed", least=0),
        model=name,
        fingerprint=sha256,
        steps=None if steps is None else _whole(steps, "steps", least=2),
        device=choose_device(device) if method in NEURAL else "cpu",
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
    return Job(
        request=request,
        plan=make_windows(meaning, request),
        kind=meaning.kind,
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
    from xstsr.diffusion.checkpoint import read_header

    networks = read_header(request.model)["spec"]
    strides = [2 ** len(networks[k]["widths"]) for k in ("mean", "denoiser")]
    windows = [max(1, networks[k]["window"]) for k in ("mean", "denoiser")]
    grain = max(s * w for s, w in zip(strides, windows, strict=True))
    # beyond the reach of attention, one frame for the convolutions in time
    frames = request.recipe.context // 2 + 1
    return Reach(frames, max(TILE_HALO, grain // 2), grain, max(strides))


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
        if not _is_whole(value, least=1):
            raise FactorError(
                f"cannot use {name}={value!r}: a factor is a whole number of "
                "1 or more, such as s=10, t=3."
            )
    return index(t), index(s), index(s)


def _warn_beyond(request: Request) -> None:
    """Say where the networks have not been: factors, spacings, steps."""
    if request.method not in NEURAL:
        return
    from xstsr.diffusion.checkpoint import read_header

    t, s, _ = request.factor
    card = read_header(request.model)["card"]
    told = []
    if s > S_TRAINED or t > T_TRAINED:
        told.append(f"s={s}, t={t}, trained with s <= {S_TRAINED} and t <= {T_TRAINED}")
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
            stacklevel=4,
        )


def _warn_of_narrow_cells(meaning: Meaning, request: Request) -> None:
    """Say where cells are more unequal in height and width than was ever judged."""
    if request.method not in NEURAL:
        return
    heights, widths = meaning.sides_km
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


def _whole(value: int, name: str, *, least: int) -> int:
    """Check a whole number."""
    if _is_whole(value, least=least):
        return index(value)
    raise XstsrError(
        f"cannot use {name}={value!r}: it is a whole number of {least} or more."
    )


def _is_whole(value: int, *, least: int) -> bool:
    """Tell whether a value counts: no float, no flag, not below the least."""
    try:
        return not isinstance(value, bool) and index(value) >= least
    except TypeError:
        return False


def _known_model(
    model: str | PathLike[str], method: str, meaning: Meaning
) -> tuple[str, str]:
    """Find the model and its fingerprint; refuse what it does not know."""
    name = fspath(model)
    if method not in NEURAL:
        return name, ""
    from xstsr.diffusion.checkpoint import available, find, fingerprint, read_header

    check_knows(name, read_header(name), method, meaning)
    if name not in available():
        name = str(find(name).resolve())  # workers may stand in another folder
    return name, fingerprint(name)


def _unit(meaning: Meaning) -> float:
    """Find mm h-1 per unit of a rate, mm per unit of an amount, 1 for a state."""
    if meaning.kind == "amount":
        return to_mm(meaning.units)
    return to_mm_per_hour(meaning.units) if meaning.kind == "rate" else 1.0
