"""Checkpoints come back as they were, and say what is wrong with them if not."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.models import EVERY, tiny_model, write_tiny_model
from xstsr.diffusion import checkpoint
from xstsr.diffusion.checkpoint import (
    available,
    fingerprint,
    load_model,
    read_header,
    save_model,
    shared_model,
)
from xstsr.errors import CheckpointError


@pytest.fixture
def path(tmp_path):
    return write_tiny_model(tmp_path)


def test_model_comes_back_in_half_precision(path):
    before, after = tiny_model(spec=EVERY).state_dict(), load_model(path).state_dict()
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert after[name].dtype == torch.float32
        assert torch.allclose(value, after[name], rtol=1e-3, atol=1e-6)
    assert load_model(path).spec == EVERY


def test_model_is_loaded_once_and_again_when_its_file_changes(path, tmp_path):
    first = shared_model(path)
    assert shared_model(path) is first
    save_model(tiny_model(seed=1), tmp_path / "tiny0.safetensors", {})
    assert shared_model(path) is not first


def test_model_is_loaded_once_by_many_threads(path):
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(lambda _: shared_model(path), range(16)))
    assert all(model is loaded[0] for model in loaded)


def test_loaded_model_is_your_own(path):
    with torch.inference_mode():
        shared_model(path)
    mine = load_model(Path(path)).requires_grad_(True)
    assert mine is not shared_model(path)
    assert not next(shared_model(path).parameters()).requires_grad


def test_header_holds_the_card(path):
    assert read_header(path)["card"] == {"made for": "tests"}


def test_fingerprint_tells_files_apart(path, tmp_path):
    assert len(fingerprint(path)) == 64
    assert fingerprint(path) != fingerprint(write_tiny_model(tmp_path, seed=1))


def test_writing_leaves_no_side_file(path, tmp_path):
    assert [p.name for p in tmp_path.iterdir()] == ["tiny0.safetensors"]


def test_failed_writing_keeps_the_last_good_file(path, tmp_path, monkeypatch):
    before = fingerprint(path)

    def full(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CheckpointError, match=r"tiny0\.safetensors.*no space left"):
        save_model(tiny_model(1), tmp_path / "tiny0.safetensors", {})
    assert fingerprint(path) == before


def test_bundled_model_is_there_and_small():
    assert "default" in available()
    found = checkpoint.find("default")
    assert found.stat().st_size < 20e6
    assert read_header("default")["card"]["training data"]


def test_unknown_name_is_refused():
    with pytest.raises(CheckpointError, match=r"model 'nonesuch'.*\['default'\]"):
        load_model("nonesuch")


def test_truncated_file_is_refused(path, tmp_path):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((tmp_path / "tiny0.safetensors").read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors.*truncated"):
        load_model(str(cut))


def test_foreign_file_is_refused(tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file({"w": torch.zeros(2)}, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"not one that xstsr.*\['format'\]"):
        load_model(str(path))


def rewrite(path, tmp_path, change, tensors=None):
    """Write a copy of a checkpoint with a changed header."""
    header = json.loads(json.dumps(read_header(path)))
    change(header)
    target = tmp_path / "changed.safetensors"
    weights = tensors or dict(tiny_model().state_dict())
    save_file(weights, target, metadata={"xstsr": json.dumps(header)})
    return str(target)


def test_other_format_is_refused(path, tmp_path):
    other = rewrite(path, tmp_path, lambda h: h.update(format=99))
    with pytest.raises(CheckpointError, match=r"its format is 99.*reads 1"):
        load_model(other)


def test_unknown_architecture_is_refused(path, tmp_path):
    other = rewrite(path, tmp_path, lambda h: h["spec"]["mean"].update(depth=3))
    with pytest.raises(CheckpointError, match=r"cannot build the model.*depth"):
        load_model(other)


def test_unknown_sampler_is_refused(path, tmp_path):
    other = rewrite(path, tmp_path, lambda h: h["spec"]["settings"].update(sampler="x"))
    with pytest.raises(CheckpointError, match="cannot build the model"):
        load_model(other)


def test_damaged_header_is_refused(tmp_path):
    path = tmp_path / "damaged.safetensors"
    save_file({"w": torch.zeros(2)}, path, metadata={"xstsr": "{"})
    with pytest.raises(CheckpointError, match="cannot read the header"):
        load_model(path)


def test_weights_of_another_architecture_are_refused(path, tmp_path):
    other = rewrite(path, tmp_path, lambda h: h["spec"]["mean"].update(widths=[8, 24]))
    with pytest.raises(CheckpointError, match="do not fit the architecture"):
        load_model(other)
