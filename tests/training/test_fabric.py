"""Several processes train as one that sees all their batches."""

from dataclasses import replace
from importlib import import_module

import pytest
import torch
from torch.multiprocessing.spawn import ProcessRaisedException

from tests.training.test_fit import CONFIG, DRAW, event, field
from xstsr.diffusion.checkpoint import load_model, read_header
from xstsr.errors import XstsrError
from xstsr.training import fabric as door
from xstsr.training import train
from xstsr.training.events import decode, read_events
from xstsr.training.fabric import launch, open_fabric
from xstsr.training.loop import Run
from xstsr.training.losses import mean_loss, residual_loss
from xstsr.training.patches import draw_batch

EXACT = replace(CONFIG, precision="32-true", mean_steps=2, residual_steps=2, rate=1e-4)


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one_with_both_batches(tmp_path):
    da = field(decode(event(0).codes)[:, 3:])
    events = read_events([da])
    path = train(da, tmp_path / "two", config=EXACT, devices=2, device="cpu", say=str)
    run = Run(EXACT, tmp_path / "one", open_fabric("cpu", precision="32-true"))

    def of_both(_):
        step = run.step
        batches = [draw_batch(events, 0, step, DRAW, rank) for rank in (0, 1)]

        def loss(model):
            if step < EXACT.mean_steps:
                parts = [mean_loss(model, batch, EXACT) for batch in batches]
            else:
                parts = [
                    residual_loss(model, batch, EXACT, step, rank)
                    for rank, batch in enumerate(batches)
                ]
            return sum(parts) / 2

        return loss

    run._loss = of_both
    run.go(events, report=lambda line: None)
    two = torch.load(tmp_path / "two" / "state.pt", weights_only=True)["average"]
    fresh = Run(EXACT, tmp_path / "fresh").average.state_dict()
    off = moved = 0.0
    for name, value in run.average.state_dict().items():
        off += float((two[name] - value).abs().sum())
        moved += float((fresh[name] - value).abs().sum())
    assert off < 1e-3 * moved
    card = read_header(path)["card"]
    factors = {
        draw_batch(events, 0, i, DRAW, r).factor for i in range(4) for r in (0, 1)
    }
    assert card["s"] == sorted({f[1] for f in factors})
    assert [device[:7] for device in card["cost"]] == ["2 x cpu"]
    assert load_model(path).spec == EXACT.spec
    # the first process alone has written
    log = (tmp_path / "two" / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log] == ["4"]


def test_training_without_fabric_says_what_to_install(tmp_path, monkeypatch):
    def missing(name):
        if "lightning" in name:
            raise ModuleNotFoundError(name)
        return import_module(name)

    monkeypatch.setattr(door, "import_module", missing)
    da = field(decode(event(0).codes)[:, 3:])
    with pytest.raises(XstsrError, match=r"cannot train.*pip install 'xstsr\[train\]'"):
        train(da, tmp_path, config=CONFIG)


@pytest.mark.parametrize("count", [0, -1])
def test_impossible_number_of_devices_is_refused(count):
    with pytest.raises(XstsrError, match=f"devices={count}: it is a whole number"):
        open_fabric("cpu", count)


def test_one_named_device_is_not_two():
    with pytest.raises(XstsrError, match=r"devices=2 with device='cpu:0'.*'cpu'"):
        open_fabric("cpu:0", 2)


def test_more_devices_than_there_are_are_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(XstsrError, match=r"devices=2: this torch sees 1 GPUs"):
        open_fabric("cuda", 2)


def test_notebooks_are_sent_to_the_command_line(monkeypatch):
    class Fabric:
        def __init__(self, **choices):
            raise RuntimeError("not compatible with an interactive environment.")

    monkeypatch.setattr("lightning_fabric.Fabric", Fabric)
    with pytest.raises(XstsrError, match=r"devices=2: not compatible.*xstsr train"):
        open_fabric("cpu", 2)


def test_function_that_cannot_travel_is_refused(tmp_path):
    da = field(decode(event(0).codes)[:, 3:])
    with pytest.raises(XstsrError, match=r"on 2 devices with say=<function.*module"):
        train(da, tmp_path, config=CONFIG, devices=2, device="cpu", say=lambda line: 0)


def test_failed_process_is_told_in_one_line():
    class Broken:
        world_size = 2

        def launch(self, work):
            raise ProcessRaisedException("Traceback\n  ...\nDataError: too dry.", 0, 1)

    with pytest.raises(XstsrError, match=r"2 processes.*DataError: too dry\. Give"):
        launch(Broken(), print)
