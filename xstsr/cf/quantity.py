"""What kind of quantity a field is: rate, amount, state, point, or refused.

The decision table, in order of evidence: cell_methods, standard name, units.

================================  =====================================================
Input                             Meaning
================================  =====================================================
water rate, ``time: mean``        rate: the mean over step and cell is kept
water rate, no cell_methods       rate, treated as a mean, with a warning
water amount, ``time: sum``/none  amount: the sum over the step is kept (CF's default)
other quantity, ``time: mean``    state: the mean is kept
other quantity, no cell_methods   state, treated as a mean, with a warning
``time: point``                   instantaneous: only area means are kept
GRIB_stepType, no cell_methods    sum, mean or point, as it says
maximum, variance, categories,    refused
directions, climatologies
================================  =====================================================
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xstsr.cf.cell_methods import CellMethod, is_climatological, method_of, parse
from xstsr.cf.units import classify_units, is_readable
from xstsr.errors import CFError, UnitError
from xstsr.typing import Kind, Label


@dataclass(frozen=True)
class Alias:
    """What a well-known variable name means where attributes do not say it."""

    source: str
    units: str | None = None
    label: Label | None = None


ALIASES: dict[str, Alias] = {
    "tp": Alias("ERA5 total precipitation", "m", "right"),
    "mtpr": Alias("ERA5 mean total precipitation rate", "kg m-2 s-1", "right"),
    "avg_tprate": Alias("ERA5 mean total precipitation rate", "kg m-2 s-1", "right"),
    "cp": Alias("ERA5 convective precipitation", "m", "right"),
    "lsp": Alias("ERA5 large-scale precipitation", "m", "right"),
    "sf": Alias("ERA5 snowfall", "m", "right"),
    "mcpr": Alias("ERA5 mean convective rate", "kg m-2 s-1", "right"),
    "avg_cpr": Alias("ERA5 mean convective rate", "kg m-2 s-1", "right"),
    "mlspr": Alias("ERA5 mean large-scale rate", "kg m-2 s-1", "right"),
    "avg_lsprate": Alias("ERA5 mean large-scale rate", "kg m-2 s-1", "right"),
    "msr": Alias("ERA5 mean snowfall rate", "kg m-2 s-1", "right"),
    "avg_tsrwe": Alias("ERA5 mean snowfall rate", "kg m-2 s-1", "right"),
    "rr": Alias("E-OBS daily precipitation", "mm"),
    "pr": Alias("CMIP or HYRAS precipitation"),
    "precipitation": Alias("IMERG precipitation"),
    "precip": Alias("precipitation"),
    "prec": Alias("precipitation"),
    "rain": Alias("rainfall"),
    "rainfall": Alias("rainfall"),
}

_WATER_NAME = re.compile(r"(precipitation|rainfall|snowfall)(_flux|_rate|_amount)$")
_WATER_TEXT = re.compile(r"precipitation|rainfall|rain rate|snowfall", re.IGNORECASE)
_MODIFIERS = {
    "detection_minimum",
    "number_of_observations",
    "standard_error",
    "status_flag",
}
_STEP_TYPE = "GRIB_stepType"  # what cfgrib and the Climate Data Store write
_OF_GRIB = {
    "accum": "sum",
    "avg": "mean",
    "instant": "point",
    "max": "maximum",
    "min": "minimum",
}
_SAY_STANDARD_NAME = (
    'da.attrs["standard_name"] = "precipitation_flux" (a rate) or '
    '"precipitation_amount" (an amount)'
)
_SAY_METHODS = '"time: mean", "time: sum" or "time: point"'


@dataclass(frozen=True)
class Quantity:
    """The kind of a field, and what had to be assumed to say so."""

    kind: Kind
    point: bool
    units: str
    cell_methods: tuple[CellMethod, ...]
    assumptions: tuple[str, ...] = ()


def classify(
    name: str | None,
    attrs: Mapping[str, Any],
    cell_methods: str | None,
    time_names: set[str],
    area_names: set[str],
) -> Quantity:
    """Decide what kind of quantity a field is.

    Parameters
    ----------
    name : str or None
        Name of the variable.
    attrs : mapping
        Its attributes.
    cell_methods : str or None
        What the caller says; it overrides the attribute.
    time_names, area_names : set of str
        Names that mean time and the horizontal in cell_methods.

    Returns
    -------
    Quantity

    Raises
    ------
    CFError
        The statistic or the quantity cannot be refined, or the attributes contradict
        each other.
    UnitError
        The units of a water quantity are missing, unknown or of another dimension.
    """
    methods = area_methods(name, attrs, cell_methods, area_names)
    _refuse_climatology(name, methods)
    statistic = _time_statistic(name, attrs, methods, time_names)
    units, notes = _units(name, attrs)
    water, water_notes = _is_water(name, attrs, units, statistic)
    notes += water_notes
    if water:
        kind, kind_notes = _water_kind(name, attrs, units, statistic)
    else:
        kind, kind_notes = "state", _state_notes(name, statistic)
    return Quantity(kind, statistic == "point", units, methods, notes + kind_notes)


def area_methods(
    name: str | None,
    attrs: Mapping[str, Any],
    cell_methods: str | None,
    area_names: set[str],
) -> tuple[CellMethod, ...]:
    """Read the cell methods of a quantity that has means over area.

    Parameters
    ----------
    name, attrs, cell_methods, area_names
        As in `classify`.

    Returns
    -------
    tuple of CellMethod
        As in the attribute, or as the caller says.

    Raises
    ------
    CFError
        The quantity is categorical or a direction, or holds another statistic.
    """
    _refuse_quantity(name, attrs)
    text = cell_methods if cell_methods is not None else attrs.get("cell_methods", "")
    methods = parse(str(text)) if str(text).strip() else ()
    _refuse_area_statistic(name, methods, area_names)
    return methods


def known_label(
    name: str | None, attrs: Mapping[str, Any], kind: Kind
) -> tuple[Label | None, str]:
    """Tell which part of its step a label is, by the archive a field is from.

    Parameters
    ----------
    name, attrs
        As in `classify`.
    kind : str
        Of the quantity.

    Returns
    -------
    tuple of str or None and str
        The part, and from what it follows.
    """
    alias = ALIASES.get(str(name).lower())
    if alias is not None and alias.label is not None and kind != "state":
        return alias.label, alias.source
    if attrs.get(_STEP_TYPE) in ("accum", "avg"):
        return "right", f"a field of GRIB (stepType {attrs[_STEP_TYPE]!r})"
    return None, ""


def _refuse_quantity(name: str | None, attrs: Mapping[str, Any]) -> None:
    flags = sorted(k for k in attrs if k in ("flag_values", "flag_meanings"))
    if flags or "flag_masks" in attrs:
        raise CFError(
            f"cannot average {name!r}: {' and '.join(flags) or 'flag_masks'} say "
            "that it is categorical, and categories have no mean. Take the "
            "quantities they were made from."
        )
    standard_name = str(attrs.get("standard_name", ""))
    if "_from_direction" in standard_name or "_to_direction" in standard_name:
        raise CFError(
            f"cannot average {name!r}: {standard_name!r} is a direction, and "
            "directions have no plain mean. Take the eastward and northward components."
        )


def _refuse_climatology(name: str | None, methods: tuple[CellMethod, ...]) -> None:
    if is_climatological(methods):
        raise CFError(
            f"cannot refine {name!r}: cell_methods with 'within' or 'over' describe a "
            f"climatology ({[m.method for m in methods]}), whose steps do not follow "
            "each other. Refine the data it was made from."
        )


def _refuse_area_statistic(
    name: str | None, methods: tuple[CellMethod, ...], area_names: set[str]
) -> None:
    other = [m for m in method_of(methods, area_names) if m not in ("mean", "point")]
    if other:
        raise CFError(
            f"cannot average {name!r}: cell_methods say {other[0]!r} over area, and "
            'only a mean can be split. Use a field with "area: mean", or pass '
            "cell_methods=."
        )


def _time_statistic(
    name: str | None,
    attrs: Mapping[str, Any],
    methods: tuple[CellMethod, ...],
    time_names: set[str],
) -> str | None:
    found = sorted(set(method_of(methods, time_names)))
    source, of_grib = "cell_methods say", _OF_GRIB.get(str(attrs.get(_STEP_TYPE)))
    if not found and of_grib:
        source, found = f"{_STEP_TYPE} says", [of_grib]
    if len(found) > 1:
        raise CFError(
            f"cannot refine {name!r}: cell_methods give several statistics over time, "
            f"{found}. Pass the one that holds now: cell_methods={_SAY_METHODS}."
        )
    if found and found[0] not in ("mean", "sum", "point"):
        raise CFError(
            f"cannot refine {name!r}: {source} 'time: {found[0]}', and only a mean, a "
            "sum or a point can be split in time. Refine the data it was made from; if "
            f"the attribute is stale, pass cell_methods={_SAY_METHODS}."
        )
    return found[0] if found else None


def _units(name: str | None, attrs: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    if "units" in attrs:
        return str(attrs["units"]), ()
    alias = ALIASES.get(str(name).lower())
    if alias is None or alias.units is None:
        return "", ()
    note = (
        f"{name!r} has no units and is taken for {alias.source} in {alias.units!r}; to "
        f'say otherwise set da.attrs["units"]'
    )
    return alias.units, (note,)


def normalise_standard_name(standard_name: str) -> str:
    """Spell a standard name as CF does; CHIRPS has blanks in it.

    Examples
    --------
    >>> normalise_standard_name("convective precipitation rate")
    'convective_precipitation_rate'
    >>> normalise_standard_name("air_temperature standard_error")
    'air_temperature standard_error'
    """
    words = standard_name.split()
    # a blank stands before a modifier (CF-1.11, appendix C), and nowhere else
    return standard_name if words[-1:] and words[-1] in _MODIFIERS else "_".join(words)


def _standard_name(attrs: Mapping[str, Any]) -> str:
    # cfgrib writes "unknown" where GRIB has no standard name
    text = normalise_standard_name(str(attrs.get("standard_name", "")))
    return "" if text == "unknown" else text


def _is_water(
    name: str | None, attrs: Mapping[str, Any], units: str, statistic: str | None
) -> tuple[bool, tuple[str, ...]]:
    standard_name = _standard_name(attrs)
    if standard_name:
        return _WATER_NAME.search(standard_name) is not None, ()
    known = str(name).lower() in ALIASES
    if known or _WATER_TEXT.search(str(attrs.get("long_name", ""))):
        return True, ()
    dimension = classify_units(units) if units and is_readable(units) else "other"
    if dimension == "other":
        return False, ()
    # "m s-1" may be wind and "m" a height: only these are used for water alone
    unmistakable = dimension == "rate" and re.search(r"mm|millim|kg", units)
    if unmistakable or (dimension == "amount" and statistic == "sum"):
        note = (
            f"{name!r} has no standard_name and is taken for precipitation by its "
            f"units {units!r}; to say otherwise set da.attrs['standard_name']"
        )
        return True, (note,)
    if dimension == "amount" and statistic is not None:
        return False, ()
    raise CFError(
        f"cannot tell what {name!r} is: units {units!r} fit precipitation and other "
        f"quantities. Set {_SAY_STANDARD_NAME}, or the standard name that it has."
    )


def _water_kind(
    name: str | None, attrs: Mapping[str, Any], units: str, statistic: str | None
) -> tuple[Kind, tuple[str, ...]]:
    if not units:
        raise UnitError(
            f"cannot refine {name!r}: it has no units (attributes {sorted(attrs)}). "
            'Set da.attrs["units"], for example "mm h-1", "kg m-2 s-1" or "mm".'
        )
    kind = classify_units(units)
    if kind == "other":
        raise UnitError(
            f"cannot refine {name!r}: units {units!r} are neither those of a water "
            'rate nor of a water amount. Set da.attrs["units"], for example "mm h-1" '
            'or "mm", or the standard_name of what it is.'
        )
    if statistic is not None and (kind == "amount") != (statistic == "sum"):
        raise CFError(
            f"cannot refine {name!r}: cell_methods say 'time: {statistic}' but units "
            f"{units!r} are those of {_article(kind)}. Correct one of them: pass "
            f'cell_methods="time: {"sum" if kind == "amount" else "mean"}" or set '
            'da.attrs["units"].'
        )
    notes = _check_standard_name(name, attrs, units, kind, statistic)
    if kind == "rate" and statistic is None:
        notes += (
            f"{name!r} has no cell_methods in time; the rate is taken for a mean over "
            'each step ("time: mean"). To say otherwise pass '
            'cell_methods="time: point"',
        )
    return kind, notes


def _check_standard_name(
    name: str | None,
    attrs: Mapping[str, Any],
    units: str,
    kind: Kind,
    statistic: str | None,
) -> tuple[str, ...]:
    standard_name = _standard_name(attrs)
    named = "amount" if standard_name.endswith("_amount") else "rate"
    if not standard_name or named == kind:
        return ()
    clash = (
        f"standard_name {standard_name!r} is {_article(named)} but units {units!r} are "
        f"those of {_article(kind)}"
    )
    if statistic is None:
        raise CFError(
            f"cannot refine {name!r}: {clash}. Correct one of them: set "
            f'{_SAY_STANDARD_NAME}, or da.attrs["units"].'
        )
    note = (
        f"{name!r}: {clash}; cell_methods 'time: {statistic}' agree with the units, so "
        f"it is taken for {_article(kind)}. Correct da.attrs['standard_name']"
    )
    return (note,)


def _state_notes(name: str | None, statistic: str | None) -> tuple[str, ...]:
    if statistic == "sum":
        raise CFError(
            f"cannot refine {name!r}: its attributes say 'time: sum', and sums are "
            "split only for water. Divide by the length of a step to get a mean, and "
            'set da.attrs["cell_methods"] = "time: mean"; where sums grow from the '
            "start of a forecast, da.stsr.deaccumulate(rate=True) does both."
        )
    if statistic is not None:
        return ()
    note = (
        f"{name!r} has no cell_methods in time; it is taken for a mean over each step "
        '("time: mean"). To say otherwise pass cell_methods="time: point"'
    )
    return (note,)


def _article(kind: str) -> str:
    return "an amount" if kind == "amount" else "a rate"
