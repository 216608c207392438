r"""Checkpoints: safetensors with a JSON header, and never a pickle.

The header holds everything but the weights: the architecture, the value space, how to
sample, and the model card. Weights are kept in half precision. A file is written beside
its target and renamed, so that a crash never costs the last good one.
"""

import copy
import functools
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from xstsr.atomic import atomic_write
from xstsr.diffusion.features import KnownField
from xstsr.diffusion.model import Model, ModelSpec, Settings
from xstsr.diffusion.network import Architecture
from xstsr.diffusion.sampler import SAMPLERS
from xstsr.diffusion.transform import read_transform
from xstsr.errors import CheckpointError

FORMAT = 1
WEIGHTS = Path(__file__).parents[1] / "weights"
_SUFFIX = ".safetensors"
_RETIRED = ("from_noise", "renoise")  # settings of earlier files
_LOCK = threading.Lock()
Name = str | os.PathLike[str]


def save_model(model: Model, path: Path, card: Mapping[str, Any]) -> None:
    """Write a model, beside its target first.

    Parameters
    ----------
    model : Model
        What to write.
    path : Path
        Target, ``*.safetensors``.
    card : mapping
        The model card: what JSON can hold.

    Raises
    ------
    CheckpointError
        The file cannot be written; the last one is as it was.
    """
    header = {"format": FORMAT, "spec": asdict(model.spec), "card": dict(card)}
    tensors = {
        name: value.detach().cpu().to(_stored_as(name)).contiguous()
        for name, value in model.state_dict().items()
    }
    with atomic_save(path) as side:
        save_file(tensors, side, metadata={"xstsr": json.dumps(header)})


@contextmanager
def atomic_save(path: Path) -> Iterator[Path]:
    """Write a file as `atomic_write` does; a full disk is a `CheckpointError`.

    Parameters
    ----------
    path : Path
        The target.

    Yields
    ------
    Path
        What to write.

    Raises
    ------
    CheckpointError
        It cannot be written: the disk is full, say. The target is as it was.
    """
    try:
        with atomic_write(path) as side:
            yield side
    # torch and safetensors have errors of their own for a full disk
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"cannot write {str(path)!r}: {error}. Its last version, if any, is as it "
            "was. Make space or choose another folder, and give the command again."
        ) from error


def load_model(name: Name = "default", device: str = "cpu") -> Model:
    """Load a model by name or path, as a copy of your own.

    Parameters
    ----------
    name : str or path
        A name that `available` lists, or the path of a ``.safetensors`` file.
    device : str
        Where the weights go: ``"cpu"``, ``"cuda"``, ``"cuda:1"``.

    Returns
    -------
    Model
        In evaluation mode, without gradients; float32.

    Raises
    ------
    CheckpointError
        No such file; not a checkpoint of xstsr; damaged; of another version.

    Examples
    --------
    >>> model = load_model("default")
    >>> model.training, any(p.requires_grad for p in model.parameters())
    (False, False)
    """
    return copy.deepcopy(shared_model(name, device))


def shared_model(name: Name = "default", device: str = "cpu") -> Model:
    """Load a model once per process and device, for many threads; do not alter it.

    Parameters
    ----------
    name, device : str
        As in `load_model`.
    """
    path = find(name)
    with _LOCK:
        return _load(path, path.stat().st_mtime_ns, device)


def read_header(name: Name = "default") -> dict[str, Any]:
    """Read a checkpoint's header (format, spec, card) without its weights.

    Parameters
    ----------
    name : str
        A name or a path.
    """
    path = find(name)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"cannot read {str(path)!r} as a checkpoint: {error}. The file is "
            "truncated or of another kind; download it again or pass another model."
        ) from error
    if "xstsr" not in metadata:
        raise CheckpointError(
            f"cannot use {str(path)!r}: it is a safetensors file, but not one that "
            f"xstsr wrote (its metadata hold {sorted(metadata)}). Train one with "
            "xstsr.train()."
        )
    try:
        header: dict[str, Any] = json.loads(metadata["xstsr"])
    except json.JSONDecodeError as error:
        raise CheckpointError(
            f"cannot read the header of {str(path)!r}: {error}. Download it again."
        ) from error
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"cannot use {str(path)!r}: its format is {header.get('format')!r}, this "
            f"version of xstsr reads {FORMAT}. Install the xstsr that wrote it."
        )
    return header


