"""Method, steps, sampler, beta, L and f: chosen once, and said wherever a field is."""

import json
from dataclasses import replace
from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
import torch
import xarray as xr
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import save_file

import xstsr
from tests.models import EVERY, SPEC, TINY, tiny_model, write_tiny_model
from tests.strategies import make
from xstsr.cli.main import main
from xstsr.diffusion import sampler as samplers
from xstsr.diffusion.card import model_card
from xstsr.diffusion.checkpoint import (
    load_model,
    methods_of,
    read_header,
    read_spec,
    save_model,
    shared_model,
)
from xstsr.diffusion.model import Model
from xstsr.errors import CheckpointError, XstsrError
from xstsr.methods import METHODS, Name
from xstsr.methods.recipe import Recipe, Taper

pytestmark = pytest.mark.filterwarnings("ignore::xstsr.errors.AssumptionWarning")
KEYS = ("steps", "sampler", "beta", "L", "f")
RULE = Recipe.for_factors(2, 3, step=60.0)
WIDE, SILENT = replace(RULE, beta=2 * RULE.beta), replace(RULE, beta=0.0)
CURBED = replace(RULE, taper=Taper(power=0.9))
SAMPLED = {"steps": 3, "sampler": "dpm-solver++", "beta": RULE.beta, "L": RULE.context}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model"))


def rain(name="pr"):
    values = np.random.default_rng(0).gamma(0.5, 2.0, (4, 3, 5)).astype(np.float32)
    return make(values, grid="metres", name=name)


USED = [
    ("diffusion", {}, {**SAMPLED, "f": "none"}),
    ("diffusion", {"steps": 5}, {**SAMPLED, "steps": 5, "f": "none"}),
    (
        "diffusion",
        {"sampler": "heun", "steps": 8},
        {**SAMPLED, "sampler": "heun", "steps": 7, "f": "none"},
    ),
    ("diffusion", {"recipe": WIDE}, {**SAMPLED, "beta": WIDE.beta, "f": "none"}),
    (
        "diffusion",
        {"recipe": SILENT},
        {"beta": 0.0, "L": RULE.context, "f": "none"},
    ),
    ("diffusion", {"recipe": CURBED}, {**SAMPLED, "f": str(CURBED.taper)}),
    ("mean", {"steps": 5}, {"L": RULE.context, "f": "none"}),
    ("generator", {"steps": 5}, {"L": RULE.context, "f": "none"}),
    (
        "generator",
        {"recipe": WIDE},
        {"beta": WIDE.beta, "L": RULE.context, "f": "none"},
    ),
    ("linear", {"recipe": WIDE, "steps": 5}, {}),
    ("nearest", {}, {}),
    ("rainfarm", {"recipe": WIDE}, {}),
    ("rainfarm", {"recipe": CURBED}, {"f": str(CURBED.taper)}),
]


@pytest.mark.parametrize(("method", "options", "used"), USED)
def test_only_what_was_used_is_said(model, tmp_path, method, options, used):
    """In attributes, history, plan, receipt and store, with the same values."""
    da, call = rain(), {"method": method, "model": model, **options}
    fine = da.stsr.upscale(2, 3, **call)
    said = {k: fine.attrs[f"xstsr_{k}"] for k in KEYS if f"xstsr_{k}" in fine.attrs}
    assert said == used
    assert fine.attrs["xstsr_method"] == method
    line = fine.attrs["history"].splitlines()[-1]
    for key in KEYS:
        assert (f", {key}={used.get(key)}" in line) == (key in used)
    plan = da.stsr.plan(2, 3, **call)
    assert {k: v for k, v in plan.to_dict().items() if k in KEYS} == used
    assert [label for label, _ in plan.lines if label in KEYS] == list(used)
    made = dict(fine.stsr.check(da).lines)["method"]
    assert made.startswith(method)
    assert [key for key in KEYS if f", {key}=" in made] == list(used)
    stored = xstsr.to_zarr(da, tmp_path / "a.zarr", 2, 3, **call)
    noted = json.loads(stored.attrs["xstsr_call"])
    assert {k: v for k, v in noted.items() if k in KEYS} == used
    assert {k: stored.pr.attrs.get(f"xstsr_{k}") for k in used} == used


def test_generator_without_attention_does_not_know_the_context(tmp_path):
    """L has no effect on it, in windows of long records neither."""
    plain = replace(EVERY, generator=replace(TINY, temporal=()))
    call = {"method": "generator", "model": write_tiny_model(tmp_path, spec=plain)}
    long = make(
        np.random.default_rng(0).gamma(0.5, 2.0, (70, 2, 2)).astype(np.float32),
        grid="metres",
    )
    near = replace(Recipe.for_factors(2, 3, step=60.0), context=1)
    usual, other = (
        long.stsr.upscale(2, 3, **call),
        long.stsr.upscale(2, 3, recipe=near, **call),
    )
    np.testing.assert_array_equal(usual, other)
    assert "xstsr_L" not in usual.attrs


