"""The accessors ``.stsr``: each method delegates to the public function of its name."""

from typing import Any

import xarray as xr

from xstsr import pipeline, water
from xstsr.preview import Preview


@xr.register_dataarray_accessor("stsr")
class DataArrayAccessor:
    """Space-time super-resolution of one field.

    Parameters
    ----------
    da : DataArray
        The field.
    """

    __slots__ = ("_da",)

    def __init__(self, da: xr.DataArray) -> None:
        self._da = da

    def upscale(self, s: int, t: int = 1, **options: Any) -> xr.DataArray:
        """Refine s times in space and t times in time: `xstsr.upscale`."""
        return pipeline.upscale(self._da, s, t, **options)

    def coarsen(self, s: int, t: int = 1, **options: Any) -> xr.DataArray:
        """Average blocks of s by s cells and t steps: `xstsr.coarsen`."""
        return water.coarsen(self._da, s, t, **options)

    def conserve(self, coarse: xr.DataArray, **options: Any) -> xr.DataArray:
        """Make this fine field agree with a coarse one: `xstsr.conserve`."""
        return water.conserve(self._da, coarse, **options)

    def check(self, coarse: xr.DataArray, **options: Any) -> water.Receipt:
        """Compare this fine field's water with a coarse one's: `xstsr.check`."""
        return water.check(self._da, coarse, **options)

    def plan(self, s: int, t: int = 1, **options: Any) -> Preview:
        """Tell what `upscale` would do, and compute nothing."""
        return pipeline.plan(self._da, s, t, **options)

    def evaluate(self, s: int, t: int = 1, **options: Any) -> xr.Dataset:
        """Coarsen, upscale, and score every method: `xstsr.evaluation.evaluate`."""
        from xstsr.evaluation import evaluate

        return evaluate(self._da, s, t, **options)


@xr.register_dataset_accessor("stsr")
class DatasetAccessor:
    """Space-time super-resolution of one variable, complete with bounds and areas.

    Parameters
    ----------
    ds : Dataset
        With the variable, its bounds and its grid mapping.
    """

    __slots__ = ("_ds",)

    def __init__(self, ds: xr.Dataset) -> None:
        self._ds = ds

    def upscale(self, name: str, s: int, t: int = 1, **options: Any) -> xr.Dataset:
        """Refine a variable: `xstsr.upscale`, from Dataset to Dataset."""
        return pipeline.upscale_dataset(self._ds, name, s, t, **options)

    def coarsen(self, name: str, s: int, t: int = 1, **options: Any) -> xr.Dataset:
        """Coarsen a variable: `xstsr.coarsen`, from Dataset to Dataset."""
        return water.coarsen_dataset(self._ds, name, s, t, **options)

    def plan(self, name: str, s: int, t: int = 1, **options: Any) -> Preview:
        """Tell what `upscale` would do, and compute nothing."""
        return pipeline.plan_dataset(self._ds, name, s, t, **options)
