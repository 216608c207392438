"""Static fine fields: what stays as it is while it rains, such as orography.

A model that was trained with static fields sees them on the fine grid, pixel by pixel,
beside what it knows of the coarse field. Its spec names them, so that they cannot be
left out or mixed up.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class StaticField:
    """A static field as the networks see it: (value - centre) / width.

    Parameters
    ----------
    name : str
        What it is called, such as ``"orog"``.
    units : str
        Of its values; empty where it has none.
    centre, width : float
        Mean and standard deviation of the training data, in these units.
    """

    name: str
    units: str
    centre: float
    width: float


def static_maps(fields: Sequence[StaticField], values: Tensor, frames: int) -> Tensor:
    """Lay static fields under every frame.

    Parameters
    ----------
    fields : sequence of StaticField
        K of them.
    values : Tensor, shape (B, K, Y, X)
        In their units; what is not finite counts as their mean.
    frames : int
        T.

    Returns
    -------
    Tensor, shape (B, K, T, Y, X)
    """
    centre, width = (
        torch.tensor(
            [getattr(f, key) for f in fields], dtype=values.dtype, device=values.device
        )[:, None, None]
        for key in ("centre", "width")
    )
    known = torch.where(torch.isfinite(values), (values - centre) / width, 0.0)
    return known[:, :, None].expand(-1, -1, frames, -1, -1)
