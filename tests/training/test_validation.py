"""Validation: what is judged, against what, and which weights are kept."""

import math
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from scoringrules import crps_ensemble

from tests.models import tiny_model
from tests.training.test_fit import CONFIG, DRAW, event, field
from xstsr.conservation.constraint import conserve
from xstsr.diffusion.checkpoint import fingerprint, load_model, read_header
from xstsr.errors import AssumptionWarning, CheckpointError, DataError
from xstsr.methods import baselines
from xstsr.training import train
from xstsr.training.events import Event, decode, encode
from xstsr.training.loop import Run
from xstsr.training.validation import (
    REALIZATIONS,
    Judge,
    Score,
    draw_cases,
    judge,
    read_scores,
    summary,
    write_scores,
)

QUIET = {"report": lambda line: None}


EVENTS = [event(0), event(1)]
VALIDATED = replace(CONFIG, residual_steps=6, validate_every=2, rate=0.02)


def train_in_legs(folder, stops):
    """Train and validate, with a new process's eyes after every stop."""
    cases = draw_cases([event(7)], DRAW)
    for stop in stops:
        run = Run(VALIDATED, folder)
        keeper = Judge(cases, folder, lambda scores: {"n": len(scores)})
        run.go(EVENTS, until=stop, judge=keeper, **QUIET)
    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run that was validated."""
    return train_in_legs(tmp_path_factory.mktemp("whole"), [None])


def test_cases_are_the_same_every_time():
    a, b = (draw_cases([event(0), event(1)], DRAW) for _ in range(2))
    assert len(a) == len(b) == 4
    for x, y in zip(a, b, strict=True):
        assert torch.equal(x.batch.fine.nan_to_num(), y.batch.fine.nan_to_num())
    # of these factors none is usually judged: the smallest and the largest are
    assert {x.batch.factor for x in a} == {(1, 2, 2), (2, 3, 3)}


def test_cases_are_of_the_usual_factors_at_the_events_own_grid():
    draw = replace(DRAW, s=(2, 4, 10), t=(2, 3), coarsening=(2,), stride=(2,))
    cases = draw_cases([event(0, size=120)], draw)
    assert [case.batch.factor for case in cases] == [(2, 4, 4), (3, 10, 10)]
    assert all(case.batch.spacing == 1 and case.batch.step == 5 for case in cases)


def test_baselines_are_judged_as_upscaled():
    case = draw_cases([event(0)], DRAW)[0]
    truth, coarse = case.batch.fine[0].numpy(), case.batch.coarse[0].numpy()
    linear = conserve(
        baselines.linear(coarse, case.batch.factor), coarse, case.batch.factor
    )
    known = np.isfinite(truth) & np.isfinite(linear)
    error = (linear - truth)[known]
    assert case.linear_rmse == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)
    assert case.linear_crps == pytest.approx(np.abs(error).mean(), rel=1e-5)


def test_scores_agree_with_an_independent_oracle(monkeypatch):
    """The ensemble of one crop, judged by scoringrules."""
    (case,) = draw_cases([event(0)], replace(DRAW, s=(4,), t=(2,)))
    drawn = []

    def remember(raw, *arguments, **options):
        drawn.append(conserve(raw, *arguments, **options))
        return drawn[-1]

    monkeypatch.setattr("xstsr.training.validation.conserve", remember)
    (score,) = judge(tiny_model(), [case], 9, nullcontext, stage="residual")
    mean, ensemble = drawn
    assert ensemble.shape[0] == REALIZATIONS
    truth = case.batch.fine[0].numpy()
    known = np.isfinite(truth) & np.isfinite(ensemble[0])
    crps = crps_ensemble(truth[known], ensemble[:, known], m_axis=0, estimator="fair")
    best = min(case.linear_crps, case.nearest_crps)
    assert score.crps_ratio == pytest.approx(crps.mean() / best, rel=1e-4)
    rmse = np.sqrt(((mean[0] - truth)[known] ** 2).mean())
    assert score.rmse_ratio == pytest.approx(rmse / case.linear_rmse, rel=1e-4)
    error = np.sqrt(((ensemble.mean(0) - truth)[known] ** 2).mean())
    spread = np.sqrt((ensemble.var(0, ddof=1)[known]).mean() * 5 / 4)
    assert score.spread_skill == pytest.approx(spread / error, rel=1e-4)
    assert (score.step, score.stage, score.s, score.t) == (9, "residual", 4, 2)


def test_untrained_denoiser_is_not_judged():
    cases = draw_cases([event(0)], DRAW)
    scores = judge(tiny_model(), cases, 1, nullcontext, stage="mean")
    assert all(math.isnan(score.crps_ratio) for score in scores)
    assert all(score.stage == "mean" for score in scores)


def test_model_that_repeats_linear_scores_one(monkeypatch):
    cases = draw_cases([event(0)], DRAW)

    def linear(model, case, stage):
        coarse = case.batch.coarse.numpy()
        raw = baselines.linear(coarse, case.batch.factor)
        return conserve(raw, coarse, case.batch.factor), None

    monkeypatch.setattr("xstsr.training.validation._predict", linear)
    for score in judge(tiny_model(), cases, 1, nullcontext, stage="mean"):
        assert score.rmse_ratio == pytest.approx(1.0, rel=1e-4)


def test_summary_prefers_a_trained_denoiser_then_the_geometric_mean():
    mean = [Score(1, "mean", 2, 2, 0.1)]
    poor = [Score(2, "residual", 2, 2, 0.9, 0.5), Score(2, "residual", 3, 2, 0.9, 2.0)]
    good = [Score(3, "residual", 2, 2, 0.9, 0.5), Score(3, "residual", 3, 2, 0.9, 0.5)]
    assert summary(poor)[1] == pytest.approx(1.0)
    assert summary(good) < summary(poor) < summary(mean)
    assert summary([Score(4, "residual", 2, 2, math.nan)]) == (-1, math.inf)


def test_scores_come_back_up_to_a_step(tmp_path):
    rows = [[Score(n, "mean", 2, 1, 0.5), Score(n, "mean", 3, 1, 0.25)] for n in (5, 9)]
    path = tmp_path / "validation.csv"
    assert read_scores(path, 99) == []
    write_scores(path, rows)
    back = read_scores(path, 7)
    assert [[x.rmse_ratio for x in scores] for scores in back] == [[0.5, 0.25]]
    assert math.isnan(back[0][0].crps_ratio)
    assert len(read_scores(path, 9)) == 2


def test_validating_changes_no_weights(whole, tmp_path):
    plain = Run(VALIDATED, tmp_path)
    plain.go(EVENTS, **QUIET)
    for name, value in plain.average.state_dict().items():
        assert torch.equal(value, whole.average.state_dict()[name]), name


def test_best_weights_are_those_of_the_best_row(whole, tmp_path):
    scores = read_scores(whole.folder / "validation.csv", 99)
    assert [rows[0].step for rows in scores] == [2, 3, 4, 6, 8, 9]
    assert [rows[0].stage for rows in scores] == ["mean"] * 2 + ["residual"] * 4
    best = min(scores, key=summary)
    run = Run(VALIDATED, tmp_path)
    run.go(EVENTS, until=best[0].step, **QUIET)
    kept = load_model(whole.folder / "best.safetensors").state_dict()
    for name, value in run.average.state_dict().items():
        assert torch.allclose(kept[name], value, rtol=1e-3, atol=1e-6), name


def test_stopped_run_validates_as_an_undisturbed_one(whole, tmp_path):
    train_in_legs(tmp_path, [2, 5, None])
    for name in ("validation.csv", "best.safetensors"):
        assert (tmp_path / name).read_bytes() == (whole.folder / name).read_bytes()


def test_full_disk_keeps_the_best_weights(whole, tmp_path, monkeypatch):
    keeper = Judge(draw_cases([event(7)], DRAW), tmp_path, lambda scores: {})
    keeper(whole)
    before = fingerprint(keeper.best)
    keeper.scores.unlink()

    def full(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr("xstsr.diffusion.checkpoint.save_file", full)
    with pytest.raises(CheckpointError, match=r"best\.safetensors.*no space"):
        keeper(whole)
    assert fingerprint(keeper.best) == before


def test_train_validates_and_says_so_in_the_card(tmp_path):
    da, other = (field(decode(event(i).codes)[:, 3:]) for i in (0, 7))
    path = train(da, tmp_path, validation=other, config=CONFIG, say=lambda line: None)
    rows = read_scores(tmp_path / "validation.csv", 99)[-1]
    told = read_header(path)["card"]["validation"]
    assert set(told) == {f"{x.s}x{x.t}" for x in rows}
    first = rows[0]
    assert told[f"{first.s}x{first.t}"]["crps_ratio"] == pytest.approx(
        first.crps_ratio, abs=1e-4
    )
    best = read_header(tmp_path / "best.safetensors")["card"]
    assert best["training steps"]["residual"] > 0
    assert best["training data"] == ["rain-0"]


def test_validating_on_the_training_data_is_said(tmp_path):
    da = field(decode(event(0).codes)[:, 3:])
    with pytest.warns(AssumptionWarning, match=r"\['rain-0'\] are both trained and"):
        train(da, tmp_path, validation=[da], config=CONFIG, say=lambda line: None)


def test_validation_data_without_anything_to_tell_are_refused():
    plain = Event("plain", encode(np.ones((8, 40, 40))), 1.0, 5.0)
    with pytest.raises(DataError, match=r"\['plain'\].*uniform in all 2 crops"):
        draw_cases([plain], DRAW)
