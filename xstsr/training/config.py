"""All numbers of a training run, checked, and the file that holds them."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from xstsr.diffusion.model import ModelSpec
from xstsr.errors import XstsrError

HELD_OUT_S = (7, 13, 20)  # never trained on: "any factor" is to be shown, not said
HELD_OUT_T = (5,)
PRECISIONS = ("bf16-mixed", "32-true")


@dataclass(frozen=True)
class Draw:
    """How examples are drawn.

    Parameters
    ----------
    s, t : tuple of int
        Factors to train on; those for which no event is large enough are left out.
    pixels : int
        Fine pixels per batch, about.
    side : int
        Fine pixels along a crop, about; large factors take `cells` coarse cells, and
        small events what they have.
    cells : int
        Least number of coarse cells along a crop.
    frames : tuple of int
        Numbers of fine frames to draw from, about.
    coarsening, stride : tuple of int
        Factors by which the event is first averaged in space and in time.

    Raises
    ------
    XstsrError
        A number is not whole, or below 1.
    """

    s: tuple[int, ...] = tuple(s for s in range(1, 26) if s not in HELD_OUT_S)
    t: tuple[int, ...] = tuple(t for t in range(1, 7) if t not in HELD_OUT_T)
    pixels: int = 240_000
    side: int = 96
    cells: int = 6
    frames: tuple[int, ...] = (12, 12, 12, 18)
    coarsening: tuple[int, ...] = (1, 1, 1, 1, 2, 2, 3, 4)
    stride: tuple[int, ...] = (1, 1, 1, 2, 2, 3, 6)

    def __post_init__(self) -> None:
        for name in ("pixels", "side", "cells"):
            _check_whole(name, getattr(self, name), least=1)
        for name in ("s", "t", "frames", "coarsening", "stride"):
            values = getattr(self, name)
            if not values:
                raise XstsrError(
                    f"cannot train with {name}={values!r}: nothing could be drawn. "
                    f"List some whole numbers, as {name} = [2, 3]."
                )
            for value in values:
                _check_whole(name, value, least=1)


@dataclass(frozen=True)
class Config:
    """All numbers of a training run.

    Parameters
    ----------
    spec : ModelSpec
        What to train. For states its transform is replaced by one that is fitted to the
        training data.
    draw : Draw
        How examples are drawn.
    mean_steps, residual_steps, generator_steps : int
        Length of the three stages. The first cannot be left out, but for fine-tuning.
    rate, floor : float
        Learning rate of AdamW at its peak, and the share of it that is left at the end
        of a stage.
    warmup : int
        Steps until the peak.
    decay : float
        Of the exponential moving average of the weights.
    rain_weight : float
        Weight of the mean rain rate's loss beside that of the mean of z.
    emphasis : float
        Errors of z count by (rate + 0.1 mm/h) to this power: at 0 drizzle, which is
        nearly everywhere, takes most of the training; at 1 cloudbursts do. The rate
        is the interpolated coarse one, so that the minimum stays where it was. States
        have no emphasis.
    sigma_mean, sigma_slope, sigma_spread : float
        ln sigma ~ N(mean + slope ln(s sqrt t), spread): large factors hold large
        structures, which only large noise hides.
    fit_batches : int
        Batches to whose residuals sigma_data is fitted, between the stages.
    validate_every : int
        Steps between two validations, where there are validation data.
    precision : str
        ``"bf16-mixed"``, or ``"32-true"`` for single precision throughout.
    seed : int
        Of weights, examples and noise.

    Raises
    ------
    XstsrError
        A number is of another type, or outside its range.
    """

    spec: ModelSpec = field(default_factory=ModelSpec)
    draw: Draw = field(default_factory=Draw)
    mean_steps: int = 2200
    residual_steps: int = 8600
    generator_steps: int = 0
    rate: float = 1e-3
    floor: float = 0.02
    warmup: int = 100
    decay: float = 0.999
    rain_weight: float = 0.2
    emphasis: float = 0.5
    sigma_mean: float = -0.6
    sigma_slope: float = 0.3
    sigma_spread: float = 1.5
    fit_batches: int = 64
    validate_every: int = 500
    precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("warmup", "fit_batches", "validate_every"):
            _check_whole(name, getattr(self, name), least=1)
        for name in ("mean_steps", "residual_steps", "generator_steps", "seed"):
            _check_whole(name, getattr(self, name), least=0)
        for name in ("floor", "decay"):
            _check_number(name, getattr(self, name), 0.0, 1.0)
        for name in ("rate", "rain_weight", "emphasis", "sigma_spread"):
            _check_number(name, getattr(self, name), 0.0, math.inf)
        for name in ("sigma_mean", "sigma_slope"):
            _check_number(name, getattr(self, name), -math.inf, math.inf)
        if str(self.precision) not in PRECISIONS:
            raise XstsrError(
                f"cannot train with precision={self.precision!r}: choose one of "
                f"{list(PRECISIONS)}."
            )


def read_config(path: Path) -> tuple[Config, dict[str, Any]]:
    """Read a training configuration and a model card from TOML.

    What the file does not name stays as in `Config`.

    Parameters
    ----------
    path : Path
        A file such as ``residual_steps = 20000`` with tables ``[draw]`` and ``[card]``.

    Returns
    -------
    tuple of Config and dict

    Raises
    ------
    XstsrError
        It is no TOML, or names something that a configuration does not have.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise XstsrError(
            f"cannot read the configuration {str(path)!r}: {error}. Write it in TOML, "
            "as residual_steps = 20000."
        ) from error
    card = given.pop("card", {})
    return _updated(Config(), given, str(path)), card


def _updated(base: Any, given: Mapping[str, Any], where: str) -> Any:
    """Replace fields of a nested dataclass by those of a mapping."""
    known = {f.name for f in fields(base)}
    if unknown := sorted(set(given) - known):
        raise XstsrError(
            f"cannot use {unknown} in {where!r}: a {type(base).__name__} has "
            f"{sorted(known)}."
        )
    values = {
        key: _updated(getattr(base, key), value, where)
        if isinstance(value, dict)
        else tuple(value)
        if isinstance(value, list)
        else value
        for key, value in given.items()
    }
    return replace(base, **values)


def _check_whole(name: str, value: object, *, least: int) -> None:
    """Refuse what is no whole number, or too small."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise XstsrError(
            f"cannot train with {name}={value!r}: it is a whole number of {least} or "
            "more."
        )


def _check_number(name: str, value: object, low: float, high: float) -> None:
    """Refuse what is no finite number between two others."""
    number = value if isinstance(value, int | float) else math.nan
    if not (low <= number <= high and math.isfinite(number)):
        raise XstsrError(
            f"cannot train with {name}={value!r}: it is a number between {low:g} and "
            f"{high:g}."
        )
