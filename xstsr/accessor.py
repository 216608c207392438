"""The accessors ``.stsr``: each method delegates to the public function of its name."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import xarray as xr

from xstsr import joint, pipeline, plot
from xstsr.accumulations import amounts
from xstsr.cf import summary
from xstsr.conservation import balance
from xstsr.conservation.receipt import Receipt
from xstsr.evaluation import report
from xstsr.planning.preview import Preview
from xstsr.regridding import frontend
from xstsr.regridding.frontend import Target
from xstsr.storage import store
from xstsr.typing import Space

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_Method = TypeVar("_Method", bound=Callable[..., Any])


def _options_of(*functions: Callable[..., Any]) -> Callable[[_Method], _Method]:
    """Show the options of functions in the signature of a method that passes them on.

    Notebooks and editors complete from it.
    """

    def decorate(method: _Method) -> _Method:
        own = inspect.signature(method)
        parameters = [
            *(p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD),
            *(
                p
                for function in functions
                for p in inspect.signature(function).parameters.values()
                if p.kind is p.KEYWORD_ONLY and p.name not in own.parameters
            ),
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
    def upscale(self, s: Space, t: int = 1, **options: Any) -> xr.DataArray:
        """Refine s times in space and t times in time: `xstsr.upscale`."""
        return pipeline.upscale(self._da, s, t, **options)

    @_options_of(balance.coarsen)
    def coarsen(self, s: Space, t: int = 1, **options: Any) -> xr.DataArray:
        """Average blocks of s by s cells and t steps: `xstsr.coarsen`."""
        return balance.coarsen(self._da, s, t, **options)

    @_options_of(balance.conserve)
    def conserve(self, coarse: xr.DataArray, **options: Any) -> xr.DataArray:
        """Make this fine field agree with a coarse one: `xstsr.conserve`."""
        return balance.conserve(self._da, coarse, **options)

    @_options_of(balance.check)
    def check(self, coarse: xr.DataArray, **options: Any) -> Receipt:
        """Compare this fine field's water with a coarse one's: `xstsr.check`."""
        return balance.check(self._da, coarse, **options)

    @_options_of(frontend.regrid)
    def regrid(self, target: Target, **options: Any) -> xr.DataArray:
        """Average this field over the cells of another grid: `xstsr.regrid`."""
        return frontend.regrid(self._da, target, **options)

    @_options_of(amounts.deaccumulate)
    def deaccumulate(self, **options: Any) -> xr.DataArray:
        """Turn sums since a forecast's start into amounts: `xstsr.deaccumulate`."""
        return amounts.deaccumulate(self._da, **options)

    @_options_of(pipeline.upscale)
    def plan(self, s: Space, t: int = 1, **options: Any) -> Preview:
        """Tell what `upscale` would do, and compute nothing."""
        return pipeline.plan(self._da, s, t, **options)

    @_options_of(store.to_zarr, pipeline.upscale)
    def to_zarr(
        self, path: str | Path, s: int, t: int = 1, **options: Any
    ) -> xr.Dataset:
        """Refine and write window by window, resumable: `xstsr.to_zarr`."""
        return store.to_zarr(self._da, path, s, t, **options)

    @_options_of(report.evaluate)
    def evaluate(self, s: Space, t: int = 1, **options: Any) -> report.Evaluation:
        """Coarsen, upscale, score every method, judge: `report.evaluate`."""
        return report.evaluate(self._da, s, t, **options)

    @property
    def plot(self) -> "PlotAccessor":
        """Pictures of this field: `xstsr.plot`."""
        return PlotAccessor(self._da)

    def __repr__(self) -> str:
        return repr(summary.of_field(self._da))

    def _repr_html_(self) -> str:
        return summary.of_field(self._da)._repr_html_()


