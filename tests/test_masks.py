"""Coasts and other edges of what is known: the rule, from end to end.

A coarse value is the mean over the known part of its cell. `upscale` fills the whole
cell; where only a part of it is wanted, `where` and `conserve` give that part the mean.
"""

import numpy as np
import pytest

from tests.models import write_tiny_model
from tests.strategies import make
from xstsr.methods import METHODS

LAND = np.array(
    # above: one cell inland, one on the coast, one at sea; below: all land
    [[1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1] * 6, [1] * 6],
    dtype=bool,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model"))


def coast(kind="rate"):
    """Fine rain on land, of two steps, and its means on cells of 2 x 2 pixels."""
    values = np.arange(1.0, 49.0).reshape(2, 4, 6)
    fine = make(np.where(LAND, values, np.nan), kind=kind, grid="metres")
    return fine, fine.stsr.coarsen(2, 1)


def test_coarse_value_is_the_mean_of_the_known_part():
    _, coarse = coast()
    # (1 + 2 + 7 + 8) / 4, the one pixel on land, nothing
    np.testing.assert_allclose(coarse[0, 0], [4.5, 3.0, np.nan])
    np.testing.assert_array_equal(coarse[1, 0], [28.5, 27.0, np.nan])


def test_amount_is_that_of_the_known_part_too():
    _, coarse = coast("amount")
    np.testing.assert_allclose(coarse[0, 0], [4.5, 3.0, np.nan])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore::xstsr.errors.AssumptionWarning")
def test_coastal_cell_is_filled_and_then_cut_to_the_land(model, method):
    fine, coarse = coast()
    made = coarse.stsr.upscale(2, 1, method=method, model=model)
    known = np.ones(made.shape, bool)
    known[:, :2, 4:] = False  # all at sea
    np.testing.assert_array_equal(made.notnull(), known)
    np.testing.assert_allclose(made.stsr.coarsen(2, 1), coarse, rtol=1e-5)
    land = made.where(LAND).stsr.conserve(coarse)
    np.testing.assert_array_equal(land.notnull(), fine.notnull())
    np.testing.assert_allclose(land.stsr.coarsen(2, 1), coarse, rtol=1e-5)
    assert land.stsr.check(coarse).relative < 1e-5
    # the only pixel on land of the coastal cell holds all that is known of it
    np.testing.assert_allclose(land[:, 0, 2], [3.0, 27.0], rtol=1e-5)


def test_rain_over_a_cell_without_land_is_told_as_lost():
    _, coarse = coast()
    coarse = coarse.fillna(1.0)
    made = coarse.stsr.upscale(2, 1, method="linear")
    land = made.where(LAND).stsr.conserve(coarse)
    receipt = land.stsr.check(coarse)
    assert receipt.lost == 2
    assert int(land.notnull().sum()) == 2 * LAND.sum()
