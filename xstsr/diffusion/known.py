"""Known fine fields: orography, or another variable that was refined first.

A model that was trained with such fields sees them on the fine grid, pixel by pixel,
beside what it knows of the coarse field. Static ones stay as they are while it rains;
given ones have values of their own in every fine step, and may differ between
realizations: what is drawn for one variable, given the other, makes both a draw of
their joint distribution.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

DRIZZLE = 0.1  # mm/h: rain is given as log(1 + r / DRIZZLE)


@dataclass(frozen=True)
class KnownField:
    """A known fine field as the networks see it: (value - centre) / width.

    Parameters
    ----------
    name : str
        What it is called, such as ``"orog"``.
    units : str
        Of its values; empty where it has none.
    centre, width : float
        Mean and standard deviation of the training data, in these units; for rain, of
        its logarithm.
    timed : bool
        Whether it has values for every fine step.
    logged : bool
        Whether it is rain [mm h-1].
    """

    name: str
    units: str
    centre: float
    width: float
    timed: bool = False
    logged: bool = False


def known_maps(fields: Sequence[KnownField], values: Tensor, frames: int) -> Tensor:
    """Lay known fields out as the networks see them.

    Parameters
    ----------
    fields : sequence of KnownField
        K of them.
    values : Tensor, shape (B, K, T, Y, X), or with one frame for all
        In their units; what is not finite counts as their mean.
    frames : int
        T.

    Returns
    -------
    Tensor, shape (B, K, T, Y, X)
    """
    maps = []
    for i, field in enumerate(fields):
        value = values[:, i]
        seen = torch.log1p(value.clamp(min=0) / DRIZZLE) if field.logged else value
        normal = (seen - field.centre) / field.width
        maps.append(torch.where(torch.isfinite(value), normal, 0.0))
    stacked = torch.stack(maps, dim=1)
    return stacked.expand(-1, -1, frames, -1, -1)


def spread(values: Tensor, *, logged: bool) -> tuple[float, float]:
    """Mean and standard deviation of finite values, or of their logarithm for rain."""
    finite = values[torch.isfinite(values)].double()
    seen = torch.log1p(finite.clamp(min=0) / DRIZZLE) if logged else finite
    if not len(seen):
        return math.nan, 0.0
    return float(seen.mean()), float(seen.std(correction=0))
