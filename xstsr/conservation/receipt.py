"""The mass receipt: how much water refinement has made or lost, cell by cell."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xstsr import display
from xstsr.cf.meaning import Meaning


@dataclass(frozen=True, eq=False)
class Receipt:
    """How much water each coarse cell has gained or lost in refinement.

    Parameters
    ----------
    dataset : Dataset
        ``residual`` (fine minus coarse), ``coarse`` and ``area``; for rates and amounts
        ``water``, the residual summed over a step. Its attributes are those of the
        fine field that say how it was made.
    meaning : Meaning
        Of the coarse field.

    Examples
    --------
    >>> import xstsr
    >>> coarse = xstsr.open_demo().rainfall_amount[:6, :40, :30].stsr.coarsen(5, 3)
    >>> receipt = coarse.stsr.upscale(5, 3, method="linear").stsr.check(coarse)
    >>> receipt.relative < 1e-5, receipt.lost
    (True, 0)
    """

    dataset: xr.Dataset
    meaning: Meaning

    @property
    def largest(self) -> float:
        """Largest absolute residual, in the coarse field's units."""
        return float(np.abs(self.dataset.residual).max())

    @property
    def rms(self) -> float:
        """Root of the mean squared residual, in the coarse field's units."""
        return float(np.sqrt((self.dataset.residual**2).mean()))

    @property
    def relative(self) -> float:
        """Largest residual over its own cell's value, where that is not 0."""
        value = np.abs(self.dataset.coarse)
        least = 1e-6 * float(value.max())
        share = (np.abs(self.dataset.residual) / value).where(value > least)
        return float(share.max()) if bool(share.notnull().any()) else 0.0

    @property
    def lost(self) -> int:
        """Cells that hold data in the coarse field and none in the fine one."""
        gone = self.dataset.coarse.notnull() & self.dataset.residual.isnull()
        return int(gone.sum())

    @property
    def lines(self) -> list[tuple[str, str]]:
        """What the receipt says, as pairs of label and value."""
        units = self.meaning.units
        told = [
            ("cells", f"{int(self.dataset.coarse.notnull().sum())} with data"),
            ("cells without fine data", str(self.lost)),
            ("largest residual", f"{self.largest:.3g} {units}"),
            ("rms residual", f"{self.rms:.3g} {units}"),
            ("largest relative residual", f"{self.relative:.1e}"),
        ]
        if made := made_by(self.dataset.attrs):
            told.insert(0, ("method", made))
        if self.meaning.kind != "state":
            gained, unit = self.dataset.water, self.dataset.water.attrs["units"]
            most = float(np.abs(gained).max())
            told.append(("largest in a step", f"{most:.3g} {unit}"))
            coarse, fine = self._water()
            place = [label for label, _ in told].index("cells without fine data")
            told.insert(place, ("water in", f"{coarse:.6g} kg"))
            told.insert(place + 1, ("water out", f"{fine:.6g} kg"))
        return told

    def _water(self) -> tuple[float, float]:
        """Total water of both fields in kg, the mean over realizations for the fine."""
        data = self.dataset
        column = depth_of_unit(self.meaning) * data.area
        coarse = float((data.coarse * column).sum())
        # a cell without fine data has lost all that it held
        residual = data.residual.fillna(-data.coarse)
        gained = (residual * column).sum(list(self.meaning.core_dims))
        return coarse, coarse + float(gained.mean())

    def __repr__(self) -> str:
        return display.text(f"Mass receipt of {self.meaning.name!r}", self.lines)

    def _repr_html_(self) -> str:
        return display.html(f"Mass receipt of {self.meaning.name}", self.lines)


def made_by(attrs: Mapping[str, Any]) -> str:
    """Say by which method a field was made, and how, from its attributes.

    Examples
    --------
    >>> made_by({"xstsr_method": "mean", "xstsr_L": 5, "xstsr_f": "none"})
    'mean, L=5, f=none'
    >>> made_by({})
    ''
    """
    method = attrs.get("xstsr_method")
    if method is None:
        return ""
    keys = ("steps", "sampler", "beta", "L", "f")
    used = {key: attrs.get(f"xstsr_{key}") for key in keys}
    words = (
        f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in used.items()
        if value is not None
    )
    return ", ".join([str(method), *words])


def depth_of_unit(meaning: Meaning) -> xr.DataArray:
    """Find the depth of water in mm, that is kg m-2, that one unit means in each step.

    Parameters
    ----------
    meaning : Meaning
        Of a rate or an amount.

    Returns
    -------
    DataArray, shape (T,)
    """
    unit = "kg m-2" if "kg" in meaning.units else "mm"
    depth = meaning.rate_factor * meaning.step_hours()
    return xr.DataArray(depth, dims=meaning.time_dim, attrs={"units": unit})