def test_stages_say_each_their_own(model):
    da = rain()[:2, :2, :2]
    fine = da.stsr.upscale(26, 1, model=model)
    assert fine.attrs["xstsr_steps"] == 3
    first, second = fine.attrs["xstsr_beta"].split(" then ")
    assert float(first) < float(second)
    taper = Recipe(0.01, 3, 1.0)
    curbed = da.stsr.plan(26, 1, model=model, recipe=taper)
    assert dict(curbed.lines)["f"].startswith("none then Taper(")


def test_attributes_of_different_steps_differ(model):
    few, many = (rain().stsr.upscale(2, 3, model=model, steps=n) for n in (2, 8))
    assert few.attrs["xstsr_steps"] == 2 < many.attrs["xstsr_steps"] == 8
    one = rain().stsr.upscale(2, 3, model=model, method="generator")
    assert one.attrs["xstsr_method"] == "generator"


# what runs


def count_calls(monkeypatch, network):
    """Count how often a network of the tiny model is evaluated."""
    calls = []
    usual = type(network).forward

    def counted(self, *args):
        calls.append(self)
        return usual(self, *args)

    monkeypatch.setattr(type(network), "forward", counted)
    return calls


@pytest.mark.parametrize(
    ("options", "means", "denoisings", "draws"),
    [
        ({}, 1, 3, 0),
        ({"steps": 2}, 1, 2, 0),
        ({"steps": 8, "sampler": "heun"}, 1, 7, 0),
        ({"recipe": SILENT}, 1, 0, 0),
        ({"method": "mean"}, 1, 0, 0),
        ({"method": "generator"}, 0, 0, 1),
        ({"method": "generator", "recipe": WIDE}, 1, 0, 1),
    ],
)
def test_networks_are_evaluated_as_often_as_said(
    model, monkeypatch, options, means, denoisings, draws
):
    used = shared_model(model)
    parts = (used.mean, used.denoiser, used.generator)
    calls = [count_calls(monkeypatch, part) for part in parts]
    rain().stsr.upscale(2, 3, model=model, device="cpu", **options)
    assert [len(made) for made in calls] == [means, denoisings, draws]


def test_bundled_model_samples_by_diffusion():
    """Its header says one step, from when that meant the generator."""
    assert read_header("default")["spec"]["settings"]["steps"] == 1
    plan = rain().stsr.plan(2, 3).to_dict()
    assert (plan["method"], plan["steps"], plan["sampler"]) == (
        "diffusion",
        8,
        "dpm-solver++",
    )
    other = rain().stsr.plan(2, 3, method="generator").to_dict()
    assert not {"steps", "sampler", "beta", "L"} & set(other)


def test_context_and_noise_change_the_bundled_samples():
    da = rain()[:3, :2, :2]
    rule = Recipe.for_factors(4, 2, step=60.0)
    call = {"steps": 2, "device": "cpu"}
    usual = da.stsr.upscale(4, 2, recipe=rule, **call)
    for change in ({"context": 1}, {"beta": 1.5 * rule.beta}):
        other = da.stsr.upscale(4, 2, recipe=replace(rule, **change), **call)
        assert not np.array_equal(usual, other)


def test_model_card_says_how_it_samples(model):
    facts = model_card(model).facts
    assert (facts["steps"], facts["sampler"]) == (3, "dpm-solver++")
    assert facts["methods"] == ["mean", "diffusion", "generator"]
    bundled = model_card("default").facts
    assert bundled["methods"] == ["mean", "diffusion", "generator"]
    assert bundled["steps"] == 8


@pytest.mark.parametrize(
    ("card", "generator", "methods"),
    [
        ({}, None, ("mean", "diffusion")),
        ({}, {"widths": [8]}, ("mean", "diffusion", "generator")),
        ({"methods": ["mean"]}, None, ("mean",)),
        (
            {"methods": ["mean", "diffusion"], "training steps": {"mean": 1}},
            {"widths": [8]},
            ("mean", "diffusion"),
        ),
        (
            {"methods": ["mean"], "training steps": {"mean": 1, "generator": 2}},
            {"widths": [8]},
            ("mean", "generator"),
        ),
    ],
)
def test_methods_are_those_that_were_trained(card, generator, methods):
    header = {"card": card, "spec": {"generator": generator}}
    assert methods_of(header) == methods


# checkpoints of before


