r"""The value spaces in which the networks work.

Rain spans four decades and is zero most of the time. In
:math:`z = \log(1 + r / r_0)` the residual of the conditional mean is close to normal
and of one size from drizzle to cloudburst. States, such as temperature, may be negative
and are rarely skewed: :math:`z = (x - c) / w` brings them to the size of 1.

A transform also says what follows from the kind of field: where anything is left to
chance, and how block means are met.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

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

    constraint: ClassVar[Literal["multiplicative"]] = "multiplicative"
    rest: ClassVar[float] = 0.0  # what stands for missing cells
    quantity: ClassVar[str] = "rain rate in mm h-1"

    def forward(self, rate: Tensor) -> Tensor:
        """Map rates [mm h-1], any shape, to z."""
        return torch.log1p(rate.clamp(min=0) / self.unit)

    def inverse(self, z: Tensor) -> Tensor:
        """Map z, any shape, to rates [mm h-1], with drizzle set to zero."""
        rate = self.unit * torch.expm1(z.clamp(min=0))
        return torch.where(rate < self.threshold, 0.0, rate)

    def is_open(self, coarse: Tensor) -> Tensor:
        """Tell which coarse cells leave something to chance: those with rain."""
        return coarse > 0


@dataclass(frozen=True)
class StateTransform:
    """The map z = (x - centre) / width for states, and back.

    Parameters
    ----------
    centre, width : float
        Mean and standard deviation of the training data, in their unit.
    units, standard_name : str
        What the model knows.
    """

    centre: float
    width: float
    units: str
    standard_name: str = ""

    constraint: ClassVar[Literal["additive"]] = "additive"

    @property
    def rest(self) -> float:
        """What stands for missing cells."""
        return self.centre

    @property
    def quantity(self) -> str:
        """The quantity and its unit."""
        return f"{self.standard_name or 'a state'} in {self.units or '1'}"

    def forward(self, value: Tensor) -> Tensor:
        """Map values, any shape, to z."""
        return (value - self.centre) / self.width

    def inverse(self, z: Tensor) -> Tensor:
        """Map z, any shape, to values."""
        return self.centre + self.width * z

    def is_open(self, coarse: Tensor) -> Tensor:
        """Tell which coarse cells leave something to chance: those with data."""
        return torch.isfinite(coarse)


Transform: TypeAlias = LogTransform | StateTransform


def read_transform(fields: Mapping[str, Any]) -> Transform:
    """Restore a transform from its fields, as a checkpoint's header holds them.

    Parameters
    ----------
    fields : mapping
        From `dataclasses.asdict`.
    """
    kind = StateTransform if "centre" in fields else LogTransform
    return kind(**fields)
