r"""The methods of refinement: from a coarse window to a raw fine one.

To add a method, write a function of a `Task` that gives raw fields, and enter it in
`METHODS` and in `Name`. What it gives is blended and conserved by who calls it.

- `task`: what a method is asked for, and how far it looks
- `baselines`: nearest, conserving linear and RainFARM, on arrays
- `neural`: the conditional mean, diffusion, the generator
- `devices`: one network at a time on a device, within its memory
- `recipe`: beta, L and f

Arrays only; torch is imported by the methods that need it, when they run. Stands on
`verification`, below `planning`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from xstsr.errors import XstsrError
from xstsr.methods import baselines, neural
from xstsr.methods.task import Reach, Request, Task
from xstsr.typing import Array

Name: TypeAlias = Literal[
    "diffusion", "generator", "mean", "rainfarm", "linear", "nearest"
]


@dataclass(frozen=True)
class Method:
    """One way from a coarse window to a raw fine one.

    Parameters
    ----------
    draw : callable
        Takes a task and gives raw fields, shape (R, T t, Y sy, X sx).
    reach : callable
        Takes a request and says how far the method looks.
    is_stochastic : bool
        Whether it draws realizations; otherwise R is 1.
    is_neural : bool
        Whether it needs a checkpoint.
    """

    draw: Callable[[Task], Array]
    reach: Callable[[Request], Reach]
    is_stochastic: bool = False
    is_neural: bool = False


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


METHODS: dict[Name, Method] = {
    "diffusion": Method(
        neural.diffusion, neural.reach, is_stochastic=True, is_neural=True
    ),
    "generator": Method(
        neural.generator, neural.reach, is_stochastic=True, is_neural=True
    ),
    "mean": Method(neural.mean, neural.reach, is_neural=True),
    "rainfarm": Method(
        rainfarm,
        # beyond its reach, one frame that is blended; its noise is filtered in whole
        # frames
        lambda request: Reach(baselines.RAINFARM_HALO + 1),
        is_stochastic=True,
    ),
    # the next cell; in time also of the frame that is blended
    "linear": Method(linear, lambda request: Reach(2, max(request.factor[1:]))),
    "nearest": Method(nearest, lambda request: Reach(0, 0)),
}


def find_method(name: str) -> Method:
    """Find a method by its name.

    Raises
    ------
    XstsrError
        There is none of this name.
    """
    for known, method in METHODS.items():
        if name == known:
            return method
    raise XstsrError(
        f"cannot upscale with method={name!r}: choose one of {sorted(METHODS)}."
    )
