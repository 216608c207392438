"""Space-time super-resolution of climate fields for xarray.

``import xstsr`` registers the accessor ``.stsr`` on DataArrays and Datasets.
"""

from typing import TYPE_CHECKING

from xstsr import accessor as _accessor
from xstsr.data import open_demo
from xstsr.pipeline import upscale
from xstsr.recipe import Recipe
from xstsr.water import check, coarsen, conserve

__version__ = "0.1.0"
__all__ = ["Recipe", "check", "coarsen", "conserve", "open_demo", "upscale"]
