"""The rule of trust: every part decides, and the sentence says which."""

import math

import pytest

from xstsr.errors import DataError
from xstsr.evaluation.verdict import LEAST_PIXELS, judge

GOOD = {
    "fair_crps": 0.6,
    "largest_residual": 1e-7,
    "spread_skill": 1.0,
    "q99.9_ratio": 1.0,
    "wet_area_ratio": 1.0,
    "log_spectral_distance": 0.1,
    "temporal_spectral_distance": 0.1,
    "seam_space": 1.0,
    "seam_time": 1.0,
}
RIVALS = {"linear": {"fair_crps": 1.0}, "nearest": {"fair_crps": 1.2}}


def verdict(pixels=5000, is_rain=True, rivals=RIVALS, **changes):
    own = GOOD | {name.replace("q999", "q99.9"): v for name, v in changes.items()}
    return judge(
        {"diffusion": own, **rivals},
        "diffusion",
        ("rainfarm", "linear", "nearest"),
        where="s=4, t=2 (4 km to 1 km)",
        pixels=pixels,
        is_rain=is_rain,
    )


def test_model_that_passes_everything_is_trusted():
    found = verdict()
    assert found.grade == "trust"
    assert found.sentence == (
        "Trust it at s=4, t=2 (4 km to 1 km): fair CRPS 0.60 of that of 'linear', the "
        "best baseline, and every part of the rule holds."
    )
    assert all(check.passed for check in found.checks)


@pytest.mark.parametrize(
    ("score", "inside", "outside", "name"),
    [
        ("spread_skill", 0.8, 0.79, "spread"),
        ("spread_skill", 1.25, 1.26, "spread"),
        ("q999_ratio", 0.75, 0.74, "extremes"),
        ("q999_ratio", 1.33, 1.34, "extremes"),
        ("wet_area_ratio", 0.8, 0.79, "wet area"),
        ("wet_area_ratio", 1.25, 1.26, "wet area"),
        ("log_spectral_distance", 0.5, 0.51, "space"),
        ("temporal_spectral_distance", 0.5, 0.51, "time"),
        ("seam_space", 1.25, 1.26, "seams"),
        ("seam_time", 1.25, 1.26, "seams"),
    ],
)
def test_each_range_ends_where_it_is_said(score, inside, outside, name):
    assert verdict(**{score: inside}).grade == "trust"
    found = verdict(**{score: outside})
    assert found.grade == "care"
    assert [check.name for check in found.checks if not check.passed] == [name]
    assert f"but {name} (" in found.sentence
    assert "fails." in found.sentence


@pytest.mark.parametrize("crps", [1.0, 1.1])
def test_model_no_better_than_a_baseline_is_not_trusted(crps):
    found = verdict(fair_crps=crps)
    assert found.grade == "no"
    assert f"skill (fair CRPS {crps:.2f} of that of 'linear'" in found.sentence
    skill = next(check for check in found.checks if check.name == "skill")
    assert skill.allowed == "below 1"


def test_model_that_loses_water_is_not_trusted():
    found = verdict(largest_residual=1e-4)
    assert found.grade == "no"
    assert "water (largest relative residual 1.0e-04" in found.sentence


def test_all_that_fails_is_named():
    found = verdict(spread_skill=2.0, wet_area_ratio=0.1)
    assert "spread (" in found.sentence
    assert "and wet area (" in found.sentence
    assert found.sentence.endswith("fail.")


def test_few_pixels_give_no_verdict():
    assert verdict(pixels=LEAST_PIXELS).grade == "trust"
    found = verdict(pixels=LEAST_PIXELS - 1, fair_crps=9.0)
    assert found.grade == "unknown"
    assert "the truth has 999 wet pixels, and it takes 1000" in found.sentence


def test_baseline_without_error_gives_no_verdict():
    found = verdict(rivals={"linear": {"fair_crps": 0.0}})
    assert found.grade == "unknown"
    assert "nothing can be better" in found.sentence


def test_what_cannot_be_computed_is_said_and_does_not_fail():
    found = verdict(temporal_spectral_distance=math.nan)
    assert found.grade == "trust"
    assert found.sentence.endswith("; not judged: time.")


def test_worse_of_the_seams_decides():
    found = verdict(seam_space=0.9, seam_time=1.3)
    assert "seams (jumps between cells 0.90, between steps 1.30 of" in found.sentence
    assert verdict(seam_space=math.inf).grade == "care"


def test_seam_that_cannot_be_compared_is_left_out():
    (seams,) = (c for c in verdict(seam_time=math.nan).checks if c.name == "seams")
    assert seams.told == "jumps between cells 1.00 of the truth's"
    assert seams.passed
    unknown = verdict(seam_space=math.nan, seam_time=math.nan)
    assert unknown.grade == "trust"
    assert unknown.sentence.endswith("; not judged: seams.")


def test_states_have_no_wet_area_and_no_extremes():
    found = verdict(is_rain=False, wet_area_ratio=9.0, q999_ratio=9.0)
    assert found.grade == "trust"
    names = {check.name for check in found.checks}
    assert names == {"water", "skill", "spread", "space", "time", "seams"}
    assert "has 1 pixels" in verdict(is_rain=False, pixels=1).sentence


def test_judged_method_is_no_baseline_of_its_own():
    scores = {"linear": GOOD, "nearest": {"fair_crps": 1.2}}
    found = judge(scores, "linear", ("linear", "nearest"), where="", pixels=5000)
    assert "'nearest'" in found.sentence


def test_nothing_to_compare_with_is_an_error():
    with pytest.raises(DataError, match=r"scores of \['diffusion'\].*Evaluate both"):
        judge({"diffusion": GOOD}, "diffusion", ("linear",), where="", pixels=5000)
    with pytest.raises(DataError, match=r"cannot judge 'mean'"):
        judge(RIVALS, "mean", ("linear",), where="", pixels=5000)
