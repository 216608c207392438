r"""The conditional mean: what is known of the fine field before chance.

For rain, one network and two means. The mean of the transformed field,
:math:`E[z | X]`, is what the residual diffusion starts from; the mean rain rate,
:math:`E[r | X]`, is the best single estimate in mm/h and serves ``method="mean"``. They
differ because the logarithm of a mean is not the mean of a logarithm. The mean rate
passes through the conservation constraint inside the network, as a multiplicative layer
(Harder et al. 2023).

For states, whose transform is linear, both are one mean, which passes through the
additive layer.
"""

import torch
from torch import Tensor, nn

from xstsr.diffusion.features import CHANNELS, Features, refine
from xstsr.diffusion.network import Architecture, SpaceTimeUNet
from xstsr.diffusion.transform import StateTransform, Transform
from xstsr.typing import Factor

_LEAST = 0.01  # mm/h: keeps the logarithm of a dry interpolated rate finite
_SWING = 6.0  # natural-log range in which the network may move a rate


class MeanNetwork(nn.Module):
    """Predict both conditional means of the fine field.

    Parameters
    ----------
    architecture : Architecture
        Widths and depths of the U-Net.
    transform : Transform
        The value space.
    known : int
        Number of known fine fields.
    """

    def __init__(
        self, architecture: Architecture, transform: Transform, known: int = 0
    ) -> None:
        super().__init__()
        self.transform = transform
        outputs = 1 if isinstance(transform, StateTransform) else 2
        self.network = SpaceTimeUNet(CHANNELS + known, outputs, 4, architecture)

    def forward(self, features: Features, coarse: Tensor, factor: Factor) -> "Means":
        """Predict the means.

        Parameters
        ----------
        features : Features
            On the fine grid (T t, Y sy, X sx).
        coarse : Tensor, shape (B, T, Y, X)
            Coarse rates [mm h-1], where NaN counts as dry, or states.
        factor : tuple of int
            (t, sy, sx).

        Returns
        -------
        Means
        """
        out = self.network([features.maps], features.scalars, features)
        if isinstance(self.transform, StateTransform):
            state = features.rate + self.transform.width * out
            state = add(state, coarse, factor)
            return Means(self.transform.forward(state) * features.wet, state)
        z = features.interpolated + out[:, :1]
        swing = _SWING * torch.tanh(out[:, 1:] / _SWING)
        weight = (features.rate + _LEAST) * torch.exp(swing)
        return Means(z * features.wet, multiply(weight, coarse, factor))


class Means:
    """The two conditional means on the fine grid.

    Parameters
    ----------
    z : Tensor, shape (B, 1, T, Y, X)
        Mean of the transformed field; 0 in dry or missing coarse cells.
    rate : Tensor, shape (B, 1, T, Y, X)
        Mean rate [mm h-1] or state; its block means equal the coarse field.
    """

    def __init__(self, z: Tensor, rate: Tensor) -> None:
        self.z = z
        self.rate = rate


def multiply(weight: Tensor, coarse: Tensor, factor: Factor) -> Tensor:
    r"""Spread each coarse cell's water over its block in proportion to a weight.

    .. math:: r = w \, P / \overline{w}

    Parameters
    ----------
    weight : Tensor, shape (B, 1, T t, Y sy, X sx)
        Positive.
    coarse : Tensor, shape (B, T, Y, X)
        Block means to be met; NaN counts as 0.
    factor : tuple of int
        (t, sy, sx).

    Returns
    -------
    Tensor, shape of `weight`
    """
    b, t, y, x = coarse.shape
    ft, fy, fx = factor
    blocks = weight.reshape(b, t, ft, y, fy, x, fx)
    gain = torch.nan_to_num(coarse) / blocks.mean(dim=(2, 4, 6)).clamp(min=1e-12)
    return weight * refine(gain, factor)[:, None]


def add(field: Tensor, coarse: Tensor, factor: Factor) -> Tensor:
    r"""Shift each block of a field so that its mean is the coarse cell's value.

    .. math:: x + P - \overline{x}

    Parameters
    ----------
    field : Tensor, shape (B, 1, T t, Y sy, X sx)
        Any values.
    coarse : Tensor, shape (B, T, Y, X)
        Block means to be met; blocks of NaN stay as they are.
    factor : tuple of int
        (t, sy, sx).

    Returns
    -------
    Tensor, shape of `field`
    """
    b, t, y, x = coarse.shape
    ft, fy, fx = factor
    blocks = field.reshape(b, t, ft, y, fy, x, fx)
    shift = torch.nan_to_num(coarse - blocks.mean(dim=(2, 4, 6)))
    return field + refine(shift, factor)[:, None]
