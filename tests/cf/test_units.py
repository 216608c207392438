"""Tests for xstsr.cf.units."""

import subprocess
import sys

import pytest

from xstsr.cf.units import (
    classify_units,
    is_readable,
    metres_per,
    registry,
    to_mm,
    to_mm_per_hour,
)
from xstsr.errors import UnitError


@pytest.mark.parametrize(
    ("units", "factor"),
    [
        ("mm h-1", 1),
        ("mm/h", 1),
        ("mm hr-1", 1),
        ("mm per hour", 1),
        ("mm h**-1", 1),
        ("kg m-2 s-1", 3600),  # 1 kg m-2 of water is 1 mm
        ("kg m**-2 s**-1", 3600),
        ("kg/m2/s", 3600),
        ("m s-1", 3.6e6),
        ("m s**-1", 3.6e6),
        ("mm d-1", 1 / 24),
        ("mm day-1", 1 / 24),
        ("inch h-1", 25.4),
        ("kg m-2 d-1", 1 / 24),
        ("m of water equivalent h-1", 1000),
    ],
)
def test_rate_factor_equals_hand_conversion(units, factor):
    assert classify_units(units) == "rate"
    assert to_mm_per_hour(units) == pytest.approx(factor, rel=1e-14)


@pytest.mark.parametrize(
    ("units", "factor"),
    [
        ("mm", 1),
        ("m", 1000),
        ("cm", 10),
        ("kg m-2", 1),
        ("kg m**-2", 1),
        ("m of water equivalent", 1000),
        ("mm w.e.", 1),
        ("l m-2", 1),
    ],
)
def test_amount_factor_equals_hand_conversion(units, factor):
    assert classify_units(units) == "amount"
    assert to_mm(units) == pytest.approx(factor, rel=1e-14)


@pytest.mark.parametrize("units", ["K", "1", "", "W m-2", "hPa", "degC", "%"])
def test_units_of_other_quantities_are_other(units):
    assert classify_units(units) == "other"


@pytest.mark.parametrize(
    "units", ["mm/3h", "sum 5min", "dBZ", "hours since 2000-01-01", "(", "mm[", "Kg/m2"]
)
def test_unreadable_units_raise_with_remedy(units):
    assert not is_readable(units)
    with pytest.raises(
        UnitError, match=r"cannot read the units .* is \"mm\" with cell"
    ):
        to_mm_per_hour(units)


def test_amount_as_rate_raises_and_conversely():
    with pytest.raises(UnitError, match=r"cannot convert 'mm' to 'mm h-1'.*attrs"):
        to_mm_per_hour("mm")
    with pytest.raises(UnitError, match=r"cannot convert 'mm h-1' to 'mm'.*an amount"):
        to_mm("mm h-1")


def test_metres_per_reads_lengths_only():
    assert metres_per("km") == 1000
    assert metres_per("metre") == 1
    with pytest.raises(UnitError, match=r"'radian' as the unit of a projected"):
        metres_per("radian")


def test_water_density_is_a_local_context():
    to_mm("kg m-2")
    import pint

    with pytest.raises(pint.DimensionalityError, match="kilogram"):
        registry().Quantity(1, "kg m-2").to("mm")


def test_application_registry_is_left_alone():
    code = (
        "import pint; mine = pint.UnitRegistry(); pint.set_application_registry(mine)\n"
        "from xstsr.cf.units import to_mm; to_mm('kg m-2')\n"
        "assert pint.application_registry.get() is mine\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
