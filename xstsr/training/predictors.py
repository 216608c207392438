"""Known fine fields of training events: orography, or another variable of the event."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from xstsr.diffusion.features import KnownField, spread
from xstsr.errors import DataError, GridError
from xstsr.planning.predictors import Cells, Known, fields_of, on_cells


@dataclass(frozen=True)
class Layer:
    """A known field of an event.

    Parameters
    ----------
    name, units : str
        From the metadata; rain is in mm h-1.
    values : ndarray, shape (T, Y, X), or (1, Y, X) for a static field, float32
        NaN where there are none.
    timed : bool
        Whether it has a value for every step.
    is_rain : bool
        Whether it is a rate of rain.
    """

    name: str
    units: str
    values: np.ndarray
    timed: bool = False
    is_rain: bool = False

    @property
    def label(self) -> dict[str, Any]:
        """All but the values, as a pack's header holds it."""
        return {k: v for k, v in vars(self).items() if k != "values"}


def layers_on(
    cells: Cells, static: Sequence[Known], given: Sequence[Known]
) -> tuple[Layer, ...]:
    """Take the known fields that lie on the cells of an event.

    Parameters
    ----------
    cells : Cells
        Of the event.
    static, given : sequence of DataArray or Dataset
        The first of each that lies there is taken.

    Returns
    -------
    tuple of Layer
        Sorted by name.

    Raises
    ------
    DataError
        A field has no name.
    GridError
        None of them lies there.
    """
    if None in {name for source in (*static, *given) for name in fields_of(source)}:
        raise DataError(
            f"cannot train with static={len(static)} and given={len(given)} fields: "
            "one has no name, by which the model would ask for it. Name it: "
            'field.rename("orog").'
        )
    found = [*_first(cells, static, timed=False), *_first(cells, given, timed=True)]
    return tuple(sorted(found, key=lambda layer: layer.name))


def _first(cells: Cells, sources: Sequence[Known], *, timed: bool) -> list[Layer]:
    """Take the first source that lies on these cells."""
    for i, source in enumerate(sources):
        try:
            found = {
                str(name): on_cells(da, cells, timed=timed)
                for name, da in fields_of(source).items()
            }
        except GridError:
            if i + 1 == len(sources):
                raise
            continue
        return [
            Layer(name, one.units, one.values.values[0], timed, one.is_rain)
            for name, one in found.items()
        ]
    return []


def check_layers(events: Iterable[tuple[str, Sequence[Layer]]]) -> None:
    """Refuse events with other known fields than each other's.

    Parameters
    ----------
    events : iterable of (str, sequence of Layer)
        Their names and known fields.

    Raises
    ------
    DataError
        The fields differ in their names, units or kinds.
    """
    labels = {str([layer.label for layer in layers]): name for name, layers in events}
    if len(labels) > 1:
        told = ", ".join(f"{name!r} has {what}" for what, name in labels.items())
        raise DataError(
            f"cannot train with other known fields for each event: {told}. Give all "
            "events, also those of validation, the same ones in the same units."
        )


def fit_known(events: Iterable[Sequence[Layer]]) -> tuple[KnownField, ...]:
    """Describe the known fields of some events, which are alike.

    Parameters
    ----------
    events : iterable of sequence of Layer
        The known fields of each.

    Returns
    -------
    tuple of KnownField
        Centre and width are mean and standard deviation over all values.

    Raises
    ------
    DataError
        A field does not vary.
    """
    fields = []
    for layers in zip(*events, strict=True):
        first = layers[0]
        values = np.concatenate([layer.values.ravel() for layer in layers])
        centre, width = spread(torch.from_numpy(values), logged=first.is_rain)
        if not width > 1e-6 * abs(centre):
            raise DataError(
                f"cannot train with the known field {first.name!r}: its {values.size} "
                f"values are all {values[0]:g}. Leave it out, or pass one that varies."
            )
        fields.append(
            KnownField(
                first.name, first.units, centre, width, first.timed, first.is_rain
            )
        )
    return tuple(fields)
