r"""The scale-adaptive recipe: what changes with the factor, and by which rule.

The paper [1]_ keeps one architecture for every factor and retunes three numbers:
beta, the amplitude of the noise; L, the number of coarse frames of context; and f, the
taper of the mass-conservation transform. The published beta and L lie on smooth curves
in (s, t); the functions here are those curves, and reproduce them. The taper is off by
default: it was tuned for fields far from conserving, in units of their own maximum.

References
----------
.. [1] Defez et al. (2026), A scale-adaptive framework for joint spatiotemporal
   super-resolution with diffusion models. arXiv 2604.21903.
"""

import math
from dataclasses import dataclass
from typing import Any

from xstsr.errors import FactorError, XstsrError

MAX_FRAMES = 18  # fine frames within reach of each other in training


def beta_rule(s: float, t: float) -> float:
    """Amplitude of the paper's noise schedule: larger for larger factors.

    Gives 0.010, 0.015, 0.020 and 0.035 at (10, 1), (1, 3), (10, 3) and (25, 6).
    """
    return float(0.0075 * s**0.125 * t**0.631)


def horizon_rule(s: float, t: float) -> float:
    """Hours of context: 10, 12, 15 and 19 at the paper's factors (it has 18 there)."""
    return 7.0 + 1.30 * math.log(s) + 4.55 * math.log(t)


def context_rule(s: float, t: int, step: float) -> int:
    """Coarse frames of context for a coarse step in minutes.

    The horizon in hours is held, as far as the network has seen so many frames; at
    least the frame itself and its two neighbours.

    Gives the paper's 10, 4, 5 and 3 at its four factors with hourly fine steps.
    """
    frames = round(horizon_rule(s, t) * 60.0 / step)
    return max(3, min(frames, MAX_FRAMES // t))


@dataclass(frozen=True)
class Recipe:
    """The three numbers that adapt the model to a factor.

    Parameters
    ----------
    beta : float
        Amplitude of the noise, on the paper's scale. Twice the rule's value doubles
        the standard deviation from which residuals are drawn: more spread.
    context : int
        L, coarse frames that see each other, the frame itself included.
    taper : float
        Fine rates are reduced by this [mm h-1], not below zero, before conservation:
        the paper's f. 0 leaves them as they are.
    """

    beta: float
    context: int
    taper: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.beta < math.inf:
            raise XstsrError(
                f"cannot use a recipe with beta={self.beta!r}: the noise amplitude is "
                "zero or more. Recipe.for_factors(s, t, step=...) gives the rule's."
            )
        if not (self.context >= 1 and self.context % 1 == 0):
            raise XstsrError(
                f"cannot use a recipe with context={self.context!r}: it counts coarse "
                "frames, 1 or more. Recipe.for_factors(s, t, step=...) does it."
            )
        object.__setattr__(self, "context", int(self.context))  # 4.0 counts as 4
        if not 0 <= self.taper < math.inf:
            raise XstsrError(
                f"cannot use a recipe with taper={self.taper!r}: it is a rate in mm "
                "h-1, zero or more. Pass taper=0 for none."
            )

    @classmethod
    def for_factors(cls, s: float, t: int, *, step: float) -> "Recipe":
        """Apply the paper's rule.

        Parameters
        ----------
        s, t : int
            Factors in space and time.
        step : float
            Coarse time step in minutes.

        Examples
        --------
        >>> Recipe.for_factors(10, 3, step=180.0).context
        5
        """
        if s < 1 or t < 1 or not step > 0:
            raise FactorError(
                f"cannot find a recipe for s={s!r}, t={t!r}, step={step!r}: factors "
                "are 1 or more, and the coarse step is some minutes. Pass the factors "
                "that you give to upscale()."
            )
        return cls(beta_rule(s, t), context_rule(s, t, step))

    def amplitude(self, s: float, t: int) -> float:
        """Noise amplitude over the rule's, which the network was trained for."""
        return self.beta / beta_rule(s, t)

    def reach(self, step: float) -> float:
        """Minutes that a frame sees to either side, for a coarse step in minutes."""
        return 0.5 * self.context * step

    def tapered(self, rate: Any) -> Any:
        """Reduce rates [mm h-1] of any shape by the taper, not below zero."""
        return (rate - self.taper).clip(0.0)
