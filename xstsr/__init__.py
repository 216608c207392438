"""Space-time super-resolution of climate fields for xarray.

``import xstsr`` registers the accessor ``.stsr`` on DataArrays and Datasets.
"""

from typing import TYPE_CHECKING

from xstsr import accessor as accessor
from xstsr.accumulations.amounts import deaccumulate
from xstsr.conservation.balance import check, coarsen, conserve
from xstsr.data import open_demo
from xstsr.methods.recipe import Recipe
from xstsr.pipeline import upscale
from xstsr.regridding.frontend import regrid
from xstsr.storage.store import to_zarr

if TYPE_CHECKING:
    from xstsr.diffusion.checkpoint import load_model
    from xstsr.training import train

__version__ = "0.1.0"
__all__ = [
    "Recipe",
    "check",
    "coarsen",
    "conserve",
    "deaccumulate",
    "load_model",
    "open_demo",
    "regrid",
    "to_zarr",
    "train",
    "upscale",
]


def __dir__() -> list[str]:
    """List the public names, also those that are imported late."""
    return sorted([*globals(), *__all__])


def __getattr__(name: str) -> object:
    """Import what needs torch when it is first asked for."""
    if name == "load_model":
        from xstsr.diffusion.checkpoint import load_model

        return load_model
    if name == "train":
        from xstsr.training import train

        return train
    raise AttributeError(f"module 'xstsr' has no attribute {name!r}")
