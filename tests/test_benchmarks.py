"""The commands of benchmarks/: what they judge, compare and leave out."""

import numpy as np
import pytest
import torch
import xarray as xr

from benchmarks import (
    ablations,
    anisotropy,
    clock,
    common,
    globe,
    heldout,
    recipe,
    seams,
    setting,
    skill,
    speed,
    stages,
)
from tests.models import tiny_model, write_tiny_model
from tests.strategies import make
from xstsr.diffusion.features import scalars_of
from xstsr.evaluation.protocol import METHODS, Protocol
from xstsr.methods.recipe import Recipe

pytestmark = pytest.mark.filterwarnings("ignore::xstsr.errors.AssumptionWarning")
CASE = ((2, 4, 4), torch.tensor([1.0]), torch.tensor([5.0]))  # factor, spacing, step


def scores(**diffusion):
    """Scores of one event at two factors, 1 but for what is given of diffusion."""
    names = [
        *("fair_crps", "rmse", "spread_skill", "q99.9_ratio", "wet_area_ratio"),
        *("log_spectral_distance", "temporal_spectral_distance", "largest_residual"),
        *("seam_space", "seam_time"),
    ]
    table = xr.Dataset(
        {n: (("event", "factor", "method"), np.ones((1, 2, 5))) for n in names},
        {"event": ["one_of_all"], "factor": ["4x2", "7x1"], "method": list(METHODS)},
    )
    for name, values in diffusion.items():
        table[name.replace("q999", "q99.9")][0, :, 0] = values
    return table


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model"))


def rain(frames=16, side=12):
    noise = np.random.default_rng(0).exponential(size=(frames, side, side))
    return make(noise, units="mm h-1", grid="metres")


# skill


def judged(table):
    return {figure.name: figure.judge(table)["verdict"] for figure in skill.FIGURES}


def test_verdicts_tell_which_case_misses_and_by_how_much():
    told = judged(scores(spread_skill=[1.0, 1.5], q999_ratio=[0.8, 1.0]))
    assert told["spread/skill"] == "missed in 1 of 2: one_of_all 7x1 by +0.35"
    assert told["q99.9 ratio"] == "missed in 1 of 2: one_of_all 4x2 by -0.05"
    assert told["wet-area ratio"] == "reached"


def test_verdicts_leave_out_what_cannot_be_measured():
    told = judged(scores(seam_time=[np.nan, 1.0], seam_space=[np.nan, np.nan]))
    assert told["seams in time"] == "reached"
    assert told["seams in space"] == "not measured"


def test_geometric_mean_of_the_ratios_is_judged():
    row = skill.judge_mean(scores(fair_crps=[0.5, 0.98]))
    assert row["range"] == "0.7"
    assert row["verdict"] == "missed in 1 of 1: 0.700 by +0.02"


def test_every_case_is_listed_with_every_figure():
    first, second = skill.by_case(scores(fair_crps=[0.5, 0.6]))
    assert (first["factor"], second["factor"]) == ("4x2", "7x1")
    assert first["CRPS / best"] == 0.5
    assert common.table([first, second]).count("\n") == 4


# held-out factors


def test_factors_on_the_trend_do_not_deviate_and_others_do():
    factors = heldout.parse_factors(heldout.FACTORS)
    s, t = np.log(np.array(factors, float)).T
    on_trend = np.exp(-0.3 + 0.1 * s - 0.2 * t + 0.05 * s * t - 0.02 * s**2)
    held, trained = heldout.deviations(factors, on_trend)
    assert max(map(abs, [*held.values(), *trained.values()])) < 1e-9
    assert {(7, 3), (10, 5)} <= set(held)
    assert not set(held) & set(trained)
    off = np.where([f == (13, 5) for f in factors], 1.05, 1.0) * on_trend
    held, trained = heldout.deviations(factors, off)
    assert held[13, 5] == pytest.approx(0.05)
    *_, verdict = heldout.judged({"one_of_all": (held, trained)})
    assert verdict.endswith("missed at 13x5 +5.0 %.")


# seams between windows


def test_clocks_put_windows_edges_at_different_boundaries(model):
    coarse = seams.coarsen(rain(frames=32), 3, 2)
    chosen = seams.clocks(coarse, 3, 2, model, runs=4)
    cut = [edges for edges in chosen.values() if edges.any()]
    assert len({int(edges.argmax()) for edges in cut}) == len(cut) == 4
    assert not any(edges.all() for edges in chosen.values())
    later = seams.put_forward(coarse, 3)
    assert later.time[0] == coarse.time[3]


