"""The numbers of a training run: what is read, and what is refused."""

from pathlib import Path

import pytest

import xstsr
from xstsr.errors import XstsrError
from xstsr.training.config import Config, Draw, read_config

TRAINING = Path(xstsr.__file__).parent / "training"


def test_config_is_read_from_toml(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(
        "residual_steps = 7\n[draw]\ns = [2, 4]\n[spec.mean]\nblocks = 1\n"
        '[card]\ntitle = "small"\n'
    )
    config, card = read_config(path)
    assert card == {"title": "small"}
    assert config.residual_steps == 7
    assert config.draw.s == (2, 4)
    assert config.spec.mean.blocks == 1
    assert config.mean_steps == Config().mean_steps


def test_config_of_the_default_model_is_the_default():
    config, card = read_config(TRAINING / "default.toml")
    assert config == Config()
    # what is measured is not written by hand
    assert not {"spacing_km", "step_minutes", "factors", "cost"} & set(card)


def test_specialist_differs_from_the_default_by_its_factor_alone():
    config, _ = read_config(TRAINING / "specialist.toml")
    assert config == Config(draw=Draw(s=(10,), t=(3,)))


def test_config_that_is_no_toml_is_refused(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("residual_steps: 7")
    with pytest.raises(XstsrError, match=r"bad\.toml.*Write it in TOML"):
        read_config(path)


def test_config_with_an_unknown_name_is_refused(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("[draw]\nfactor = 3\n")
    with pytest.raises(XstsrError, match=r"\['factor'\].*a Draw has"):
        read_config(path)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("fit_batches", 0, "whole number of 1 or more"),
        ("mean_steps", 10.5, "whole number of 0 or more"),
        ("residual_steps", -1, "whole number of 0 or more"),
        ("warmup", 0, "whole number of 1 or more"),
        ("validate_every", 0, "whole number of 1 or more"),
        ("seed", -1, "whole number of 0 or more"),
        ("rate", -1e-3, "number between 0 and inf"),
        ("rate", float("nan"), "number between 0 and inf"),
        ("rate", float("inf"), "number between 0 and inf"),
        ("decay", 1.5, "number between 0 and 1"),
        ("floor", "low", "number between 0 and 1"),
        ("sigma_mean", float("inf"), "number between -inf and inf"),
        ("precision", "8-bit", "choose one of"),
    ],
)
def test_impossible_number_is_refused(name, value, told):
    with pytest.raises(XstsrError, match=f"cannot train with {name}={value!r}.*{told}"):
        Config(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("side", 0, "whole number of 1 or more"),
        ("cells", 1.5, "whole number of 1 or more"),
        ("s", (), r"nothing could be drawn.*s = \[2, 3\]"),
        ("t", (2, 0), "whole number of 1 or more"),
        ("frames", (12.0,), "whole number of 1 or more"),
    ],
)
def test_impossible_draw_is_refused(name, value, told):
    with pytest.raises(XstsrError, match=f"cannot train with {name}=.*{told}"):
        Draw(**{name: value})
