"""The methods that need a network: the conditional mean, diffusion, the generator.

torch is imported when they run.
"""

import math
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from xstsr.errors import CheckpointError
from xstsr.memory import evaluation_bytes
from xstsr.methods import baselines
from xstsr.methods.devices import batch_size, in_batches, turn
from xstsr.methods.task import Reach, Request, Task
from xstsr.typing import Array

if TYPE_CHECKING:
    from torch import Tensor

    from xstsr.diffusion.denoiser import Condition
    from xstsr.diffusion.model import Model
    from xstsr.diffusion.sampler import Fresh

    Sample = Callable[[Model, Condition, Fresh], Tensor]

TILE_HALO = 30  # fine pixels: a cut further away changes a field by 0.3 % of its spread


def reach(request: Request) -> Reach:
    """Find how far the networks of a method look, from the header of the model."""
    from xstsr.diffusion.checkpoint import read_spec

    spec = read_spec(request.model)
    # beyond the reach of attention, one frame for the convolutions in time
    frames = request.recipe.context // 2 + 1
    stride = max(spec.mean.stride, spec.denoiser.stride)
    halo = max(TILE_HALO, stride)
    if not request.needs_mean:
        assert spec.generator is not None  # or the request was refused
        stride = spec.generator.stride
        halo = max(TILE_HALO, 3 * stride)
        if not spec.generator.temporal:
            frames = -(-spec.generator.frames // request.factor[0])
    return Reach(frames, halo, stride, request.bytes_per_pixel)


def mean(task: Task) -> Array:
    """Estimate the conditional mean; shape (1, T t, Y sy, X sx)."""
    import torch

    if task.request.factor == (1, 1, 1):
        return baselines.nearest(task.coarse, task.request.factor)[None]
    if _is_settled(task):
        return np.zeros((1, *task.shape), np.float32)
    with turn(task.request.device), torch.inference_mode():
        rate: Array = _condition(task)[1].means.rate[:, 0].cpu().numpy()
    return rate


def diffusion(task: Task) -> Array:
    """Draw residuals of the mean by diffusion; shape (R, T t, Y sy, X sx)."""

    def sample(model: "Model", condition: "Condition", noise: "Fresh") -> "Tensor":
        return model.sample(
            condition,
            noise(0),
            amplitude=task.request.amplitude,
            steps=task.request.steps,
            sampler=task.request.sampler,
            fresh=noise,
        )

    return _drawn(task, sample)


def generator(task: Task) -> Array:
    """Draw samples by the generator, in one evaluation; shape (R, T t, Y sy, X sx)."""

    def sample(model: "Model", condition: "Condition", noise: "Fresh") -> "Tensor":
        z = model.generate(condition, noise(0), task.request.amplitude)
        return model.spec.transform.inverse(z)

    return _drawn(task, sample)


def _drawn(task: Task, sample: "Sample") -> Array:
    """Draw the realizations of a task batch by batch; shape (R, T t, Y sy, X sx)."""
    import torch

    request = task.request
    if request.factor == (1, 1, 1):  # nothing is left to chance
        return np.repeat(
            baselines.nearest(task.coarse, request.factor)[None],
            len(request.realizations),
            axis=0,
        )
    drawn = np.zeros((len(request.realizations), *task.shape), np.float32)
    if _is_settled(task):
        return drawn
    if task.known is not None and len(task.known) > 1:
        pairs = zip(request.realizations, task.known[:, None], strict=True)
        return np.concatenate(
            [
                _drawn(
                    replace(task, request=replace(request, realizations=(r,)), known=k),
                    sample,
                )
                for r, k in pairs
            ]
        )
    with turn(request.device), torch.inference_mode():
        model, condition = _condition(task)
        if request.needs_mean:
            _ = condition.means  # once for all realizations

        def draw(batch: slice) -> None:
            noise = partial(_noise, task, request.realizations[batch])
            fields = sample(
                model, _repeated(condition, batch.stop - batch.start), noise
            )
            drawn[batch] = fields[:, 0].cpu().numpy()

        each = evaluation_bytes(math.prod(task.shape), request.bytes_per_pixel)
        in_batches(len(drawn), batch_size(request.device, len(drawn), each), draw)
    return drawn


def _is_settled(task: Task) -> bool:
    """Whether nothing is left to chance: no rain, or for states no data."""
    import torch

    from xstsr.diffusion.checkpoint import shared_model

    model = shared_model(task.request.model, task.request.device)
    own = torch.as_tensor(task.coarse[task.kept])
    return not model.spec.transform.is_open(own).any()


def _noise(task: Task, realizations: tuple[int, ...], draw: int) -> "Tensor":
    """White noise of one draw of a task; shape (R, 1, T t, Y sy, X sx)."""
    import torch

    from xstsr.diffusion.noise import normal

    fields = [
        normal(
            task.times,
            task.shape[1:],
            seed=task.request.seed ^ task.request.salt,
            realization=realization,
            stream=task.stream,
            draw=draw,
            origin=task.origin,
            globe=task.globe,
            device=task.request.device,
        )
        for realization in realizations
    ]
    return torch.stack(fields)[:, None]


def _repeated(known: Any, count: int) -> Any:
    """Repeat what is known for a batch of realizations, without copying it."""
    import torch

    if isinstance(known, torch.Tensor):
        return known.expand(count, *known.shape[1:])
    if not type(known).__module__.startswith("xstsr.diffusion"):
        return known
    twin = copy(known)
    for name, value in vars(known).items():
        object.__setattr__(twin, name, _repeated(value, count))
    return twin


def _condition(task: Task) -> "tuple[Model, Condition]":
    """Load the model and compute what does not depend on chance."""
    import torch

    from xstsr.diffusion.checkpoint import fingerprint, shared_model

    request = task.request
    if fingerprint(request.model) != request.fingerprint:
        raise CheckpointError(
            f"cannot run with {request.model!r}: its file has changed since the work "
            f"was planned (sha256 {request.fingerprint[:12]} then). Call upscale() "
            "again."
        )
    model = shared_model(request.model, request.device)

    def scalar(value: float) -> torch.Tensor:
        return torch.tensor([value], dtype=torch.float32, device=request.device)

    coarse_step = request.step_minutes * request.factor[0]
    condition = model.condition(
        torch.as_tensor(task.coarse, dtype=torch.float32, device=request.device)[None],
        request.factor,
        scalar(request.spacing_km),
        scalar(request.step_minutes),
        scalar(request.recipe.reach(coarse_step)),
        task.origin,
        known=None
        if task.known is None
        else torch.as_tensor(task.known, device=request.device),
    )
    return model, condition
