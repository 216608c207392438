"""The accessors ``.stsr``: each method delegates to the public function of its name."""

from typing import Any

import xarray as xr

from xstsr import pipeline, water


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