def methods_of(header: Mapping[str, Any]) -> tuple[str, ...]:
    """List the methods that a model was trained for, in the order of the training.

    Parameters
    ----------
    header : mapping
        From `read_header`.
    """
    card = header["card"]
    methods = tuple(card.get("methods", ("mean", "diffusion")))
    # the cards of earlier files do not name the generator, only what it was trained for
    steps = card.get("training steps", {"generator": 1})
    if header["spec"].get("generator") and steps.get("generator"):
        methods = (*methods, "generator")
    return tuple(dict.fromkeys(methods))


def read_card(name: Name = "default") -> dict[str, Any]:
    """Read a model's card, with the methods that it serves and how it samples.

    Parameters
    ----------
    name : str
        A name or a path.
    """
    header = read_header(name)
    methods, settings = methods_of(header), _settings(header["spec"]["settings"])
    card: dict[str, Any] = header["card"] | {"methods": list(methods)}
    if "diffusion" in methods:
        card |= {"steps": settings.steps, "sampler": settings.sampler}
    return card


def available() -> list[str]:
    """List the names of the bundled models."""
    return sorted(p.stem for p in WEIGHTS.glob(f"*{_SUFFIX}"))


def find(name: Name) -> Path:
    """Locate a model by bundled name or by path."""
    name = os.fspath(name)
    path = WEIGHTS / f"{name}{_SUFFIX}" if "/" not in name else Path(name)
    if name.endswith(_SUFFIX):
        path = Path(name)
    if not path.is_file():
        raise CheckpointError(
            f"cannot find the model {name!r}: it is no file, and the bundled models "
            f"are {available()}. Pass one of these names or the path of a .safetensors "
            "file."
        )
    return path


@functools.lru_cache(maxsize=16)
def _fingerprint(path: Path, changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fingerprint(name: Name = "default") -> str:
    """Compute the sha256 of a model's file, as 64 hexadecimal digits."""
    path = find(name)
    return _fingerprint(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
@torch.inference_mode(False)
def _load(path: Path, changed: int, device: str) -> Model:
    """Build and fill a model; `changed` renews the cache when the file does."""
    try:
        model = Model(read_spec(str(path)))
        SAMPLERS[model.spec.settings.sampler]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"cannot build the model of {str(path)!r} from its header: {error!r}. "
            "Install the xstsr that wrote it."
        ) from error
    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
        weights = {name: file.get_tensor(name).float() for name in names}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"cannot load the weights of {str(path)!r}: they do not fit the "
            f"architecture in its header ({str(error).splitlines()[-1].strip()}). "
            "Download it again."
        ) from error
    model.requires_grad_(False).eval()
    return model.to(device)


def read_spec(name: Name) -> ModelSpec:
    """Read what a model was built from, without its weights."""
    return _spec(read_header(name)["spec"])


def _spec(fields: Mapping[str, Any]) -> ModelSpec:
    """Restore a spec from JSON, where tuples have become lists."""

    def architecture(part: Mapping[str, Any]) -> Architecture:
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in part.items()
        }
        return Architecture(**values)

    return ModelSpec(
        architecture(fields["mean"]),
        architecture(fields["denoiser"]),
        read_transform(fields["transform"]),
        _settings(fields["settings"]),
        architecture(fields["generator"]) if fields.get("generator") else None,
        # files from before there were known fields name none
        tuple(KnownField(**field) for field in fields.get("known", ())),
    )


def _settings(fields: Mapping[str, Any]) -> Settings:
    """Restore how a model samples, from files of every age."""
    kept = {name: value for name, value in fields.items() if name not in _RETIRED}
    if kept.get("steps") == 1:  # was the generator's, which is now a method of its own
        del kept["steps"]
    return Settings(**kept)


def _stored_as(name: str) -> torch.dtype:
    """Half precision for weights; the few fitted numbers stay as they are."""
    return torch.float32 if name.startswith("sigma_data") else torch.float16
