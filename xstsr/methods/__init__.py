r"""The methods of refinement: from a coarse window to a raw fine one.

Each method is one function of a `Task`; a new one is a function here and its name in
`METHODS`. What they give is raw: the pipeline blends windows and conserves the water.
Arrays only; torch is imported by the methods that need it, when they run.
"""

import math
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from xstsr.errors import CheckpointError, XstsrError
from xstsr.execution.cluster import current_client
from xstsr.geometry.globe import Globe
from xstsr.memory import BYTES_PER_PIXEL, BYTES_PER_PIXEL_AT_ONCE, evaluation_bytes
from xstsr.methods import baselines
from xstsr.methods.devices import batch_size, in_batches, turn
from xstsr.methods.recipe import Recipe
from xstsr.planning.tiling import Reach

if TYPE_CHECKING:
    from torch import Tensor

    from xstsr.diffusion.denoiser import Condition
    from xstsr.diffusion.model import Model
    from xstsr.diffusion.sampler import Fresh

    Sample = Callable[[Model, Condition, Fresh], Tensor]

Array = np.ndarray


@dataclass(frozen=True)
class Request:
    """What was asked for, the same for every window.

    Parameters
    ----------
    method : str
        A name in `METHODS`.
    factor : tuple of int
        (t, sy, sx).
    spacing_km, step_minutes : float
        Of the fine grid.
    recipe : Recipe
        beta, context and taper.
    realizations : tuple of int
        Which members of the ensemble; a single-valued method gives one field.
    seed : int
        Of the noise.
    model : str
        Name or absolute path of a checkpoint: it travels by reference.
    fingerprint : str
        The checkpoint's sha256, so that another file is not taken for it.
    steps : int or None
        Evaluations of the denoiser per sample; None where there is none.
    sampler : str or None
        A name in `SAMPLERS`, likewise.
    attends : bool
        Whether the generator has attention over frames, for which L counts.
    device : str
        Where networks run.
    salt : int
        Tells the networks' noise of one variable from that of another.
    globe : Globe or None
        How the coarse grid closes on itself.
    """

    method: str
    factor: tuple[int, int, int]
    spacing_km: float
    step_minutes: float
    recipe: Recipe
    realizations: tuple[int, ...] = (0,)
    seed: int = 0
    model: str = "default"
    fingerprint: str = ""
    steps: int | None = None
    sampler: str | None = None
    attends: bool = False
    device: str = "cpu"
    salt: int = 0
    globe: Globe | None = None

    @property
    def amplitude(self) -> float:
        """Amplitude of the noise over the rule's."""
        t, sy, sx = self.factor
        return self.recipe.amplitude((sy * sx) ** 0.5, t)

    @property
    def needs_mean(self) -> bool:
        """Whether the conditional mean is computed.

        The generator needs it only where the noise has another amplitude than the
        rule's.
        """
        if self.method == "generator":
            return self.amplitude != 1
        return self.method in NEURAL

    @property
    def bytes_per_pixel(self) -> int:
        """Memory that a network takes for a fine pixel."""
        return BYTES_PER_PIXEL if self.needs_mean else BYTES_PER_PIXEL_AT_ONCE

    @property
    def settings(self) -> dict[str, str | int | float]:
        """What decides on the result besides factor, model and seed, where it does.

        Returns
        -------
        dict
            The ``method``, and of ``steps``, ``sampler``, ``beta``, ``L`` and ``f``
            those that the method has used.
        """
        used: dict[str, str | int | float] = {"method": self.method}
        is_drawn = self.method == "diffusion" and self.amplitude > 0
        if is_drawn and self.steps is not None and self.sampler is not None:
            used |= {"steps": self.steps, "sampler": self.sampler}
        if self.needs_mean and self.method != "mean":
            used["beta"] = self.recipe.beta
        if self.needs_mean or self.attends:
            used["L"] = self.recipe.context
        if self.recipe.taper:
            used["f"] = str(self.recipe.taper)
        elif self.method in NEURAL:
            used["f"] = "none"
        return used


