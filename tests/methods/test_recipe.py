"""The recipe reproduces the paper's four settings, and interpolates between them."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xstsr.errors import FactorError, XstsrError
from xstsr.methods.recipe import MAX_FRAMES, Recipe, Taper, beta_rule, taper_rule

PAPER = [  # s, t, beta_end, L with hourly fine steps: the table of the paper's code
    (10, 1, 0.010, 10),
    (1, 3, 0.015, 4),
    (10, 3, 0.020, 5),
    (25, 6, 0.035, 3),
]


@pytest.mark.parametrize(("s", "t", "beta", "context"), PAPER)
def test_rule_reproduces_the_papers_settings(s, t, beta, context):
    recipe = Recipe.for_factors(s, t, step=60.0 * t)
    assert recipe.beta == pytest.approx(beta, rel=0.02)
    assert recipe.context == context


@pytest.mark.parametrize(
    ("s", "t", "f"),
    [
        (10, 1, lambda x: np.maximum(np.sqrt(x) - 0.01, 0)),
        (1, 3, lambda x: np.maximum(np.sqrt(x) - 0.01, 0)),
        (10, 3, lambda x: np.maximum(x - 0.02, 0)),
        (25, 6, lambda x: np.maximum(x - 0.04, 0)),
    ],
)
def test_taper_rule_is_the_papers_f(s, t, f):
    x = np.linspace(0, 2, 101)
    tapered = taper_rule(s, t, reference=30.0)(30 * x) / 30
    np.testing.assert_allclose(tapered, f(x), atol=1e-12)


@given(s=st.integers(1, 24), t=st.integers(1, 5))
def test_taper_rule_goes_from_compression_to_threshold(s, t):
    here, wider, longer = taper_rule(s, t), taper_rule(s + 1, t), taper_rule(s, t + 1)
    assert here.power <= min(wider.power, longer.power) <= 1
    assert here.offset <= min(wider.offset, longer.offset)


@given(s=st.integers(1, 24), t=st.integers(1, 5))
def test_beta_grows_with_the_factor(s, t):
    assert beta_rule(s + 1, t) > beta_rule(s, t)
    assert beta_rule(s, t + 1) > beta_rule(s, t)


@given(s=st.integers(1, 25), t=st.integers(1, 6), step=st.floats(1, 1e5))
def test_context_stays_within_what_was_trained(s, t, step):
    recipe = Recipe.for_factors(s, t, step=step)
    assert recipe.context >= 3
    assert recipe.context * t <= MAX_FRAMES or recipe.context == 3


def test_amplitude_is_one_for_the_rule_and_follows_beta():
    rule = Recipe.for_factors(10, 3, step=15.0)
    assert rule.amplitude(10, 3) == pytest.approx(1.0)
    assert Recipe(2 * rule.beta, rule.context).amplitude(10, 3) == pytest.approx(2.0)


def test_number_as_taper_reduces_and_never_goes_below_zero():
    rate = np.array([0.0, 0.1, 0.5])
    assert Recipe(0.01, 3, taper=0.2).tapered(rate) == pytest.approx([0, 0, 0.3])


def test_default_taper_changes_nothing():
    rate = np.array([0.0, 0.1, 50.0])
    assert not Recipe(0.01, 3).taper
    assert Recipe(0.01, 3, taper=0) == Recipe(0.01, 3)
    np.testing.assert_array_equal(Taper()(rate), rate)


@given(
    power=st.floats(0.1, 1),
    offset=st.floats(0, 0.5),
    rate=st.lists(st.floats(0, 300), min_size=2, max_size=9).map(sorted),
)
def test_taper_keeps_order_and_sign(power, offset, rate):
    tapered = Taper(power, offset)(np.array(rate))
    assert (tapered >= 0).all()
    assert (np.diff(tapered) >= -1e-12).all()


def test_taper_treats_torch_as_numpy():
    torch = pytest.importorskip("torch")
    rate = np.linspace(0, 20, 9)
    taper = taper_rule(4, 2)
    assert taper(torch.from_numpy(rate)).numpy() == pytest.approx(taper(rate))


def test_recipe_with_a_taper_travels_to_workers():
    recipe = Recipe(0.01, 3, taper=taper_rule(10, 3))
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    assert hash(recipe) == hash(Recipe(0.01, 3, taper=taper_rule(10, 3)))


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ({"power": 0.0}, r"power=0\.0"),
        ({"offset": -0.1}, r"offset=-0\.1"),
        ({"reference": float("nan")}, r"reference=nan"),
    ],
)
def test_taper_refuses_impossible_numbers(numbers, told):
    with pytest.raises(XstsrError, match=told):
        Taper(**numbers)


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ((-1.0, 3, 0.0), "beta=-1.0"),
        ((float("nan"), 3, 0.0), "beta=nan"),
        ((0.01, 0, 0.0), "context=0"),
        ((0.01, 2.5, 0.0), "context=2.5"),
        ((0.01, float("nan"), 0.0), "context=nan"),
        ((float("inf"), 3, 0.0), "beta=inf"),
        ((0.01, 3, -0.1), "taper=-0.1"),
    ],
)
def test_recipe_refuses_impossible_numbers(numbers, told):
    with pytest.raises(XstsrError, match=told):
        Recipe(*numbers)


def test_rule_refuses_factors_below_one():
    with pytest.raises(FactorError, match=r"s=0, t=1"):
        Recipe.for_factors(0, 1, step=60.0)
    with pytest.raises(FactorError, match=r"step=0"):
        Recipe.for_factors(2, 1, step=0)
    with pytest.raises(FactorError, match=r"s=2, t=0"):
        taper_rule(2, 0)