def test_checkpoint_of_before_loads(tmp_path, model):
    with safe_open(model, framework="pt") as file:
        header = json.loads(file.metadata()["xstsr"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header["spec"]["settings"] |= {"steps": 1, "from_noise": 8, "renoise": 0.5}
    old = tmp_path / "old.safetensors"
    save_file(tensors, old, metadata={"xstsr": json.dumps(header)})
    assert read_spec(str(old)).settings == replace(EVERY.settings, steps=8)
    assert isinstance(load_model(old), Model)


def test_setting_that_nobody_knows_is_refused(tmp_path, model):
    with safe_open(model, framework="pt") as file:
        header = json.loads(file.metadata()["xstsr"])
    header["spec"]["settings"]["shine"] = 1
    path = tmp_path / "m.safetensors"
    save_file({"a": torch.ones(1)}, path, metadata={"xstsr": json.dumps(header)})
    with pytest.raises(CheckpointError, match=r"from its header.*shine"):
        load_model(path)


# a sampler of one's choice


def test_sampler_is_chosen_everywhere(model, tmp_path):
    da, call = rain(), {"sampler": "ddpm", "model": model}
    fine = da.stsr.upscale(2, 3, **call)
    assert not np.array_equal(fine, da.stsr.upscale(2, 3, model=model))
    assert fine.attrs["xstsr_sampler"] == "ddpm"
    ds = da.to_dataset()
    for made in (
        ds.stsr.upscale("pr", 2, 3, **call).pr,
        ds.stsr.upscale_together({"pr": model}, 2, 3, sampler="ddpm").pr,
        da.stsr.to_zarr(tmp_path / "a.zarr", 2, 3, **call).pr,
    ):
        np.testing.assert_array_equal(made, fine)
    assert dict(da.stsr.plan(2, 3, **call).lines)["sampler"] == "ddpm"
    judged = fine.stsr.evaluate(
        2, 1, methods=("diffusion", "linear"), realizations=2, steps=2, **call
    )
    assert dict(judged.lines)["method"].startswith("diffusion, steps=2, sampler=ddpm")


@pytest.mark.parametrize("command", ["upscale", "plan"])
def test_sampler_is_chosen_on_the_command_line(model, tmp_path, command):
    rain().to_netcdf(tmp_path / "in.nc")
    files = [str(tmp_path / "in.nc")]
    files += [str(tmp_path / "out.zarr")] * (command == "upscale")
    how = ["-s", "2", "--model", model, "--sampler", "heun", "--steps", "5", "--json"]
    done = CliRunner().invoke(main, [command, *files, *how])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["sampler"], told["steps"]) == ("heun", 5)


def test_new_sampler_needs_one_entry(model, monkeypatch):
    def euler(denoise, x, sigmas, fresh=None):
        for sigma, following in pairwise(sigmas):
            x = x + (following - sigma) / sigma * (x - denoise(x, sigma))
        return x

    karras = samplers.SAMPLERS["dpm-solver++"].levels
    monkeypatch.setitem(samplers.SAMPLERS, "euler", samplers.Sampler(euler, karras))
    fine = rain().stsr.upscale(2, 3, model=model, sampler="euler", steps=4)
    assert (fine.attrs["xstsr_sampler"], fine.attrs["xstsr_steps"]) == ("euler", 4)


WRONG = [
    ({"steps": 1}, XstsrError, r"steps=1: 'dpm-solver\+\+'.*Pass steps=4 or more"),
    ({"steps": 2, "sampler": "heun"}, XstsrError, r"steps=2: 'heun'.*3 times or more"),
    ({"steps": 1001, "sampler": "ddpm"}, XstsrError, r"1001: 'ddpm' has 1000 noise"),
    ({"sampler": "euler"}, XstsrError, r"sampler='euler': choose one of \['ddpm'"),
    (
        {"method": "generator"},
        CheckpointError,
        r"method='generator' and the model '.*': it was trained for "
        r"\['mean', 'diffusion'\] alone\. Choose one of these, or .*generator_steps",
    ),
]


@pytest.mark.parametrize(("options", "error", "told"), WRONG)
def test_what_the_model_or_the_sampler_cannot_is_refused(
    tmp_path, options, error, told
):
    """Before anything is computed or written."""
    da, call = rain(), {"model": write_tiny_model(tmp_path, spec=SPEC), **options}
    for ask in (
        lambda: da.stsr.upscale(2, 3, **call),
        lambda: da.chunk(time=1).stsr.upscale(2, 3, **call),
        lambda: da.stsr.plan(2, 3, **call),
        lambda: da.stsr.to_zarr(tmp_path / "a.zarr", 2, 3, **call),
        lambda: da.to_dataset().stsr.upscale("pr", 2, 3, **call),
    ):
        with pytest.raises(error, match=told):
            ask()
    assert not list(tmp_path.glob("a.zarr*"))


def test_model_without_a_denoiser_cannot_diffuse(tmp_path):
    path = tmp_path / "mean.safetensors"
    save_model(tiny_model(spec=SPEC), path, {"methods": ["mean"]})
    with pytest.raises(
        CheckpointError, match=r"'diffusion'.*\['mean'\] alone.*residual"
    ):
        rain().stsr.upscale(2, 3, model=path)
    assert rain().stsr.upscale(2, 3, model=path, method="mean").shape == (12, 6, 10)


def test_every_method_is_offered():
    """By the signature's type, the command line and the errors."""
    assert set(get_args(Name)) == set(METHODS)
    told = CliRunner().invoke(main, ["upscale", "--help"]).output
    assert all(name in told for name in METHODS)


def test_foreign_fields_have_no_method_line():
    da = rain()
    fine = da.stsr.upscale(2, 3, method="linear")
    foreign = xr.DataArray(
        fine.values,
        fine.coords,
        fine.dims,
        name="pr",
        attrs={k: v for k, v in fine.attrs.items() if not k.startswith("xstsr_")},
    )
    assert "method" not in dict(foreign.stsr.check(da).lines)
