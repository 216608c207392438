"""`train`: from fine fields to a checkpoint, in one call that can be interrupted."""

import json
import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from xstsr.diffusion.checkpoint import (
    atomic_save,
    fingerprint,
    load_model,
    read_header,
    save_model,
)
from xstsr.diffusion.features import KnownField
from xstsr.diffusion.generator import ARCHITECTURE as GENERATOR
from xstsr.diffusion.model import Model, ModelSpec
from xstsr.diffusion.transform import StateTransform
from xstsr.errors import AssumptionWarning, CheckpointError, DataError, XstsrError
from xstsr.files import open_fields
from xstsr.training.card import model_card
from xstsr.training.config import Config, Draw, read_config
from xstsr.training.events import (
    Event,
    check_alike,
    fit_transform,
    load_pack,
    read_events,
    save_pack,
)
from xstsr.training.fabric import launch, open_fabric
from xstsr.training.loop import Run, append
from xstsr.training.patches import possible_factors
from xstsr.training.predictors import fit_known
from xstsr.training.validation import Case, Judge, Score, draw_cases

if TYPE_CHECKING:
    import xarray as xr
    from lightning_fabric import Fabric

    from xstsr.planning.predictors import Known

    Source = Known | Path | str

MODEL, LOG, SETTINGS = "model.safetensors", "log.csv", "config.json"
Say = Callable[[str], object]


def train(
    data: "Sequence[Path | str] | Sequence[xr.DataArray] | xr.DataArray | Path | str",
    out: Path | str = "runs/default",
    *,
    validation: "Sequence[Path | str] | Sequence[xr.DataArray] | xr.DataArray" = (),
    config: Config | Path | str | None = None,
    s: int | Sequence[int] = (),
    t: int | Sequence[int] = (),
    start: Path | str | None = None,
    name: str | None = None,
    static: "Source | Sequence[Source]" = (),
    given: "Source | Sequence[Source]" = (),
    minutes: float = float("inf"),
    device: str | None = None,
    devices: int = 1,
    card: Mapping[str, Any] | None = None,
    say: Say | None = None,
) -> Path:
    """Train a model on fine fields, or go on with a stopped run.

    Parameters
    ----------
    data : DataArray, or sequence of paths or of DataArrays
        Fine rain, or a state: NetCDF files, folders of them, packs (``.npz``), arrays.
    out : Path
        Folder of the run, where `upscale` finds its ``model=`` in the end.
    validation : DataArray, or sequence of paths or of DataArrays
        Events to score the model on, in ``validation.csv``, now and then; the best
        weights are kept as ``best.safetensors``.
    config : Config or Path, optional
        All numbers, or a TOML file with some of them.
    s, t : int or sequence of int
        Factors to train on, in place of the configuration's.
    start : Path or str, optional
        A model to fine-tune, by name or path, whose architecture and value space hold.
    name : str, optional
        The variable, where a file has several.
    static, given : DataArray, Dataset or path, or sequence of them
        What `upscale` will be told of the fine grid: orography, or another variable.
        The first that covers it counts.
    minutes, device : optional
        Stop after so long; where to train, by default a GPU where there is one.
    devices : int
        Number of GPUs, or of processes on the CPU, each with batches of its own.
    card : mapping, optional
        What the model card should say besides what is measured.
    say : callable, optional
        Takes the lines of ``log.csv``; by default they are printed.

    Returns
    -------
    Path
        Of the checkpoint, which holds the averaged weights so far.

    Raises
    ------
    XstsrError
        An option cannot be used, or Lightning Fabric is missing.
    DataError, GridError
        The fields cannot be used.
    CheckpointError
        The folder holds a run with other settings or data, or there is no space.
    """
    chosen, written = _configured(config, s, t)
    events, judged = _gathered(data, validation, name, *map(_opened, (static, given)))
    _warn_of_left_out(events, chosen.draw)
    source = None if start is None else load_model(start)
    chosen = replace(chosen, spec=_spec(chosen, events, source))
    fabric = open_fabric(device, devices, chosen.precision)
    _check_travels(say, devices)
    cases = draw_cases(judged, chosen.draw) if judged else []
    folder, told = Path(out), written | dict(card or {})
    _same_run(folder, chosen, "" if start is None else fingerprint(start), events)
    past = {} if start is None else read_header(start)["card"]
    work = _Work(
        chosen, folder, events, cases, source, minutes, told, past, say or tell
    )
    steps = launch(fabric, partial(_train, work))
    _warn_of_stop(folder, steps, chosen)
    return folder / MODEL