@dataclass(frozen=True)
class Task:
    """One window and tile of a request.

    Parameters
    ----------
    request : Request
        What was asked for.
    coarse : ndarray, shape (T, Y, X)
        Coarse values [mm h-1 for rain], NaN where there are none.
    times : ndarray, shape (T t,), int64
        Start of each fine step [us since 1970].
    origin : tuple of int
        Absolute place of the first fine pixel (y, x).
    stream : int
        Which of the fields along further dimensions.
    kept : tuple of slice, optional
        Coarse frames and cells whose result is of use: the others are context.
    known : ndarray, shape (G, K, T t or 1, Y sy, X sx), optional
        Fine fields that the model needs, for each realization or one for all.
    """

    request: Request
    coarse: Array
    times: Array
    origin: tuple[int, int] = (0, 0)
    stream: int = 0
    kept: tuple[slice, ...] = ()
    known: Array | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Fine shape (T t, Y sy, X sx)."""
        t, y, x = self.coarse.shape
        ft, fy, fx = self.request.factor
        return t * ft, y * fy, x * fx

    @property
    def globe(self) -> Globe | None:
        """How the fine grid closes on itself."""
        coarse = self.request.globe
        return coarse and coarse.refined(*self.request.factor[1:])


Method = Callable[[Task], Array]


def nearest(task: Task) -> Array:
    """Repeat each coarse value; shape (1, T t, Y sy, X sx)."""
    return baselines.nearest(task.coarse, task.request.factor)[None]


def linear(task: Task) -> Array:
    """Interpolate linearly in space and time; shape (1, T t, Y sy, X sx)."""
    return baselines.linear(task.coarse, task.request.factor)[None]


def rainfarm(task: Task) -> Array:
    """Draw space-time RainFARM fields; shape (R, T t, Y sy, X sx)."""
    return np.stack(
        [
            baselines.rainfarm(
                task.coarse,
                task.request.factor,
                seed=task.request.seed,
                realization=r,
                steps=task.times,
                stream=task.stream,
                turn=task.globe.turn if task.globe else 0,
            )
            for r in task.request.realizations
        ]
    )


def mean(task: Task) -> Array:
    """Estimate the conditional mean; shape (1, T t, Y sy, X sx)."""
    import torch

    if task.request.factor == (1, 1, 1):
        return nearest(task)
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
        return np.repeat(nearest(task), len(request.realizations), axis=0)
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


METHODS: dict[str, Method] = {
    "diffusion": diffusion,
    "generator": generator,
    "mean": mean,
    "linear": linear,
    "nearest": nearest,
    "rainfarm": rainfarm,
}
STOCHASTIC = ("diffusion", "generator", "rainfarm")
NEURAL = ("diffusion", "generator", "mean")
# what the others look at, for a factor; the recipe and the model tell for the networks
REACH: dict[str, Callable[[tuple[int, int, int]], Reach]] = {
    # the next cell; in time also of the frame that is blended
    "linear": lambda factor: Reach(2, max(factor[1:])),
    "nearest": lambda factor: Reach(0, 0),
    # beyond its reach, one frame that is blended; its noise is filtered in whole frames
    "rainfarm": lambda factor: Reach(baselines.RAINFARM_HALO + 1),
}


def check_method(name: str) -> None:
    """Refuse a name that is no method."""
    if name not in METHODS:
        raise XstsrError(
            f"cannot upscale with method={name!r}: choose one of {sorted(METHODS)}."
        )


def choose_device(device: str | None) -> str:
    """Name the device to run networks on: a GPU where there is one."""
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise XstsrError(
            f"cannot run on device={device!r}: there is no such kind. Pass 'cpu', "
            "'cuda' or 'cuda:1'."
        ) from error
    if wanted.type != "cuda" or current_client() is not None:
        return device  # a cluster's workers are asked before they write
    count = torch.cuda.device_count()
    if (wanted.index or 0) >= count:
        raise XstsrError(
            f"cannot run on device={device!r}: this torch ({torch.__version__}) sees "
            f"{count} GPUs. Pass device='cpu', or install a CUDA build of torch."
        )
    return device


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
