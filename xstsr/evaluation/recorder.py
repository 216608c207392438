"""What an evaluation shows in passing: curves, a receipt and an example are kept.

`xstsr.evaluation.protocol.score_methods` throws every ensemble away once it is
scored. An `Observer` is shown each one before that, and keeps what the trust report is
made of.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr

from xstsr.cf.meaning import Meaning
from xstsr.conservation.balance import check
from xstsr.evaluation.protocol import Protocol
from xstsr.plot.panels import Column
from xstsr.plot.series import Series, load, read
from xstsr.typing import Floats
from xstsr.verification import diagnostics
from xstsr.verification.scores import WET
from xstsr.verification.spectra import spatial_spectrum, temporal_spectrum

_SPREAD_BINS = 10


@dataclass(frozen=True, eq=False)
class Seen:
    """What the report of one event and factor is made of, besides the scores.

    Parameters
    ----------
    curves : Curves
        What the pictures are drawn from.
    receipt : tuple of (str, str)
        The mass receipt of the method that is judged, as labels and values.
    example : tuple of Column
        Coarse, mean, one realization and truth at the wettest time.
    meaning : Meaning
        Of the coarse field.
    pixels : int
        Wet pixels and steps of the truth (all, where it is no rain).
    """

    curves: diagnostics.Curves
    receipt: tuple[tuple[str, str], ...]
    example: tuple[Column, ...]
    meaning: Meaning
    pixels: int


@dataclass(eq=False)
class Observer:
    """Keeps what the report draws of every box that is shown to it.

    Curves are averaged over boxes; the example and the receipt are the first box's.

    Parameters
    ----------
    protocol : Protocol
        How fields are judged.
    """

    protocol: Protocol
    pixels: int = 0
    units: str = ""
    meaning: Meaning | None = None
    receipt: tuple[tuple[str, str], ...] = ()
    example: tuple[Column, ...] = ()
    kept: dict[str, dict[str, list[Any]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def __call__(
        self,
        method: str,
        fine: xr.DataArray,
        coarse: xr.DataArray,
        truth: xr.DataArray,
    ) -> None:
        """Look at what one method has made of a box."""
        known = _hourly(truth, "truth")
        target = load([known.data])[0]
        made = _hourly(fine, method)
        ensemble = load([made.data])[0]
        if method == self.protocol.methods[0]:
            rough = _hourly(coarse, "coarse")
            self._see_box(known, target, rough)
        self._keep(method, ensemble, made)
        if method == judged_method(self.protocol):
            self._judge_box(method, ensemble, target[0], known)
            if not self.receipt:
                self.receipt = tuple(check(fine, coarse).lines)
                rough = _hourly(coarse, "coarse")
                fields = [("coarse", rough, load([rough.data])[0][0])]
                if len(ensemble) > 1:
                    fields += [("mean", made, ensemble.mean(axis=0))]
                title = "realization 0" if len(ensemble) > 1 else method
                fields += [(title, made, ensemble[0]), ("truth", known, target[0])]
                self.example = _example(fields, target[0])

    def seen(self) -> Seen:
        """Put together what was kept."""
        assert self.meaning is not None, "evaluate() shows every method"
        judged = judged_method(self.protocol)
        spread, error = _pair_mean(self.kept["spread"][judged])
        limits = 2 * self.meaning.spacing_km, 2 * self.meaning.step_minutes
        curves = diagnostics.Curves(
            self.units,
            {k: _pair_mean(v) for k, v in self.kept["space"].items()},
            {k: _pair_mean(v) for k, v in self.kept["time"].items()},
            limits,
            {k: np.mean(v, axis=0) for k, v in self.kept["exceedance"].items()},
            np.mean(self.kept["ranks"][judged], axis=0),
            spread,
            error,
        )
        return Seen(curves, self.receipt, self.example, self.meaning, self.pixels)

    def _see_box(self, known: Series, target: Floats, rough: Series) -> None:
        """Keep what is the same for all methods."""
        self.units, self.meaning = known.units, rough.meaning
        wet = np.isfinite(target)
        if known.meaning.kind != "state":
            wet &= np.nan_to_num(target) >= WET
        self.pixels += int(wet.sum())
        self._keep("truth", target, known)
        self._keep("coarse", load([rough.data])[0], rough, grid_only=True)

    def _judge_box(
        self, method: str, ensemble: Floats, truth: Floats, known: Series
    ) -> None:
        """Keep ranks and spread of the method that is judged."""
        threshold = None if known.meaning.kind == "state" else WET
        ranks = diagnostics.rank_histogram(ensemble, truth, threshold)
        self.kept["ranks"][method].append(ranks)
        if len(ensemble) > 1:
            pair = diagnostics.spread_error(ensemble, truth, _SPREAD_BINS)
            self.kept["spread"][method].append(pair)

    def _keep(
        self, name: str, fields: Floats, series: Series, *, grid_only: bool = False
    ) -> None:
        """Keep the mean curves of one source."""
        spacing, step = series.meaning.spacing_km, series.meaning.step_minutes
        space = [spatial_spectrum(one, spacing) for one in fields]
        time = [temporal_spectrum(one, step) for one in fields]
        self.kept["space"][name].append(_pair_mean(space))
        self.kept["time"][name].append(_pair_mean(time))
        if not grid_only:
            self.kept["exceedance"][name].append(diagnostics.exceedance(fields))


def judged_method(protocol: Protocol) -> str:
    """Tell which method is judged: diffusion, or the first that was asked for."""
    return "diffusion" if "diffusion" in protocol.methods else protocol.methods[0]


def _hourly(da: xr.DataArray, title: str) -> Series:
    """Read a field as the scores do: rain in mm h-1, however long its steps are."""
    series = read(da, title)
    return read(da, title, "mm h-1") if series.units == "mm d-1" else series


def _pair_mean(pairs: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Average pairs of arrays that have the same length; the shortest counts."""
    if not pairs:
        return np.zeros(0), np.zeros(0)
    size = min(len(x) for x, _ in pairs)
    xs, ys = zip(*((x[:size], y[:size]) for x, y in pairs), strict=True)
    return np.mean(xs, axis=0), np.mean(ys, axis=0)


def _example(
    fields: Sequence[tuple[str, Series, Floats]], truth: Floats
) -> tuple[Column, ...]:
    """Pick the wettest moment of the truth, shape (T, Y, X), in all fields."""
    step = int(np.nan_to_num(truth).mean(axis=(1, 2)).argmax())
    moment = fields[-1][1].moment(step)
    return tuple(
        # copies, because a view would keep the ensemble alive
        Column(
            title,
            replace(one, data=one.data[:1, :1].copy()),
            values[None, one.step_at(moment)].copy(),
        )
        for title, one, values in fields
    )
