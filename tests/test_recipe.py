"""The recipe reproduces the paper's four settings, and interpolates between them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xstsr.errors import FactorError, XstsrError
from xstsr.recipe import MAX_FRAMES, Recipe, beta_rule

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


def test_tapered_reduces_and_never_goes_below_zero():
    import numpy as np

    rate = np.array([0.0, 0.1, 0.5])
    assert Recipe(0.01, 3, taper=0.2).tapered(rate) == pytest.approx([0, 0, 0.3])


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