class PlotAccessor:
    """Pictures of a refined field.

    Parameters
    ----------
    da : DataArray
        From `upscale`.
    """

    __slots__ = ("_da",)

    def __init__(self, da: xr.DataArray) -> None:
        self._da = da

    @_options_of(plot.compare)
    def compare(
        self, coarse: xr.DataArray, truth: xr.DataArray | None = None, **options: Any
    ) -> "Figure":
        """Draw coarse, mean, realizations and truth: `xstsr.plot.compare`."""
        return plot.compare(self._da, coarse, truth, **options)

    @_options_of(plot.animate)
    def animate(self, path: str | Path, **options: Any) -> Path:
        """Write a moving picture, GIF or MP4: `xstsr.plot.animate`."""
        return plot.animate(self._da, path, **options)

    @_options_of(plot.spectra)
    def spectra(
        self,
        coarse: xr.DataArray | None = None,
        truth: xr.DataArray | None = None,
        **options: Any,
    ) -> "Figure":
        """Draw power spectra in space and time: `xstsr.plot.spectra`."""
        return plot.spectra(self._da, coarse, truth, **options)

    @_options_of(plot.rank_histogram)
    def rank_histogram(self, truth: xr.DataArray, **options: Any) -> "Figure":
        """Draw the ranks of the truth: `xstsr.plot.rank_histogram`."""
        return plot.rank_histogram(self._da, truth, **options)

    @_options_of(plot.spread)
    def spread(self, truth: xr.DataArray | None = None, **options: Any) -> "Figure":
        """Draw where realizations differ: `xstsr.plot.spread`."""
        return plot.spread(self._da, truth, **options)

    @_options_of(plot.receipt)
    def receipt(self, coarse: xr.DataArray, **options: Any) -> "Figure":
        """Draw the residual of every coarse cell: `xstsr.plot.receipt`."""
        return plot.receipt(self._da, coarse, **options)


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
    def upscale(self, name: str, s: Space, t: int = 1, **options: Any) -> xr.Dataset:
        """Refine a variable: `xstsr.upscale`, from Dataset to Dataset."""
        return pipeline.upscale_dataset(self._ds, name, s, t, **options)

    @_options_of(pipeline.upscale)
    def upscale_together(
        self, models: joint.Models, s: Space, t: int = 1, **options: Any
    ) -> xr.Dataset:
        """Refine several variables, each given those before it: `xstsr.joint`."""
        return joint.upscale_together(self._ds, models, s, t, **options)

    @_options_of(balance.coarsen)
    def coarsen(self, name: str, s: Space, t: int = 1, **options: Any) -> xr.Dataset:
        """Coarsen a variable: `xstsr.coarsen`, from Dataset to Dataset."""
        return balance.coarsen_dataset(self._ds, name, s, t, **options)

    @_options_of(balance.conserve)
    def conserve(self, name: str, coarse: xr.Dataset, **options: Any) -> xr.Dataset:
        """Make a variable agree with that of a coarse Dataset: `xstsr.conserve`."""
        return balance.conserve_dataset(self._ds, name, coarse, **options)

    @_options_of(balance.check)
    def check(self, name: str, coarse: xr.Dataset, **options: Any) -> Receipt:
        """Compare a variable's water with a coarse Dataset's: `xstsr.check`."""
        return balance.check_dataset(self._ds, name, coarse, **options)

    @_options_of(frontend.regrid)
    def regrid(self, name: str, target: Target, **options: Any) -> xr.Dataset:
        """Regrid a variable: `xstsr.regrid`, from Dataset to Dataset."""
        return frontend.regrid_dataset(self._ds, name, target, **options)

    @_options_of(amounts.deaccumulate)
    def deaccumulate(self, name: str, **options: Any) -> xr.Dataset:
        """Turn sums into amounts: `xstsr.deaccumulate`, from Dataset to Dataset."""
        return amounts.deaccumulate_dataset(self._ds, name, **options)

    @_options_of(pipeline.upscale)
    def plan(self, name: str, s: Space, t: int = 1, **options: Any) -> Preview:
        """Tell what `upscale` would do, and compute nothing."""
        return pipeline.plan_dataset(self._ds, name, s, t, **options)

    @_options_of(store.to_zarr, pipeline.upscale)
    def to_zarr(
        self, name: str, path: str | Path, s: int, t: int = 1, **options: Any
    ) -> xr.Dataset:
        """Refine a variable and write it, resumable: `xstsr.to_zarr`."""
        return store.to_zarr(self._ds, path, s, t, name=name, **options)

    def __repr__(self) -> str:
        return repr(summary.of_dataset(self._ds))

    def _repr_html_(self) -> str:
        return summary.of_dataset(self._ds)._repr_html_()