def test_jumps_are_those_between_coarse_steps():
    steps = np.repeat([0.0, 1.0, 3.0], 2)[:, None, None] * np.ones((6, 2, 2))
    assert seams.jumps(make(steps, units="mm h-1", grid="metres"), 2) == pytest.approx(
        [1, 2]
    )


def test_seam_between_windows_is_a_number(model):
    protocol = Protocol(realizations=1, model=model, side=12, frames=99)
    assert 0.3 < seams.seam(rain(frames=48), 3, 2, protocol, runs=2) < 3


# the recipe


def test_recipe_is_varied_one_number_at_a_time():
    base = Recipe.for_factors(10, 3, step=15.0)
    for name, variants in (
        ("beta", recipe.betas(base)),
        ("context", recipe.contexts(base)),
        ("taper", recipe.tapers(base, 10, 3)),
    ):
        assert base in variants.values()
        for other in variants.values():
            same = {"beta", "context", "taper"} - {name}
            assert all(getattr(other, n) == getattr(base, n) for n in same)


def test_samplers_are_scored_with_their_evaluations(model, monkeypatch):
    monkeypatch.setattr(recipe, "SAMPLERS", (("heun", 3), ("ddpm", 2)))
    monkeypatch.setattr(recipe, "SAMPLED_AT", (2, 2))
    protocol = Protocol(realizations=2, model=model, side=8, frames=4)
    monkeypatch.setattr(
        recipe, "scores_of", lambda box, s, t, used: recipe_scores(used)
    )
    rows = recipe.compare_samplers([("a_b_c_d", rain())], protocol)
    assert [(row["sampler"], row["evaluations"]) for row in rows] == [
        ("generator", 1),
        ("heun", 3),
        ("ddpm", 2),
    ]
    assert [row["fair_crps"] for row in rows] == [-1, 3, 2]


def recipe_scores(used):
    """Tell in a score how a sample was to be drawn."""
    steps = -1 if used.methods == ("generator",) else used.steps
    return xr.Dataset(dict.fromkeys(recipe.SHOWN["sampler"], float(steps)))


# stages


def test_every_split_gives_the_whole_factor():
    for (s, t), splits in stages.SPLITS.items():
        for parts in splits:
            assert np.prod(parts, axis=0).tolist() == [t, s, s]


def test_splits_are_scored_and_compared_with_all_at_once(model):
    values = np.random.default_rng(0).gamma(0.5, 2.0, (8, 12, 12))
    box = make(values, grid="metres", label="mid")
    protocol = Protocol(realizations=2, model=model)
    rows = []
    for parts in (((4, 6, 6),), ((2, 2, 2), (2, 3, 3))):
        found = stages.score(box, 6, 4, parts, protocol)
        assert found["largest_residual"] < 1e-5
        way = ", then ".join(map(stages.said, parts))
        rows.append({"event": "a", "factor": "6x4", "stages": way} | found)
    at_once, in_two = (row["fair_crps"] for row in rows)
    last = stages.summary(rows).splitlines()[-1]
    assert last.startswith("| s=2, t=2, then s=3, t=2 |")
    assert float(last.split("|")[2]) == pytest.approx(in_two / at_once, rel=0.01)


# ablations


def condition(model, spacing=1.0):
    coarse = torch.rand(1, 2, 3, 3, generator=torch.Generator().manual_seed(0)) + 0.5
    one = torch.ones(1)
    return coarse, model.condition(coarse, (2, 4, 4), spacing * one, 5 * one, 30 * one)


def test_ablated_context_is_one_frame_and_only_meanwhile():
    with ablations.one_frame():
        assert Recipe.for_factors(10, 3, step=15.0).context == 1
    assert Recipe.for_factors(10, 3, step=15.0).context > 1


def test_ablated_constraint_lets_the_mean_stray():
    model = tiny_model()
    coarse, usual = condition(model)
    with ablations.unconstrained():
        free = condition(model)[1].means

    def miss(means):
        blocks = means.rate.reshape(1, 2, 2, 3, 4, 3, 4).mean(dim=(2, 4, 6))
        return float((blocks / coarse - 1).abs().max())

    assert miss(usual.means) < 1e-5 < 0.01 < miss(free)


def test_ablated_sigma_is_the_same_for_every_factor():
    model = tiny_model()
    large = scalars_of((6, 25, 25), *CASE[1:])
    with ablations.one_sigma():
        both = [model.sigma_data(x) for x in (large, scalars_of(*CASE))]
        assert torch.equal(*both)
    assert model.sigma_data(large) > model.sigma_data(scalars_of(*CASE))


