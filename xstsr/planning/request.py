"""From a meaning and options to a `Job`: options checked, work planned.

Also whether a model fits a field, from the header of its checkpoint. Values only: no
labelled array comes in here.
"""

import sys
import warnings
from operator import index
from os import PathLike, fspath
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from xstsr.cf.meaning import Meaning
from xstsr.cf.units import same_units
from xstsr.errors import AssumptionWarning, XstsrError
from xstsr.factors import in_words, is_whole, read_factor, size_of, space_of
from xstsr.geometry.globe import globe_of
from xstsr.methods import METHODS, find_method
from xstsr.methods.devices import choose_device
from xstsr.methods.recipe import Recipe
from xstsr.methods.task import Request
from xstsr.planning.job import Job, make_job
from xstsr.typing import Mode, Space

if TYPE_CHECKING:
    pass


from collections.abc import Mapping
from typing import Any

from xstsr.errors import CheckpointError

T_MOST, S_MOST = 6, 25  # what every model refines in one stage
MOST_UNEQUAL = 4.0  # longer over shorter side of a cell: benchmarks/anisotropy.py
# the stage of the training that serves each method
_STAGES = {"mean": "mean", "diffusion": "residual", "generator": "generator"}


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
        attends=_attends(method, name),
        device=choose_device(device) if sha256 else "cpu",
        salt=_salt(name, method, meaning),
    )
    _warn_beyond(request)
    _warn_of_narrow_cells(meaning, request)
    return make_job(meaning, request, conserve)


def limits_of(model: str | PathLike[str], method: str) -> tuple[int, int]:
    """Find the largest factors in time and in space that a method takes at once.

    Parameters
    ----------
    model : str
        Name or path of a checkpoint; one trained beyond the usual factors knows more.
    method : str
        Without a network there is no limit.
    """
    if not find_method(method).is_neural:
        return sys.maxsize, sys.maxsize
    from xstsr.diffusion.checkpoint import read_header

    card = read_header(fspath(model))["card"]
    return max([T_MOST, *card.get("t", [])]), max([S_MOST, *card.get("s", [])])


def _warn_beyond(request: Request) -> None:
    """Say where the networks have not been: unequal factors, spacings, steps."""
    if not request.is_neural:
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
    if not request.is_neural:
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
    if count is None:
        return (0,)
    if not find_method(method).is_stochastic:
        several = sorted(name for name, m in METHODS.items() if m.is_stochastic)
        raise XstsrError(
            f"cannot draw realizations={count!r} with method={method!r}: it gives one "
            f"field. Leave realizations out, or choose one of {several}."
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


def _attends(method: str, model: str) -> bool:
    """Whether a model's generator, if it is asked for, has attention over frames."""
    if method != "generator":
        return False
    from xstsr.diffusion.checkpoint import read_spec

    generator = read_spec(model).generator
    assert generator is not None  # `check_knows` has found it
    return bool(generator.temporal)


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
    if not find_method(method).is_neural:
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
    if not find_method(method).is_neural:
        return 0
    from xstsr.diffusion.checkpoint import read_header

    given = any(f["timed"] for f in read_header(model)["spec"].get("known", ()))
    if meaning.kind != "state" and not given:
        return 0
    return crc32(str(meaning.name).encode()) << 32


def check_knows(
    model: str, header: Mapping[str, Any], method: str, meaning: Meaning
) -> None:
    """Refuse a field that a model does not know, or what it was not trained for.

    Parameters
    ----------
    model : str
        Name or path, for the messages.
    header : mapping
        From `xstsr.diffusion.checkpoint.read_header`.
    method : str
        ``"mean"``, ``"diffusion"`` or ``"generator"``.
    meaning : Meaning
        Of the coarse field.

    Raises
    ------
    CheckpointError
        It has no network for this, or none that was trained.
    XstsrError
        The field is of another kind, or in other units.

    Warns
    -----
    AssumptionWarning
        The field is a state in the right units, but of another standard name.
    """
    from xstsr.diffusion.checkpoint import methods_of

    trained = methods_of(header)
    if method not in trained:
        raise CheckpointError(
            f"cannot upscale with method={method!r} and the model {model!r}: it was "
            f"trained for {list(trained)} alone. Choose one of these, or go on with "
            f"its training and {_STAGES[method]}_steps above 0."
        )
    field = f"{meaning.name!r} [{meaning.units}]"
    transform = header.get("spec", {}).get("transform", {})
    if "centre" in transform:
        _check_state(model, transform, method, meaning)
    elif meaning.kind == "state":
        raise XstsrError(
            f"cannot upscale {field} with method={method!r}: "
            f"the model {model!r} knows precipitation only. Use method='linear', or "
            "train a model on such fields: xstsr.train(fine)."
        )


def _check_state(
    model: str, transform: Mapping[str, Any], method: str, meaning: Meaning
) -> None:
    """Refuse rain and other units, and warn of another quantity."""
    known, units = transform.get("standard_name", ""), transform["units"]
    what = f"{known or 'a state'} in {units!r}"
    field = f"{meaning.name!r} [{meaning.units}]"
    if meaning.kind != "state":
        raise XstsrError(
            f"cannot upscale {field} with method={method!r}: "
            f"the model {model!r} knows {what}, and no rain. Pass model='default'."
        )
    if not same_units(meaning.units, units):
        raise XstsrError(
            f"cannot upscale {field} with method={method!r}: "
            f"the model {model!r} knows {what}. Convert the field first: "
            f"da.pint.quantify().pint.to({units!r}).pint.dequantify()."
        )
    name = str(meaning.attrs.get("standard_name", ""))
    if name and known and name != known:
        warnings.warn(
            f"the model {model!r} was trained on {known}, and {meaning.name!r} is "
            f"{name}; see evaluate() before you trust it",
            AssumptionWarning,
            stacklevel=7,
        )
