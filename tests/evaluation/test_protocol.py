"""Evaluation: boxes by a fixed rule, and a table that tells methods apart."""

import csv

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

from tests.models import write_tiny_model
from tests.strategies import make
from xstsr.cli.main import main
from xstsr.errors import DataError, FactorError
from xstsr.evaluation.protocol import (
    METHODS,
    Protocol,
    boxes,
    markdown,
    parse_factors,
    ratios,
    score_events,
    score_methods,
    write_table,
)
from xstsr.methods.recipe import Recipe

pytestmark = pytest.mark.filterwarnings("ignore::xstsr.errors.AssumptionWarning")


def event(frames=6, side=24, seed=0):
    rng = np.random.default_rng(seed)
    smooth = rng.normal(size=(frames, side, side)).cumsum(1).cumsum(2)
    return make(np.maximum(smooth, 0), units="mm h-1", grid="metres")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model"))


def test_linear_beats_nearest_on_a_smooth_field():
    x = np.linspace(0, np.pi, 24)
    smooth = np.sin(x)[:, None] * np.sin(x) * np.ones((6, 1, 1))
    da = make(smooth, units="mm h-1", grid="metres")
    scores = score_methods(da, 4, 2, protocol=Protocol(methods=("linear", "nearest")))
    crps = scores.fair_crps.values
    assert crps[0] < 0.5 * crps[1]
    assert float(scores.largest_residual.max()) < 1e-5


def test_evaluation_of_the_model_has_every_score(model):
    protocol = Protocol(realizations=3, model=model)
    scores = score_methods(event(), 4, 2, protocol=protocol)
    assert scores.method.values.tolist() == list(protocol.methods)
    assert {"fair_crps", "spread_skill", "q99.9_ratio", "ssim"} <= set(scores)
    assert float(scores.spread_skill[0]) > 0


def test_recipe_of_the_protocol_reaches_the_model(model):
    rule = Recipe.for_factors(4, 2, step=120.0)
    spread = [
        float(
            score_methods(
                event(),
                4,
                2,
                protocol=Protocol(
                    realizations=4, methods=("diffusion",), model=model, recipe=recipe
                ),
            ).spread_skill[0]
        )
        for recipe in (Recipe(0.0, rule.context), Recipe(2 * rule.beta, rule.context))
    ]
    assert spread[0] == 0
    assert spread[1] > 0


def test_ratios_divide_by_the_best_of_the_baselines():
    values = [[[4.0, 3.0, 8.0, 2.0, 5.0]]]
    methods = {"method": list(METHODS)}
    scores = xr.Dataset({"rmse": (("event", "factor", "method"), values)}, methods)
    assert ratios(scores, score="rmse", method="mean").item() == 1.5
    assert ratios(scores, ("rainfarm", "nearest"), score="rmse").item() == 0.8


def test_box_is_the_wettest_that_is_covered():
    rain = np.zeros((4, 20, 20))
    rain[:, 2:6, 2:6] = 9.0
    rain[:, 12:16, 12:16] = 5.0
    rain[:, 3, 3] = np.nan
    da = make(rain, units="mm h-1", grid="metres")
    (box,) = boxes(da, 2, 2, Protocol(side=4, frames=4))
    assert box.shape == (4, 4, 4)
    assert float(box.mean()) == 5.0


def test_boxes_do_not_overlap():
    da = event(side=30)
    found = boxes(da, 3, 2, Protocol(side=12, frames=4, boxes=3))
    places = [(float(b.y[0]), float(b.x[0])) for b in found]
    assert len(found) == len(set(places)) > 1
    for a in found:
        for b in found:
            apart = (abs(float(a.y[0] - b.y[0])) >= 12e3) | (
                abs(float(a.x[0] - b.x[0])) >= 12e3
            )
            assert a is b or apart


def test_event_without_a_covered_box_is_refused():
    da = make(np.full((4, 8, 8), np.nan), units="mm h-1", grid="metres")
    with pytest.raises(DataError, match=r"no box of \(4, 8, 8\)"):
        boxes(da, 2, 2, Protocol(side=8, frames=4))


def test_field_smaller_than_two_cells_is_refused():
    with pytest.raises(DataError, match="less than two coarse cells"):
        score_methods(event(side=9), 6, 2, protocol=Protocol(methods=("linear",)))


def test_table_names_every_event_and_factor(tmp_path, model):
    protocol = Protocol(realizations=2, model=model, side=12, frames=4)
    scores = score_events(
        [("one", event()), ("two", event(seed=1))], [(3, 2), (4, 1)], protocol, str
    )
    assert ratios(scores).shape == (2, 2)
    text = markdown(scores)
    assert text.count("| one | 3x2 |") == len(protocol.methods)
    assert "geometric mean" in text
    write_table(scores, tmp_path / "t.csv")
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert len(rows) == 4 * len(protocol.methods)
    write_table(scores, tmp_path / "t.md")
    assert (tmp_path / "t.md").read_text() == text
    write_table(scores, tmp_path / "t.nc")
    with xr.open_dataset(tmp_path / "t.nc") as back:
        assert back.event.values.tolist() == ["one", "two"]
    with pytest.raises(DataError, match=r"t\.txt.*\.md, \.csv or"):
        write_table(scores, tmp_path / "t.txt")


def test_events_shorter_than_two_coarse_steps_are_refused():
    da = make(np.ones((7, 12, 12)), grid="metres", label="mid")
    assert boxes(da, 4, 3, Protocol(side=8, frames=6))[0].sizes["time"] == 6
    with pytest.raises(DataError, match=r"at s=4, t=4: .* less than two coarse"):
        boxes(da, 4, 4, Protocol(side=8, frames=6))


@pytest.mark.parametrize("text", ["4", "4x", "axb", "4x2x1x1", ""])
def test_factors_of_another_form_are_refused(text):
    with pytest.raises(FactorError, match="write them as SxT"):
        parse_factors(text)


def test_command_prints_the_table(tmp_path, model):
    path = tmp_path / "event.nc"
    event().to_dataset(name="pr").to_netcdf(path)
    done = CliRunner().invoke(
        main,
        [
            *("evaluate", str(path), "--model", model, "--factors", "3x2"),
            *("--realizations", "2", "--side", "12", "--frames", "4"),
        ],
    )
    assert done.exit_code == 0, done.output
    assert "| event | 3x2 | diffusion |" in done.output
