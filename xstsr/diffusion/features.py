r"""What the networks see of the coarse field.

Everything is laid out on the fine grid as (batch, channel, time, y, x), so that frames
are an axis and every factor gives tensors of the same form. Seven channels:

0. z of the coarse field, block-constant
1. z of the coarse field, interpolated
2. 1 where the coarse cell holds data
3. 1 where the coarse cell leaves something to chance: where it holds rain, for a dry
   cell is dry throughout; for states, where it holds data
4. - 6. the phase inside the block in time, y and x, from -1 to 1

After these come known fine fields, for models that were trained with some: orography,
or another variable that was refined first. Static ones stay as they are while it rains;
given ones have values of their own in every fine step, and may differ between
realizations: what is drawn for one variable, given the other, makes both a draw of
their joint distribution.

Scalars travel beside them: (log s, log t, log spacing, log step).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from xstsr.diffusion.transform import Transform
from xstsr.typing import Factor

CHANNELS = 7
DRIZZLE = 0.1  # mm/h: rain is given as log(1 + r / DRIZZLE)


@dataclass(frozen=True)
class Features:
    """The networks' view of a batch of coarse windows.

    Parameters
    ----------
    maps : Tensor, shape (B, 7 + K, T, Y, X)
        The channels above, on the fine grid.
    scalars : Tensor, shape (B, 4)
        log s, log t, log of the fine spacing [km] and of the fine step [min].
    rate : Tensor, shape (B, 1, T, Y, X)
        The interpolated coarse rate [mm h-1], or state in its unit.
    horizon : Tensor, shape (B,)
        Reach of the temporal attention to either side [min].
    origin : tuple of int
        Absolute place of the first pixel (y, x), to which the networks align their
        levels and windows.
    """

    maps: Tensor
    scalars: Tensor
    rate: Tensor
    horizon: Tensor
    origin: tuple[int, int] = (0, 0)

    @property
    def wet(self) -> Tensor:
        """1 where something is left to chance; shape (B, 1, T, Y, X)."""
        return self.maps[:, 3:4]

    @property
    def interpolated(self) -> Tensor:
        """The interpolated coarse field as z; shape (B, 1, T, Y, X)."""
        return self.maps[:, 1:2]

    @property
    def step(self) -> Tensor:
        """The fine step in minutes; shape (B,)."""
        return self.scalars[:, 3].exp()


def scalars_of(factor: Factor, spacing: Tensor, step: Tensor) -> Tensor:
    """Gather the scalars that condition the networks; shape (B, 4).

    Parameters
    ----------
    factor : tuple of int
        (t, sy, sx).
    spacing, step : Tensor, shape (B,)
        Fine spacing in km and fine step in minutes.
    """
    t, sy, sx = factor
    size = torch.full_like(spacing, 0.5 * math.log(sy * sx))
    return torch.stack(
        (size, torch.full_like(size, math.log(t)), spacing.log(), step.log()), dim=1
    )


def features(
    coarse: Tensor,
    factor: Factor,
    spacing: Tensor,
    step: Tensor,
    horizon: Tensor,
    transform: Transform,
    origin: tuple[int, int] = (0, 0),
    known: Tensor | None = None,
) -> Features:
    """Lay the coarse field out on the fine grid.

    Parameters
    ----------
    coarse : Tensor, shape (B, T, Y, X)
        Coarse rates [mm h-1] or states, NaN where there are no data.
    factor : tuple of int
        (t, sy, sx).
    spacing, step, horizon : Tensor, shape (B,)
        Fine spacing [km], fine step and attention horizon [min].
    transform : Transform
        The value space.
    origin : tuple of int
        Absolute place of the first fine pixel.
    known : Tensor, shape (B, K, T t, Y sy, X sx), optional
        From `known_maps`.

    Returns
    -------
    Features
        On the fine grid of shape (T t, Y sy, X sx).
    """
    valid = torch.isfinite(coarse)
    excess = torch.where(valid, coarse - transform.rest, 0.0)
    smooth = interpolate(excess, valid, factor) + transform.rest
    layers = (
        refine(transform.forward(excess + transform.rest), factor),
        transform.forward(smooth),
        refine(valid.to(coarse.dtype), factor),
        refine(transform.is_open(coarse).to(coarse.dtype), factor),
        *_phases(coarse, factor),
    )
    maps = torch.stack(layers, dim=1)
    return Features(
        maps if known is None else torch.cat((maps, known), dim=1),
        scalars_of(factor, spacing, step),
        smooth[:, None],
        horizon,
        origin,
    )


def refine(coarse: Tensor, factor: Factor) -> Tensor:
    """Repeat each coarse cell over its block; (B, T, Y, X) to the fine shape."""
    b, t, y, x = coarse.shape
    ft, fy, fx = factor
    blocks = coarse[:, :, None, :, None, :, None].expand(b, t, ft, y, fy, x, fx)
    return blocks.reshape(b, t * ft, y * fy, x * fx)


def interpolate(filled: Tensor, valid: Tensor, factor: Factor) -> Tensor:
    """Interpolate linearly between cell centres, leaving cells without data out.

    Parameters
    ----------
    filled : Tensor, shape (B, T, Y, X)
        Coarse values with zeros where `valid` is false.
    valid : Tensor, shape (B, T, Y, X)
        Where there are data.

    Returns
    -------
    Tensor, of the fine shape
    """

    def lines(field: Tensor) -> Tensor:
        # one axis at a time: trilinear, and 1-cell axes need no special case
        fine = _stretch(
            _stretch(_stretch(field, 1, factor[0]), 2, factor[1]), 3, factor[2]
        )
        return fine

    if bool(valid.all()):
        return lines(filled)
    weight = lines(valid.to(filled.dtype))
    return torch.where(weight > 0, lines(filled) / weight.clamp(min=1e-6), 0.0)


def _stretch(field: Tensor, axis: int, n: int) -> Tensor:
    """Refine one axis n times by linear interpolation between centres."""
    if n == 1:
        return field
    lead = field.movedim(axis, -1)
    flat = lead.reshape(1, -1, lead.shape[-1])
    fine = functional.interpolate(flat, scale_factor=n, mode="linear")
    return fine.reshape(*lead.shape[:-1], -1).movedim(-1, axis)


def _phases(coarse: Tensor, factor: Factor) -> list[Tensor]:
    """Where in its block each pixel lies; three maps of the fine shape."""
    b, *cells = coarse.shape
    fine = [n * f for n, f in zip(cells, factor, strict=True)]
    maps = []
    for axis, (n, f) in enumerate(zip(cells, factor, strict=True)):
        ramp = (torch.arange(f, device=coarse.device) + 0.5) * (2 / f) - 1
        view = [1, 1, 1, 1]
        view[axis + 1] = n * f
        maps.append(ramp.to(coarse.dtype).repeat(n).view(view).expand(b, *fine))
    return maps


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
