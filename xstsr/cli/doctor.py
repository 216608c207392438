"""What is installed here, for bug reports: versions, devices, regridding, models."""

import os
import platform
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

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
    from xstsr.diffusion.card import models

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
