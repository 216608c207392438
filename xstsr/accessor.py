"""The accessors ``.stsr``: each method delegates to the public function of its name."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import xarray as xr

from xstsr import pipeline, water
from xstsr.preview import Preview
from xstsr.receipt import Receipt

_Method = TypeVar("_Method", bound=Callable[..., Any])


def _options_of(function: Callable[..., Any]) -> Callable[[_Method], _Method]:
    """Show the options of a function in the signature of a method that passes them on.

    Notebooks and editors complete from it.
    """

    def decorate(method: _Method) -> _Method:
        own = inspect.signature(method)
        options = inspect.signature(function).parameters.values()
        parameters = [
            *(p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD),
            *(p for p in options if p.kind is p.KEYWORD_ONLY),
        ]
        signed: Any = method
        signed.__signature__ = own.replace(parameters=parameters)
        return method

    return decorate


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

    @_options_of(pipeline.upscale)
    def upscale(self, s: int, t: int = 1, **options: Any) -> xr.DataArray:
        """Refine s times in space and t times in time: `xstsr.upscale`."""
        return pipeline.upscale(self._da, s, t, **options)

    @_options_of(water.coarsen)
    def coarsen(self, s: int, t: int = 1, **options: Any) -> xr.DataArray:
        """Average blocks of s by s cells and t steps: `xstsr.coarsen`."""
        return water.coarsen(self._da, s, t, **options)

    @_options_of(water.conserve)
    def conserve(self, coarse: xr.DataArray, **options: Any) -> xr.DataArray:
        """Make this fine field agree with a coarse one: `xstsr.conserve`."""
        return water.conserve(self._da, coarse, **options)

    @_options_of(water.check)
    def check(self, coarse: xr.DataArray, **options: Any) -> Receipt:
        """Compare this fine field's water with a coarse one's: `xstsr.check`."""
        return water.check(self._da, coarse, **options)

    @_options_of(pipeline.upscale)
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

    @_options_of(pipeline.upscale)
    def upscale(self, name: str, s: int, t: int = 1, **options: Any) -> xr.Dataset:
        """Refine a variable: `xstsr.upscale`, from Dataset to Dataset."""
        return pipeline.upscale_dataset(self._ds, name, s, t, **options)

    @_options_of(water.coarsen)
    def coarsen(self, name: str, s: int, t: int = 1, **options: Any) -> xr.Dataset:
        """Coarsen a variable: `xstsr.coarsen`, from Dataset to Dataset."""
        return water.coarsen_dataset(self._ds, name, s, t, **options)

    @_options_of(water.conserve)
    def conserve(self, name: str, coarse: xr.Dataset, **options: Any) -> xr.Dataset:
        """Make a variable agree with that of a coarse Dataset: `xstsr.conserve`."""
        return water.conserve_dataset(self._ds, name, coarse, **options)

    @_options_of(water.check)
    def check(self, name: str, coarse: xr.Dataset, **options: Any) -> Receipt:
        """Compare a variable's water with a coarse Dataset's: `xstsr.check`."""
        return water.check_dataset(self._ds, name, coarse, **options)

    @_options_of(pipeline.upscale)
    def plan(self, name: str, s: int, t: int = 1, **options: Any) -> Preview:
        """Tell what `upscale` would do, and compute nothing."""
        return pipeline.plan_dataset(self._ds, name, s, t, **options)