@dataclass(frozen=True)
class _Work:
    """What each process must know to train."""

    config: Config
    folder: Path
    events: Sequence[Event]
    cases: Sequence[Case]
    start: Model | None
    minutes: float
    card: Mapping[str, Any]
    past: Mapping[str, Any]
    say: Say


def _train(work: _Work, fabric: "Fabric") -> dict[str, int]:
    """Train in one process; returns the steps of each stage."""
    run = Run(work.config, work.folder, fabric, work.start)
    names = [e.name for e in work.events]

    def card(scores: Sequence[Score]) -> dict[str, Any]:
        return model_card(
            work.card, run.record, run.average, run.steps, names, scores, work.past
        )

    def report(line: str) -> None:
        if fabric.is_global_zero:
            append(work.folder / LOG, line)
            work.say(line)

    judge = Judge(work.cases, work.folder, card) if work.cases else None
    run.go(work.events, minutes=work.minutes, report=report, judge=judge)
    if fabric.is_global_zero:
        scores = judge.last(run.step) if judge else ()
        save_model(run.average, work.folder / MODEL, card(scores))
    return run.steps


def pack_events(
    data: "Sequence[Path | str]",
    target: Path,
    name: str | None = None,
    static: "Source | Sequence[Source]" = (),
    given: "Source | Sequence[Source]" = (),
) -> None:
    """Pack fine fields into one file that `train` reads without NetCDF.

    Parameters
    ----------
    data : sequence of paths
        NetCDF files or folders of them.
    target : Path
        The pack, ``*.npz``.
    name : str, optional
        The variable, where a file has several.
    static, given : DataArray, Dataset or path, or sequence of them
        As in `train`; they travel in the pack.
    """
    known = map(_opened, (static, given))
    save_pack(read_events([Path(d) for d in data], name, *known), target)


def tell(line: str) -> None:
    """Print a line, above the progress bar where there is one."""
    tqdm.write(line)


def _check_travels(say: Say | None, devices: int) -> None:
    """Refuse a function that cannot be sent to other processes."""
    try:
        pickle.dumps(say if devices > 1 else None)
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        raise XstsrError(
            f"cannot train on {devices} devices with say={say!r}: it cannot be sent to "
            f"other processes ({error}). Pass a function that a module defines."
        ) from error


def _configured(
    config: Config | Path | str | None, s: int | Sequence[int], t: int | Sequence[int]
) -> tuple[Config, dict[str, Any]]:
    """Read the configuration and its card; factors that are given replace its own."""
    card: dict[str, Any] = {}
    if isinstance(config, str | Path):
        config, card = read_config(Path(config))
    config = config or Config()
    fixed_s, fixed_t = (
        (value,) if isinstance(value, int) else tuple(value) for value in (s, t)
    )
    draw = config.draw
    draw = replace(draw, s=fixed_s or draw.s, t=fixed_t or draw.t)
    return replace(config, draw=draw), card


def _gathered(
    data: Any, validation: Any, name: str | None, *known: "list[Known]"
) -> tuple[list[Event], list[Event]]:
    """Read the events to train on and those to judge by, and compare them."""
    is_judged = not (isinstance(validation, list | tuple) and not validation)
    events = _events(data, name, *known)
    judged = _events(validation, name, *known) if is_judged else []
    check_alike([*events, *judged])
    trained = {e.fingerprint for e in events} if judged else set()
    if shared := [e.name for e in judged if e.fingerprint in trained]:
        warnings.warn(
            f"{shared} are both trained and validated on: the scores say nothing of "
            "other events",
            AssumptionWarning,
            stacklevel=3,
        )
    return events, judged


def _opened(known: Any) -> "list[Known]":
    """Open known fields in any of the forms that `train` accepts."""
    sources = known if isinstance(known, list | tuple) else [known]
    return [open_fields(Path(x)) if isinstance(x, str | Path) else x for x in sources]


