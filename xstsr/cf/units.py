"""What a unit string says of water, and the factor to mm h-1 or mm.

The registry is cf-xarray's, imported on first use and always passed explicitly; pint's
application registry is never set. Mass becomes depth by a local context: 1 kg m-2 of
water is 1 mm, at the reference density of 1000 kg m-3 that "liquid water equivalent"
implies.
"""

import importlib
import re
import sys
from functools import cache
from tokenize import TokenError
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from xstsr.errors import UnitError

if TYPE_CHECKING:
    from pint import Unit, UnitRegistry


from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


WaterKind = Literal["rate", "amount", "other"]

# ERA5 and others write words that no unit parser knows
_OF_WATER = re.compile(
    r"\s*\(?\b(of water equivalent|of water|water equivalent|w\.e\.?|lwe|swe)\)?\s*"
)


def registry() -> "UnitRegistry[Any]":
    """Return the unit registry that xstsr uses: ``cf_xarray.units.units``.

    Importing it replaces pint's application registry; the one that was set is put back,
    because it belongs to the user (xclim, MetPy and others set their own).
    """
    if "cf_xarray.units" not in sys.modules:
        pint = _pint()
        before = pint.application_registry.get()
        importlib.import_module("cf_xarray.units")
        pint.set_application_registry(before)
    units: UnitRegistry[Any] = sys.modules["cf_xarray.units"].units
    return units


def classify_units(units: str) -> WaterKind:
    """Tell whether a unit can be a water rate, a water amount, or neither.

    Parameters
    ----------
    units : str
        Unit as users write it: "kg m-2 s-1", "mm/h", "m of water equivalent".

    Returns
    -------
    {"rate", "amount", "other"}
        By dimension only: "m s-1" is a rate even when it means wind.

    Raises
    ------
    UnitError
        The registry cannot read ``units``.
    """
    dimensionality = _unit(units).dimensionality
    for kind in ("mm h-1", "kg m-2 s-1"):
        if dimensionality == _unit(kind).dimensionality:
            return "rate"
    for kind in ("mm", "kg m-2"):
        if dimensionality == _unit(kind).dimensionality:
            return "amount"
    return "other"


def is_readable(units: str) -> bool:
    """Tell whether the registry can read a unit string.

    Parameters
    ----------
    units : str
        Unit as users write it.

    Returns
    -------
    bool
    """
    try:
        _unit(units)
    except UnitError:
        return False
    return True


def to_mm_per_hour(units: str) -> float:
    """Return the factor that turns a water rate into mm h-1.

    Parameters
    ----------
    units : str
        Unit of a rate: depth per time, or mass per area and time.

    Returns
    -------
    float
        ``value * factor`` is in mm h-1. For "kg m-2 s-1" it is 3600.

    Raises
    ------
    UnitError
        The unit is unknown or not that of a rate.

    Examples
    --------
    >>> to_mm_per_hour("kg m-2 s-1")
    3600.0
    """
    return _factor(units, "mm h-1", 'a rate such as "mm h-1" or "kg m-2 s-1"')


def to_mm(units: str) -> float:
    """Return the factor that turns a water amount into mm.

    Parameters
    ----------
    units : str
        Unit of an amount: depth, or mass per area.

    Returns
    -------
    float
        ``value * factor`` is in mm. For "m" it is 1000.

    Raises
    ------
    UnitError
        The unit is unknown or not that of an amount.
    """
    return _factor(units, "mm", 'an amount such as "mm" or "kg m-2"')


def metres_per(units: str) -> float:
    """Return the length of a unit of distance in metres.

    Parameters
    ----------
    units : str
        Unit of a projected coordinate: "m", "km", "kilometre".

    Returns
    -------
    float
        1000 for "km".

    Raises
    ------
    UnitError
        The unit is unknown or not a length.
    """
    unit = _unit(units)
    if unit.dimensionality != _unit("m").dimensionality:
        raise UnitError(
            f"cannot use {units!r} as the unit of a projected coordinate: it is not a "
            'length. Set its units to "m" or "km".'
        )
    return float(registry().Quantity(1.0, unit).to("m").magnitude)


def hours_per(units: str) -> float:
    """Return the length of a unit of time in hours.

    Parameters
    ----------
    units : str
        "hours", "days", "h".

    Returns
    -------
    float
        24 for "days".

    Raises
    ------
    UnitError
        The unit is unknown or not one of time.
    """
    unit = _unit(units)
    if unit.dimensionality != _unit("h").dimensionality:
        raise UnitError(
            f'cannot use {units!r} as a unit of time. Write "hours" or "days".'
        )
    return float(registry().Quantity(1.0, unit).to("h").magnitude)


def per_second(units: str) -> str:
    """Return the unit of a rate whose amounts have a unit.

    Parameters
    ----------
    units : str
        Unit of an amount: "m", "J m-2".

    Returns
    -------
    str
        In CF's spelling: "m s-1".

    Raises
    ------
    UnitError
        The unit is unknown.
    """
    return f"{_unit(units) / _unit('s'):cf}"


@cache
def _factor(units: str, target: str, wanted: str) -> float:
    quantity = registry().Quantity(1.0, _unit(units))
    try:
        converted = quantity.to(target, _water())
    except _pint().errors.DimensionalityError as error:
        raise UnitError(
            f"cannot convert {units!r} to {target!r}: it is not {wanted}. "
            'Correct the attribute: da.attrs["units"] = ...'
        ) from error
    return float(converted.magnitude)


@cache
def _unit(units: str) -> "Unit":
    text = _OF_WATER.sub(" ", units.strip()).strip()
    # pint evaluates the expression, so a bad one can fail in any of these ways
    failures = (_pint().errors.PintError, AttributeError, TypeError, ValueError)
    try:
        return registry().Unit(text)
    except (*failures, AssertionError, TokenError):
        raise UnitError(
            f"cannot read the units {units!r}. Write CF units, such as "
            '"kg m-2 s-1", "mm h-1" or "mm": da.attrs["units"] = "mm h-1"; an amount '
            'per time step, like "mm/3h", is "mm" with cell_methods "time: sum".'
        ) from None


@cache
def _water() -> Any:
    density = registry().Quantity(1000.0, "kg m-3")
    context = _pint().Context("xstsr_water")
    for per in ("", " / [time]"):
        mass, depth = f"[mass] / [length] ** 2{per}", f"[length]{per}"
        context.add_transformation(mass, depth, lambda _registry, x: x / density)
    return context


def _pint() -> ModuleType:
    # late, because pint takes longer to import than the rest of xstsr together
    return importlib.import_module("pint")


def same_units(one: str, other: str) -> bool:
    """Tell whether two unit strings mean the same unit.

    Examples
    --------
    >>> same_units("metre", "m"), same_units("m", "km")
    (True, False)
    """
    if one == other:
        return True
    if not (is_readable(one) and is_readable(other)):
        return False
    return bool(registry().Unit(one) == registry().Unit(other))
