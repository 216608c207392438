r"""The scale-adaptive recipe: what changes with the factor, and by which rule.

The paper [1]_ keeps one architecture for every factor and retunes three numbers:
beta, the amplitude of the noise; L, the number of coarse frames of context; and f, the
taper of the mass-conservation transform. The published values lie on smooth curves in
(s, t); the functions here are those curves, and reproduce them.

beta and L are applied by default. f is not: the networks here nearly conserve, so that
extremes need no curb; `taper_rule` gives the paper's. Each of the three can be chosen.

References
----------
.. [1] Defez et al. (2026), A scale-adaptive framework for joint spatiotemporal
   super-resolution with diffusion models. arXiv 2604.21903.
"""

import math
from dataclasses import dataclass
from typing import Any

from xstsr import display
from xstsr.errors import FactorError, XstsrError

MAX_FRAMES = 18  # fine frames within reach of each other in training
# mm h-1 that count as 1 in the paper's f: about where its rain was cut off, through a
# slip of units (inferred from its code)
REFERENCE = 5.5
# how the offset of f grows: exactly the paper's 0.02 at (10, 3) and 0.04 at (25, 6)
_GROWTH = math.log(2) / math.log(
    math.log(25) * math.log(6) / math.log(10) / math.log(3)
)


@dataclass(frozen=True)
class Taper:
    r"""The paper's f: what fine rates go through before each cell gets its water back.

    .. math:: f(r) = r_0 \max\big((r / r_0)^p - c, 0\big)

    A power below 1 brings extremes closer to the rest, an offset removes drizzle. The
    reference is a fixed rate, where the paper takes the maximum of its data: one taken
    from the window at hand would make a result depend on how the work is cut.

    Parameters
    ----------
    power : float
        p, above 0; 1 is linear.
    offset : float
        c, 0 or more.
    reference : float
        r0 [mm h-1].

    Examples
    --------
    >>> Taper(power=0.5, offset=0.1, reference=4.0)(1.0)
    1.6
    >>> bool(Taper())  # the identity
    False
    """

    power: float = 1.0
    offset: float = 0.0
    reference: float = REFERENCE

    def __post_init__(self) -> None:
        if not (
            0 < self.power < math.inf
            and 0 <= self.offset < math.inf
            and 0 < self.reference < math.inf
        ):
            raise XstsrError(
                f"cannot use {self}: the power and the reference are above 0, the "
                "offset is 0 or more. Taper() leaves rates as they are."
            )

    def __bool__(self) -> bool:
        """Tell whether it changes anything."""
        return self.power != 1 or self.offset != 0

    def __call__(self, rate: Any) -> Any:
        """Taper rates [mm h-1] of any shape, none of them negative."""
        if not self:
            return rate
        share = (rate / self.reference) ** self.power - self.offset
        return self.reference * (share * (share > 0))


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


def taper_rule(s: float, t: float, reference: float = REFERENCE) -> Taper:
    r"""Give the paper's f, carried from its four points to every factor.

    It takes max(sqrt(x) - 0.01, 0) at (10, 1) and (1, 3), max(x - 0.02, 0) at (10, 3)
    and max(x - 0.04, 0) at (25, 6), with x the rain over its maximum. All four follow
    from :math:`q = \ln s \ln t / (\ln 10 \ln 3)`, which is 0 where one axis alone is
    refined, 1 at (10, 3) and 2.28 at (25, 6):

    .. math:: p = \min(1, (1 + q) / 2), \qquad c = 0.01 \cdot 2^{q^{0.841}}

    Parameters
    ----------
    s, t : float
        Factors in space and time.
    reference : float
        The rate that counts as x = 1 [mm h-1].

    Examples
    --------
    >>> taper_rule(10, 3)
    Taper(power=1.0, offset=0.02, reference=5.5)
    """
    _check_factors(s, t)
    q = math.log(s) * math.log(t) / (math.log(10) * math.log(3))
    return Taper(min(1.0, (1 + q) / 2), 0.01 * 2**q**_GROWTH, reference)


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
    taper : Taper or float
        f, through which fine rates go before conservation; the identity by default. A
        number is a rate [mm h-1] by which they are reduced, not below zero.

    Examples
    --------
    >>> from dataclasses import replace
    >>> rule = Recipe.for_factors(10, 3, step=15.0)
    >>> wider = replace(rule, beta=1.5 * rule.beta)
    >>> wider.amplitude(10, 3)
    1.5
    """

    beta: float
    context: int
    taper: Taper | float = Taper()

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
        if not isinstance(self.taper, Taper):
            if not 0 <= self.taper < math.inf:
                raise XstsrError(
                    f"cannot use a recipe with taper={self.taper!r}: it is a Taper, or "
                    "a rate in mm h-1, zero or more. Pass taper=0 for none."
                )
            object.__setattr__(self, "taper", Taper(1.0, self.taper / REFERENCE))

    @classmethod
    def for_factors(cls, s: float, t: int, *, step: float) -> "Recipe":
        """Apply the paper's rule for beta and L; `taper_rule` is the one for f.

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
        _check_factors(s, t)
        if not 0 < step < math.inf:
            raise FactorError(
                f"cannot find a recipe for step={step!r}: the coarse step is some "
                "minutes. Pass the time between two coarse frames."
            )
        return cls(beta_rule(s, t), context_rule(s, t, step))

    def amplitude(self, s: float, t: int) -> float:
        """Noise amplitude over the rule's, which the network was trained for."""
        return self.beta / beta_rule(s, t)

    def reach(self, step: float) -> float:
        """Minutes that a frame sees to either side, for a coarse step in minutes."""
        return 0.5 * self.context * step

    @property
    def lines(self) -> list[tuple[str, str]]:
        """What the card says, as pairs of label and value."""
        taper = f"{self.taper}" if self.taper else "none"
        return [
            ("beta", f"{self.beta:.3g}, the amplitude of the noise"),
            ("L", f"{self.context} coarse frames that see each other"),
            ("f", f"{taper}, before conservation"),
        ]

    def __str__(self) -> str:
        return display.text("Recipe", self.lines)

    def _repr_html_(self) -> str:
        return display.html("Recipe", self.lines)

    def tapered(self, rate: Any) -> Any:
        """Pass rates [mm h-1] of any shape through the taper."""
        assert isinstance(self.taper, Taper)
        return self.taper(rate)


def _check_factors(s: float, t: float) -> None:
    """Refuse factors below 1."""
    if not (1 <= s < math.inf and 1 <= t < math.inf):
        raise FactorError(
            f"cannot find a recipe for s={s!r}, t={t!r}: factors are 1 or more. Pass "
            "those that you give to upscale()."
        )
