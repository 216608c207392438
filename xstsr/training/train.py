"""`train`: from fine fields to a checkpoint, in one call that can be interrupted."""

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xstsr.diffusion.checkpoint import fingerprint, load_model, save_model
from xstsr.errors import CheckpointError, XstsrError
from xstsr.methods import choose_device
from xstsr.training.events import Event, load_pack, read_events, save_pack
from xstsr.training.loop import Config, Run

if TYPE_CHECKING:
    import xarray as xr

MODEL, LOG, SETTINGS = "model.safetensors", "log.csv", "config.json"


def train(
    data: "Sequence[Path | str] | Sequence[xr.DataArray] | xr.DataArray",
    out: Path | str,
    *,
    config: Config | Path | str | None = None,
    start: Path | str | None = None,
    name: str | None = None,
    minutes: float = float("inf"),
    device: str | None = None,
    card: Mapping[str, Any] | None = None,
    say: Callable[[str], object] = print,
) -> Path:
    """Train a model on fine fields, or go on with a stopped run.

    Parameters
    ----------
    data : DataArray, or sequence of paths or of DataArrays
        Fine fields of rain: NetCDF files, folders of them, packs (``.npz``), or arrays.
    out : Path
        Folder of the run: its state, its log and, in the end, ``model.safetensors``,
        whose path `upscale` takes as ``model=``.
    config : Config or Path, optional
        All numbers, or a TOML file with some of them.
    start : Path or str, optional
        A model to fine-tune, by name or path: ``"default"``. Its architecture and value
        space take the place of the configuration's.
    name : str, optional
        The variable, where a file has several.
    minutes : float, optional
        Stop after so long; the same call goes on from there.
    device : str, optional
        Where to train; by default a GPU where there is one.
    card : mapping, optional
        What the model card should say besides.
    say : callable
        Takes a line ``step,stage,loss,seconds a step`` now and then.

    Returns
    -------
    Path
        Of the checkpoint, which holds the averaged weights so far.

    Raises
    ------
    DataError
        The fields cannot be used.
    CheckpointError
        The folder holds a run with other settings.
    """
    if isinstance(config, str | Path):
        config, written = read_config(Path(config))
        card = {**written, **(card or {})}
    chosen = config or Config()
    events = _events(data, name)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    source = None if start is None else load_model(start)
    if source is not None:
        chosen = replace(chosen, spec=source.spec)
    _same_run(folder, chosen, "" if start is None else fingerprint(start))
    run = Run(chosen, folder, choose_device(device), source)
    with (folder / LOG).open("a", encoding="utf-8") as log:

        def report(line: str) -> None:
            log.write(line + "\n")
            log.flush()
            say(line)

        run.go(events, minutes=minutes, report=report)
    told = {
        "training data": [e.name for e in events],
        "training steps": run.step,
        **(card or {}),
    }
    path = folder / MODEL
    save_model(run.average, path, told)
    return path


def pack_events(
    data: "Sequence[Path | str]", target: Path, name: str | None = None
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
    """
    save_pack(read_events([Path(d) for d in data], name), target)


def read_config(path: Path) -> tuple[Config, dict[str, Any]]:
    """Read a training configuration and a model card from TOML.

    What the file does not name stays as in `Config`.

    Parameters
    ----------
    path : Path
        A file such as ``residual_steps = 20000`` with tables ``[draw]`` and ``[card]``.

    Returns
    -------
    tuple of Config and dict

    Raises
    ------
    XstsrError
        It is no TOML, or names something that a configuration does not have.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise XstsrError(
            f"cannot read the configuration {str(path)!r}: {error}. Write it in TOML, "
            "as residual_steps = 20000."
        ) from error
    card = given.pop("card", {})
    return _updated(Config(), given, str(path)), card


def _updated(base: Any, given: Mapping[str, Any], where: str) -> Any:
    """Replace fields of a nested dataclass by those of a mapping."""
    known = {f.name for f in fields(base)}
    if unknown := sorted(set(given) - known):
        raise XstsrError(
            f"cannot use {unknown} in {where!r}: a {type(base).__name__} has "
            f"{sorted(known)}."
        )
    values = {
        key: _updated(getattr(base, key), value, where)
        if isinstance(value, dict)
        else tuple(value)
        if isinstance(value, list)
        else value
        for key, value in given.items()
    }
    return replace(base, **values)


def _events(data: Any, name: str | None) -> list[Event]:
    """Gather events from all that `train` accepts."""
    if not isinstance(data, list | tuple):
        data = [data]
    paths = [Path(d) if isinstance(d, str) else d for d in data]
    packs = [p for p in paths if isinstance(p, Path) and p.suffix == ".npz"]
    others = [p for p in paths if not (isinstance(p, Path) and p.suffix == ".npz")]
    packed = [event for pack in packs for event in load_pack(pack)]
    return packed + (read_events(others, name) if others or not packs else [])


def _same_run(folder: Path, config: Config, start: str) -> None:
    """Refuse to go on with other settings than those a run began with."""
    path = folder / SETTINGS
    now = json.loads(json.dumps({**asdict(config), "start": start}))
    if not path.exists():
        path.write_text(json.dumps(now, indent=1), encoding="utf-8")
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    changed = sorted(k for k in now if now[k] != before.get(k))
    if changed:
        raise CheckpointError(
            f"cannot go on with the run in {str(folder)!r}: {changed} were "
            f"{[before.get(k) for k in changed]} when it began. Restore them, or "
            "choose another folder."
        )
