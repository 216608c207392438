"""What can go wrong, as one small tree of exceptions.

Every message says what cannot be done, where, what was received and what to type next.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


class XstsrError(ValueError):
    """Base of every error that xstsr raises on purpose.

    Examples
    --------
    >>> import xstsr
    >>> rain = xstsr.open_demo().rainfall_amount
    >>> try:
    ...     rain.stsr.upscale(s=10, method="magic")
    ... except ValueError as error:  # every XstsrError is one
    ...     print(str(error).partition(":")[0])
    cannot upscale with method='magic'
    """


class CFError(XstsrError):
    """The metadata are missing, ambiguous or contradict each other.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> xr.DataArray(np.ones((2, 3, 4)), name="pr").stsr.upscale(s=2)
    Traceback (most recent call last):
        ...
    xstsr.errors.CFError: cannot find the time axis of 'pr' among its dimensions ...
    """


class UnitError(XstsrError):
    """The units are unknown, or not those of the quantity named.

    Examples
    --------
    >>> import xstsr
    >>> rain = xstsr.open_demo().rainfall_amount
    >>> rain.assign_attrs(units="degC").stsr.upscale(s=2)
    Traceback (most recent call last):
        ...
    xstsr.errors.UnitError: cannot refine 'rainfall_amount': units 'degC' are ...
    """


class GridError(XstsrError):
    """The coordinates do not describe a grid that can be refined.

    Examples
    --------
    >>> import xstsr
    >>> xstsr.open_demo().rainfall_amount[:, :1, :1].stsr.upscale(s=2)
    Traceback (most recent call last):
        ...
    xstsr.errors.GridError: cannot find the cell size along 'y': it has one label, ...
    """


class FactorError(XstsrError):
    """A refinement factor is not a whole number of 1 or more.

    Examples
    --------
    >>> import xstsr
    >>> xstsr.open_demo().rainfall_amount.stsr.upscale(s=0)
    Traceback (most recent call last):
        ...
    xstsr.errors.FactorError: cannot use s=0: a factor is a whole number of 1 or ...
    """


class PlanError(XstsrError):
    """The work does not fit: memory, windows or tiles.

    Examples
    --------
    >>> import xstsr
    >>> rain = xstsr.open_demo().rainfall_amount
    >>> rain.stsr.upscale(25, 6, method="rainfarm", realizations=100_000)
    Traceback (most recent call last):
        ...
    xstsr.errors.PlanError: cannot upscale in memory: 'rainfall_amount' takes ...
    """


class CheckpointError(XstsrError):
    """A checkpoint is missing, damaged, or of another kind.

    Examples
    --------
    >>> import xstsr
    >>> xstsr.load_model("europe")
    Traceback (most recent call last):
        ...
    xstsr.errors.CheckpointError: cannot find the model 'europe': it is no file, ...
    """


class DataError(XstsrError):
    """The values cannot be used: empty, of another type, negative rain.

    Examples
    --------
    >>> import xstsr
    >>> rain = xstsr.open_demo().rainfall_amount[:6]
    >>> rain.copy(data=rain - 1).stsr.upscale(s=2, method="nearest")
    Traceback (most recent call last):
        ...
    xstsr.errors.DataError: cannot upscale values that cannot be, such as negative ...
    """


class StoreError(XstsrError):
    """A store cannot be written, or was left unfinished: the text says how to go on.

    Examples
    --------
    >>> import xstsr
    >>> xstsr.to_zarr(xstsr.open_demo().rainfall_amount, "s3://rain/fine.zarr", 2)
    Traceback (most recent call last):
        ...
    xstsr.errors.StoreError: cannot write to 's3://rain/fine.zarr': only to folders. ...
    """


class StoppedError(StoreError):
    """A run was stopped by something outside, and can be gone on with.

    Examples
    --------
    Whoever runs many records may go on with those that were stopped.

    >>> def write(record, target):
    ...     try:
    ...         return xstsr.to_zarr(record, target, s=10, t=3)
    ...     except StoppedError:
    ...         return xstsr.to_zarr(record, target, s=10, t=3, resume=True)
    >>> issubclass(StoppedError, StoreError)
    True
    """


class CostWarning(UserWarning):
    """The work takes more memory or time than it need; the text says what to change.

    Examples
    --------
    Stop before work that would be slow:

    >>> import warnings
    >>> import xstsr
    >>> rain = xstsr.open_demo().rainfall_amount.chunk(time=1, y=1, x=1)
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", xstsr.errors.CostWarning)
    ...     rain.stsr.upscale(2, method="nearest")
    Traceback (most recent call last):
        ...
    xstsr.errors.CostWarning: one window takes ... chunks of the input: chunk the ...
    """


class AssumptionWarning(UserWarning):
    """Metadata were missing or ambiguous, and xstsr chose; the text says how to say it.

    The same sentences are in `Meaning.notes` and in the output's ``xstsr_notes``.

    Examples
    --------
    Make sure that nothing is assumed:

    >>> import warnings
    >>> import xstsr
    >>> rain = xstsr.open_demo().rainfall_amount
    >>> rain.attrs = {"units": "mm h-1", "standard_name": "rainfall_rate"}
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", xstsr.errors.AssumptionWarning)
    ...     rain.stsr.upscale(2, method="nearest")
    Traceback (most recent call last):
        ...
    xstsr.errors.AssumptionWarning: 'rainfall_amount' has no cell_methods ...
    """
