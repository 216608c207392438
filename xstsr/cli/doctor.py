"""What is installed here: versions, devices, regridding, models.

``xstsr doctor`` prints it for bug reports, ``xstsr models`` the part about models.
"""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from typing import Any

from xstsr import display

__all__ = ["ModelCard", "model_card", "models", "survey"]

_PACKAGES = (
    "xstsr",
    "numpy",
    "xarray",
    "dask",
    "torch",
    "cf-xarray",
    "cftime",
    "pint",
    "pint-xarray",
    "pyproj",
    "scipy",
    "netCDF4",
    "zarr",
    "safetensors",
    "array-api-compat",
    "matplotlib",
    "h5netcdf",
    "h5py",
    "distributed",
)


def survey() -> dict[str, dict[str, Any]]:
    """Gather what a bug report needs, as plain numbers and strings.

    Returns
    -------
    dict with the sections ``system``, ``packages`` (None: not installed), ``devices``,
    ``regridding``, ``models`` and ``caches``. No paths of files and no names of users
    or hosts.
    """
    return {
        "system": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cpus": os.cpu_count(),
        },
        "packages": {name: _version(name) for name in _PACKAGES},
        "devices": _devices(),
        "regridding": {name: _importable(name) for name in ("esmpy", "xesmf")},
        "models": {row["name"]: row["sha256"] for row in models()},
        "caches": {"disk": "none: models are bundled, or given by their path"},
    }


def models() -> list[dict[str, Any]]:
    """Describe the bundled models.

    Returns
    -------
    list of dict: ``name``, ``megabytes``, ``sha256`` and ``card``, its model card.

    Raises
    ------
    CheckpointError : a bundled file is damaged.

    Examples
    --------
    >>> [model["name"] for model in models()]
    ['default']
    """
    from xstsr.diffusion.checkpoint import available, find, fingerprint, read_card

    return [
        {
            "name": name,
            "megabytes": round(find(name).stat().st_size / 1e6, 1),
            "sha256": fingerprint(name),
            "card": read_card(name),
        }
        for name in available()
    ]


@dataclass(frozen=True)
class ModelCard:
    """What a model was trained on, for what, under which licence, and where it fails.

    Prints as text and shows as a card in Jupyter.

    Parameters
    ----------
    name : str
        Name or path of the model.
    facts : mapping of str to anything
        From the header of its file: what it was trained on, and how it samples.
    """

    name: str
    facts: Mapping[str, Any]

    @property
    def lines(self) -> list[tuple[str, str]]:
        """What the card says, as pairs of label and value."""
        return [(str(key), _words(value)) for key, value in self.facts.items()]

    def __repr__(self) -> str:
        return display.text(f"Model card of {self.name!r}", self.lines)

    def _repr_html_(self) -> str:
        return display.html(f"Model card of {self.name}", self.lines)


def model_card(name: str | PathLike[str] = "default") -> ModelCard:
    """Read the model card in a checkpoint, without its weights.

    Parameters
    ----------
    name : str or path
        A bundled model, or the path of a ``.safetensors`` file.

    Returns
    -------
    ModelCard

    Raises
    ------
    CheckpointError
        No such model, or no checkpoint of xstsr.

    Examples
    --------
    >>> model_card("default").facts["quantity"]
    'rain rate in mm h-1'
    """
    from xstsr.diffusion.checkpoint import read_card

    return ModelCard(os.fspath(name), read_card(name))


def _words(value: Any) -> str:
    """Write a value of a model card for people."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {"cpu": f"{torch.get_num_threads()} threads"}
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = properties.total_memory / 2**30
        found[f"cuda:{index}"] = f"{properties.name}, {memory:.0f} GiB"
    if torch.backends.mps.is_available():
        found["mps"] = "Apple"
    return found


def _importable(name: str) -> str:
    """Import for real: xesmf can be found, and still not work without esmpy."""
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        return "not installed" if error.name == name else f"broken: {error}"
    except Exception as error:  # esmpy raises KeyError without its ESMFMKFILE
        return f"broken: {error!r}"
    return str(getattr(module, "__version__", "version unknown"))
