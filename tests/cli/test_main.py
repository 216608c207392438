"""The command line: exit codes, messages, and that it delegates."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner, Result

from tests.strategies import make_dataset
from xstsr.cli import doctor
from xstsr.cli.main import main
from xstsr.data import open_demo
from xstsr.diffusion import card
from xstsr.errors import AssumptionWarning, DataError
from xstsr.methods import METHODS


def _xstsr(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def _write(ds: xr.Dataset, path: Path) -> Path:
    ds["time"].encoding["units"] = "minutes since 2001-01-01"
    ds.to_netcdf(path)
    return path


@pytest.fixture
def rain_file(tmp_path):
    """Coarse cells of real rain: 4 steps, 6 x 5 cells."""
    path = tmp_path / "rain.nc"
    open_demo().isel(time=slice(4), y=slice(6), x=slice(5)).to_netcdf(path)
    return path


def test_help_lists_every_command():
    listed = _xstsr("--help").output
    for command in ("demo", "doctor", "evaluate", "models", "plan", "train", "upscale"):
        assert f"\n  {command} " in listed
        assert _xstsr(command, "--help").exit_code == 0


def test_version_is_printed():
    assert _xstsr("--version").output.startswith("xstsr, version 0.")


def test_doctor_prints_text_and_json():
    assert "\n  torch " in _xstsr("doctor").output
    assert json.loads(_xstsr("doctor", "--json").output) == doctor.survey()


def test_models_prints_text_and_json():
    assert _xstsr("models").exit_code == 0
    assert json.loads(_xstsr("models", "--json").output) == card.models()


def test_models_without_weights_says_what_works(monkeypatch):
    monkeypatch.setattr(card, "models", list)
    assert "linear, nearest and rainfarm need none" in _xstsr("models").output


def test_bad_usage_exits_2():
    for arguments in ([], ["nonsense"], ["upscale", "absent.nc", "out.zarr", "-s", 2]):
        result = _xstsr(*arguments)
        assert result.exit_code == 2
        assert "Usage:" in result.output


def test_bad_input_exits_2_with_one_message(monkeypatch):
    def fail():
        raise DataError("cannot do this: got that. Type the other.")

    monkeypatch.setattr(doctor, "survey", fail)
    result = _xstsr("doctor")
    assert result.exit_code == 2
    assert result.stderr == "xstsr: cannot do this: got that. Type the other.\n"
    assert result.stdout == ""


def test_unexpected_error_exits_1(monkeypatch):
    def fail():
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(doctor, "survey", fail)
    result = _xstsr("doctor")
    assert result.exit_code == 1
    assert isinstance(result.exception, RuntimeError)


def test_assumptions_are_told_without_source_lines(monkeypatch):
    def assume():
        warnings.warn("took labels for starts", AssumptionWarning, stacklevel=1)
        return {}

    monkeypatch.setattr(doctor, "survey", assume)
    result = _xstsr("doctor")
    assert result.exit_code == 0
    assert result.stderr == "note: took labels for starts\n"


def test_upscale_writes_finer_field_with_same_water(rain_file, tmp_path):
    target = tmp_path / "fine.nc"
    result = _xstsr(
        "upscale", rain_file, target, "-s", 3, "-t", 2, "--method", "linear"
    )
    assert result.exit_code == 0, result.output
    assert f"wrote {target}" in result.output
    with xr.open_dataset(rain_file) as coarse, xr.open_dataset(target) as fine:
        rain = fine["rainfall_amount"]
        assert rain.sizes == {"time": 8, "y": 18, "x": 15}
        np.testing.assert_allclose(
            rain.coarsen(time=2).sum().coarsen(y=3, x=3).mean(),
            coarse["rainfall_amount"],
            rtol=1e-5,
        )


def test_plan_tells_shape_and_computes_nothing(rain_file, no_compute):
    with no_compute():
        result = _xstsr("plan", rain_file, "-s", 3, "-t", 2)
    assert result.exit_code == 0, result.output
    assert "18" in result.output


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_upscale_writes_and_sums_up(tmp_path, suffix):
    """The record begins inside a window and comes in uneven chunks."""
    start = np.timedelta64(5, "h")
    ds = make_dataset(shape=(101, 3, 4), kind="amount")
    for name in ("time", "time_bnds"):
        ds[name] = ds[name] + start
    ds.time.attrs["bounds"] = "time_bnds"
    source, target = _write(ds, tmp_path / "in.nc"), tmp_path / f"out.{suffix}"
    result = _xstsr(
        *("upscale", source, target, "--var", "pr", "-s", 3, "-t", 2),
        *("--method", "rainfarm", "--realizations", 2, "--seed", 5, "--json"),
    )
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[-1] == f"wrote {target}"
    told = json.loads(result.stdout)
    assert told["target"] == str(target)
    assert told["variable"] == "pr"
    assert told["sizes"] == {"realization": 2, "time": 202, "lat": 9, "lon": 12}
    assert told["bytes"] == 2 * 202 * 9 * 12 * 4
    assert (told["units"], told["method"], told["seed"]) == ("mm", "rainfarm", 5)
    engine = "netcdf4" if suffix == "nc" else "zarr"
    with xr.open_dataset(target, engine=engine) as fine:
        assert dict(fine.pr.sizes) == told["sizes"]
        back = fine.stsr.coarsen("pr", 3, 2)
        np.testing.assert_array_equal(back.time_bnds, ds.time_bnds)
        np.testing.assert_allclose(back.pr[0], ds.pr, rtol=1e-5)


def test_upscale_says_nothing_on_stdout_without_json(rain_file, tmp_path):
    target = tmp_path / "fine.zarr"
    result = _xstsr("upscale", rain_file, target, "-s", 2, "--method", "linear")
    assert result.exit_code == 0
    assert result.stdout == ""


def test_upscale_conserves_what_is_asked(rain_file, tmp_path):
    target = tmp_path / "fine.nc"
    options = ("--method", "linear", "--conserve", "none")
    assert _xstsr("upscale", rain_file, target, "-s", 2, *options).exit_code == 0
    with xr.open_dataset(target) as fine:
        assert fine.rainfall_amount.attrs["xstsr_conserve"] == "none"


def test_plan_prints_json(rain_file, no_compute):
    with no_compute():
        result = _xstsr(
            *("plan", rain_file, "-s", 3, "-t", 2, "--method", "rainfarm"),
            *("--realizations", 4, "--json"),
        )
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["shape"] == [4, 8, 18, 15]
    assert told["chunks"] == [[4], [8], [18], [15]]
    assert told["method"] == "rainfarm"
    assert told["factor"] == {"s": 3, "t": 2}


def test_plan_and_upscale_read_bounds(tmp_path):
    """The step of a single amount is known by its bounds alone."""
    ds = make_dataset(kind="amount", shape=(1, 3, 4), label="right")
    source = _write(ds, tmp_path / "one.nc")
    options = ("-s", 2, "-t", 4, "--method", "linear")
    planned = _xstsr("plan", source, *options)
    assert planned.exit_code == 0, planned.output
    assert "right of the step" in planned.stdout
    assert "60 min" in planned.stdout
    done = _xstsr("upscale", source, tmp_path / "out.nc", *options)
    assert done.exit_code == 0, done.output


def test_assumption_is_told_once_and_bad_metadata_exit_2(tmp_path):
    source = _write(make_dataset(cell_methods=None), tmp_path / "in.nc")
    command = ("upscale", source, tmp_path / "out.nc", "-s", 2)
    result = _xstsr(*command, "--method", "linear", "--json")
    assert result.exit_code == 0
    assert result.stderr.count("note: 'pr' has no cell_methods") == 1
    for method in ("time: maximum", "time: sum"):
        result = _xstsr(*command, "--cell-methods", method, "--overwrite")
        assert result.exit_code == 2
        assert result.stderr.startswith("xstsr: cannot refine 'pr': cell_methods say")
        assert result.stdout == ""


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_offered(method):
    assert method in _xstsr("upscale", "--help").output


def test_existing_target_is_refused_before_the_work(rain_file, tmp_path):
    target = tmp_path / "fine.nc"
    target.write_bytes(b"older")
    result = _xstsr("upscale", rain_file, target, "-s", 3)
    assert result.exit_code == 2
    assert "it exists" in result.stderr
    assert target.read_bytes() == b"older"


def test_bad_factor_writes_nothing(rain_file, tmp_path):
    result = _xstsr("upscale", rain_file, tmp_path / "fine.zarr", "-s", 0)
    assert result.exit_code == 2
    assert "s=0" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["rain.nc"]


def test_command_line_starts_without_torch_and_dask():
    code = (
        "import sys, xstsr.cli.main\n"
        "print(sorted({'torch', 'dask', 'matplotlib'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert done.stdout == "[]\n"


def test_train_hands_over_its_options(rain_file, tmp_path, monkeypatch):
    seen = {}

    def train(data, *, out, **options):
        seen.update(options, data=data, out=out)
        return out / "model.safetensors"

    monkeypatch.setattr("xstsr.training.train", train)
    run = tmp_path / "run"
    result = _xstsr("train", rain_file, "--out", run, "--minutes", 1, "-s", 3, "-s", 4)
    assert result.output == f"wrote {tmp_path / 'run' / 'model.safetensors'}\n"
    assert seen == {
        "config": None,
        "data": (rain_file,),
        "device": None,
        "devices": 1,
        "given": (),
        "minutes": 1.0,
        "name": None,
        "out": tmp_path / "run",
        "s": (3, 4),
        "start": None,
        "static": (),
        "t": (),
        "validation": (),
    }


def test_train_packs_without_training(rain_file, tmp_path):
    from xstsr.training.events import load_pack

    result = _xstsr("train", rain_file, "--pack", tmp_path / "pack.npz")
    assert result.exit_code == 0, result.output
    assert [e.name for e in load_pack(tmp_path / "pack.npz")] == ["rain"]