def _events(data: Any, name: str | None, *known: "list[Known]") -> list[Event]:
    """Gather events from all that `train` accepts."""
    if not isinstance(data, list | tuple):
        data = [data]
    paths = [Path(d) if isinstance(d, str) else d for d in data]
    packs = [p for p in paths if isinstance(p, Path) and p.suffix == ".npz"]
    others = [p for p in paths if not (isinstance(p, Path) and p.suffix == ".npz")]
    packed = [event for pack in packs for event in load_pack(pack)]
    read = read_events(others, name, *known) if others or not packs else []
    return packed + read


def _spec(config: Config, events: Sequence[Event], start: Model | None) -> ModelSpec:
    """Choose the architecture, and a value space that suits the events."""
    spec, known = config.spec, fit_known(event.layers for event in events)
    if start is None:
        transform = fit_transform(events, spec.transform)
        spec = replace(spec, transform=transform, known=known)
    else:
        _check_fine_tunes(events, start, known)
        spec = start.spec
    if config.generator_steps and spec.generator is None:
        spec = replace(spec, generator=GENERATOR)
    return spec


def _check_fine_tunes(
    events: Sequence[Event], start: Model, known: tuple[KnownField, ...]
) -> None:
    """Refuse to fine-tune on another quantity or with other known fields."""
    needed, given = (
        [(f.name, f.units) for f in fields] for fields in (start.spec.known, known)
    )
    if needed != given:
        raise DataError(
            f"cannot fine-tune on {events[0].name!r}: the model was trained with the "
            f"known fields {needed}, and {given} are given. Pass the same, by static= "
            "and given=."
        )
    transform = start.spec.transform
    is_state = isinstance(transform, StateTransform)
    if events[0].quantity != (transform.quantity if is_state else "rain"):
        raise DataError(
            f"cannot fine-tune on {events[0].name!r}: the model knows "
            f"{transform.quantity}, and the data are {events[0].quantity}. Train from "
            "scratch, or convert the data."
        )


def _warn_of_left_out(events: Sequence[Event], draw: Draw) -> None:
    """Say which factors need larger events than there are."""
    possible = possible_factors(events, draw)
    left_out = {
        name: sorted(set(asked) - {f[i] for f in possible})
        for i, (name, asked) in enumerate((("s", draw.s), ("t", draw.t)))
    }
    if told := [f"{name}={v}" for name, v in left_out.items() if v]:
        warnings.warn(
            f"not trained: {' and '.join(told)}, for no event holds {draw.cells} "
            "coarse cells a side and two coarse steps of them. Use larger events, or "
            "set fewer cells in [draw] of the configuration",
            AssumptionWarning,
            stacklevel=3,
        )


def _warn_of_stop(folder: Path, steps: Mapping[str, int], config: Config) -> None:
    """Say that there is no denoiser yet, where one is to come."""
    if config.mean_steps and config.residual_steps and not steps["residual"]:
        warnings.warn(
            f"the run in {str(folder)!r} was stopped after {steps['mean']} steps, "
            'before its denoiser was trained: the model serves method="mean" only. '
            "Give the same command to go on",
            AssumptionWarning,
            stacklevel=3,
        )


def _same_run(
    folder: Path, config: Config, start: str, events: Sequence[Event]
) -> None:
    """Refuse to go on with other settings or data than those a run began with."""
    path = folder / SETTINGS
    data = [e.fingerprint for e in events]
    now = _flat(json.loads(json.dumps(asdict(config) | {"start": start, "data": data})))
    if not path.exists():
        with atomic_save(path) as side:
            side.write_text(json.dumps(now, indent=1), encoding="utf-8")
        return
    before = _flat(json.loads(path.read_text(encoding="utf-8")))
    # a setting that was not known when the run began had its default value
    usual = _flat(json.loads(json.dumps(asdict(Config()))))
    before = usual | {"start": "", "data": data} | before
    if data != before["data"]:
        raise CheckpointError(
            f"cannot go on with the run in {str(folder)!r}: it began with other data "
            f"than {[e.name for e in events]}, or in another order. Give it the same, "
            "or choose another folder; start= goes on from its model with other data."
        )
    if changed := sorted(k for k in now if now[k] != before.get(k)):
        raise CheckpointError(
            f"cannot go on with the run in {str(folder)!r}: {changed} were "
            f"{[before.get(k) for k in changed]} when it began. Restore them, or "
            "choose another folder."
        )


def _flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Flatten nested settings to dotted names."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        nested = _flat(value, f"{above}{key}.") if isinstance(value, dict) else None
        flat |= {above + key: value} if nested is None else nested
    return flat
