r"""The value space in which the networks work.

Rain spans four decades and is zero most of the time. In
:math:`z = \log(1 + r / r_0)` the residual of the conditional mean is close to normal
and of one size from drizzle to cloudburst.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LogTransform:
    """The map z = log(1 + r / r0) for non-negative fields, and back.

    Parameters
    ----------
    unit : float
        r0 in mm h-1, about the least rain that a radar tells from none.
    threshold : float
        Fine values below this [mm h-1] are dry.
    """

    unit: float = 0.1
    threshold: float = 0.05

    def forward(self, rate: Tensor) -> Tensor:
        """Map rates [mm h-1], any shape, to z."""
        return torch.log1p(rate.clamp(min=0) / self.unit)

    def inverse(self, z: Tensor) -> Tensor:
        """Map z, any shape, to rates [mm h-1], with drizzle set to zero."""
        rate = self.unit * torch.expm1(z.clamp(min=0))
        return torch.where(rate < self.threshold, 0.0, rate)
