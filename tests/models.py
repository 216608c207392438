"""Small models with random weights, every path of the real one; other methods."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from xstsr.diffusion.checkpoint import save_model
from xstsr.diffusion.model import Model, ModelSpec, Settings
from xstsr.diffusion.network import Architecture
from xstsr.methods import METHODS
from xstsr.methods.task import Task
from xstsr.typing import Array

TINY = Architecture(widths=(8, 16), blocks=1, temporal=(1,), window=2, embedding=16)
SPEC = ModelSpec(TINY, TINY, settings=Settings(steps=3))
NEURAL = [name for name, m in METHODS.items() if m.is_neural]
STOCHASTIC = [name for name, m in METHODS.items() if m.is_stochastic]
EVERY = replace(SPEC, generator=TINY)  # serves every method


def replace_draw(
    patch: pytest.MonkeyPatch, name: str, draw: Callable[[Task], Array]
) -> None:
    """Let a method draw in another way."""
    patch.setitem(METHODS, name, replace(METHODS[name], draw=draw))


def tiny_model(seed: int = 0, spec: ModelSpec = SPEC) -> Model:
    """A model whose every weight matters: none is left at its zero start."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Model(spec)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=draw)
            parameter.add_(0.15 * noise / max(1, parameter[0].numel()) ** 0.5)
    return model.requires_grad_(False).eval()


def write_tiny_model(folder: Path, seed: int = 0, spec: ModelSpec = EVERY) -> str:
    """Write a tiny model; returns its path as a name for ``model=``."""
    path = folder / f"tiny{seed}.safetensors"
    save_model(tiny_model(seed, spec), path, {"made for": "tests"})
    return str(path)