def test_ablated_spacing_is_not_seen():
    model = tiny_model()
    with ablations.no_spacing():
        one, four = (condition(model, x)[1].means.z for x in (1.0, 4.0))
    assert torch.equal(one, four)
    assert not torch.equal(one, condition(model, 4.0)[1].means.z)


def test_variants_are_of_one_size():
    sizes = []
    for variant in ablations.VARIANTS.values():
        spec = variant.config(1, 1).spec
        network = ablations.SpaceTimeUNet(7, 2, 4, spec.mean)
        sizes.append(sum(p.numel() for p in network.parameters()))
    assert max(sizes) < 1.02 * min(sizes)


# narrow cells, and the globe


def test_narrow_cells_are_scored_in_every_way(model):
    protocol = Protocol(realizations=2, model=model)
    found = anisotropy.scored(rain(side=24), 2, (3, 2), protocol)
    assert set(found) == {*anisotropy.POWER, "equal distance", "linear"}
    assert all(0 < scores["fair_crps"] < 2 for scores in found.values())
    assert found["width"] != found["height"]


def test_only_a_field_with_ends_shows_where_it_closes():
    da = globe.rain(10.0, 2)
    closed, ended = (
        globe.measure(da, globe.Case(10.0, "linear", 2, c), 3, "default", None)
        for c in (True, False)
    )
    for name in ("date line", "poles"):
        assert closed[name] == pytest.approx(1, abs=1e-4)
        assert ended[name] > 1.1
    assert closed["water"] < 1e-7
    assert globe.verdict([closed, ended]) == "reached"
    assert globe.verdict([ended | {"taken for": "a globe"}]).startswith("missed by lin")


def test_red_noise_is_alike_across_the_pole():
    noise = globe.red_noise(30, 60, 40)
    across = abs(noise[:, 0] - np.roll(noise[:, 0], 30, axis=-1)).mean()
    inside = abs(noise[:, 10] - noise[:, 11]).mean()
    assert across == pytest.approx(inside, rel=0.1)


# speed


def test_ways_are_timed_in_turn():
    calls = []
    ways = {name: lambda name=name: calls.append(name) for name in "ab"}
    best = clock.in_turn(ways, 2)
    assert calls == ["a", "b", "a", "b"]
    assert set(best) == {"a", "b"}


def test_seconds_count_for_the_innermost_stage(monkeypatch):
    class Work:
        def outer(self):
            ticks.append(3)
            self.inner()
            ticks.append(1)

        def inner(self):
            ticks.append(5)

    ticks = [0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: sum(ticks))
    watch = clock.Stopwatch("rest")
    with watch.run({"out": [(Work, "outer")], "in": [(Work, "inner")]}):
        ticks.append(2)
        Work().outer()
    Work().inner()  # no longer watched
    assert watch.seconds == {"rest": 2, "out": 4, "in": 5}


@pytest.mark.parametrize(
    ("value", "limits", "target", "verdict"),
    [
        (0.4, {"low": 0.5}, "0.5 or more", "missed"),
        (0.4, {"high": 0.5}, "0.5 or less", "reached"),
        (1.3, {"low": 0.8, "high": 1.2}, "0.8..1.2", "missed"),
        (7.0, {}, "", ""),
    ],
)
def test_speed_is_judged_by_its_target(value, limits, target, verdict):
    row = speed.figure("speed", value, **limits)
    assert (row["target"], row["verdict"]) == (target, verdict)


def test_memory_of_another_process_is_measured():
    assert 5e6 < clock.peak_bytes("this") < 1e9
    with pytest.raises(SystemExit, match=r"no_such_module failed"):
        clock.peak_bytes("no_such_module")


def test_stages_are_watched_where_they_run(model, tmp_path):
    sizes = setting.Sizes(3, 2, rounds=1)
    around, *shares = speed.stage_figures(
        setting.Setting(model, model, tmp_path, sizes)
    )
    stages = [row["figure"].removesuffix(", of the time") for row in shares]
    assert stages == [*speed.STAGES, speed.REST]
    assert sum(row["value"] for row in shares) == pytest.approx(1)
    assert all(row["value"] > 0 for row in shares)
    assert 0 < around["value"] < 1


def test_rain_for_timing_is_wet_everywhere():
    assert float(speed.rain(3, 4).min()) > 0.05
