"""The trust report: score a model on known fine fields, and say whether to trust it.

`evaluate` coarsens a field, upscales it again by every method and keeps, beside the
scores, what pictures are drawn from. The `Evaluation` prints as text, shows as a card
in Jupyter, and writes itself as a page (HTML with its pictures inside) or as a picture
(PNG). The rule by which it judges is that of `xstsr.evaluation.verdict`.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import xarray as xr

from xstsr import display
from xstsr.atomic import atomic_write
from xstsr.errors import DataError
from xstsr.evaluation import page
from xstsr.evaluation.page import Sheet
from xstsr.evaluation.protocol import (
    BASELINES,
    Protocol,
    Say,
    score_events,
    score_methods,
)
from xstsr.evaluation.recorder import Observer, Seen, judged_method
from xstsr.evaluation.verdict import Verdict, judge
from xstsr.factors import from_words, in_words, name_of, size_of
from xstsr.methods import find_method
from xstsr.methods.recipe import Recipe
from xstsr.planning.predictors import Known
from xstsr.plot.style import require_matplotlib
from xstsr.typing import Space

_MAKERS = {".html": page.html, ".png": page.png}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How well every method does at one factor on one known fine field.

    Parameters
    ----------
    name : str
        Of the field or the event.
    scores : Dataset
        One variable per score, with dim ``method``.
    seen : Seen
        Curves, example and receipt, for the pictures.
    protocol : Protocol
        How it was judged.

    Examples
    --------
    >>> import xstsr
    >>> rain = xstsr.open_demo().rainfall_amount[:6, :40, :30]
    >>> methods = ("rainfarm", "linear", "nearest")
    >>> evaluation = rain.stsr.evaluate(5, 3, realizations=2, methods=methods)
    >>> evaluation.where
    's=5, t=3 (10 km to 2 km, 15 min to 5 min)'
    >>> evaluation["fair_crps"].dims
    ('method',)
    """

    name: str
    scores: xr.Dataset
    seen: Seen
    protocol: Protocol

    @property
    def s(self) -> Space:
        """Factor in space; a pair where y and x differ."""
        return from_words(self.scores.attrs["s"])

    @property
    def t(self) -> int:
        """Factor in time."""
        return int(self.scores.attrs["t"])

    @property
    def method(self) -> str:
        """The method that is judged: diffusion, or the first that was asked for."""
        return judged_method(self.protocol)

    @property
    def where(self) -> str:
        """Factor, spacing and step, in words."""
        m, s, t = self.seen.meaning, self.s, self.t
        space = f"{m.spacing_km:.3g} km to {m.spacing_km / size_of(s):.3g} km"
        time = f"{_step(m.step_minutes)} to {_step(m.step_minutes / t)}"
        return f"s={in_words(s)}, t={t} ({space}" + (f", {time})" if t > 1 else ")")

    @property
    def table(self) -> dict[str, dict[str, float]]:
        """The scores by method and name."""
        return {
            str(method): {
                str(name): float(self.scores[name].sel({"method": method}))
                for name in self.scores.data_vars
            }
            for method in self.scores.method.values
        }

    @property
    def sheet(self) -> Sheet:
        """What the report prints."""
        return Sheet(
            self.name,
            self.where,
            self.basis,
            self.method,
            self.verdict,
            self.table,
            self.seen,
        )

    @property
    def verdict(self) -> Verdict:
        """Whether to trust the method here, by the rule of `judge`."""
        return judge(
            self.table,
            self.method,
            BASELINES,
            where=self.where,
            pixels=self.seen.pixels,
            is_rain=self.seen.meaning.kind != "state",
        )

    @property
    def lines(self) -> list[tuple[str, str]]:
        """What the card says, as pairs of label and value."""
        told = [("verdict", self.verdict.sentence)]
        for item in self.verdict.checks:
            words = {True: "holds", False: "fails", None: "not judged"}[item.passed]
            told.append((item.name, f"{words}: {item.told}"))
        crps = self.scores.fair_crps
        each = [
            f"{m} {float(v):.3g}"
            for m, v in zip(crps.method.values, crps.values, strict=True)
        ]
        told.append(("fair CRPS", f"{', '.join(each)} {self.seen.curves.units}"))
        told.append(("method", dict(self.seen.receipt).get("method", self.method)))
        told.append(("judged on", self.basis))
        return told

    @property
    def basis(self) -> str:
        """On how much the verdict rests."""
        kind = "pixels" if self.seen.meaning.kind == "state" else "wet pixels"
        count = self.protocol.realizations
        return f"{self.seen.pixels} {kind}, {count} realizations, model {_model(self)}"

    def __getitem__(self, score: str) -> xr.DataArray:
        """Take one score of all methods, ``evaluation["fair_crps"]``."""
        return self.scores[score]

    def to_html(self, path: str | Path) -> Path:
        """Write the report as one page with its pictures inside.

        Parameters
        ----------
        path : str or Path
            ``*.html``; an older one stays whole until the new one is.

        Returns
        -------
        Path
        """
        return write([self], path)

    def to_png(self, path: str | Path) -> Path:
        """Write the report as one picture, ``*.png``; see `to_html`."""
        return write([self], path)

    def __repr__(self) -> str:
        return display.text(f"Evaluation of {self.name!r}", self.lines)

    def _repr_html_(self) -> str:
        return display.html(f"Evaluation of {self.name}", self.lines)


def evaluate(
    da: xr.DataArray,
    s: Space,
    t: int = 1,
    *,
    protocol: Protocol | None = None,
    realizations: int | None = None,
    methods: Sequence[str] | None = None,
    seed: int | None = None,
    model: str | PathLike[str] | None = None,
    steps: int | None = None,
    sampler: str | None = None,
    recipe: Recipe | None = None,
    device: str | None = None,
    static: Known | None = None,
    given: Known | None = None,
) -> Evaluation:
    """Coarsen a fine field, upscale it again by every method, score, and judge.

    Parameters
    ----------
    da : DataArray
        Fine field, dims time, y and x; its sizes are cut to multiples of the factors.
    s, t : int
        Factors; for s also (y, x).
    protocol : Protocol, optional
        How to judge, all at once; by default eight realizations by every method.
    realizations, methods, seed, model, steps, sampler : optional
        Single choices, in place of the protocol's; as in `xstsr.upscale`.
    recipe, device, static, given : optional
        Likewise.

    Returns
    -------
    Evaluation
        ``.scores`` is the table as a Dataset, ``.verdict`` says whether to trust the
        model here, ``.to_html("report.html")`` writes the report.

    Raises
    ------
    DataError
        The field holds less than two coarse cells or steps.

    Examples
    --------
    >>> import xstsr
    >>> rain = xstsr.open_demo().rainfall_amount[:6, :40, :30]
    >>> methods = ("rainfarm", "linear", "nearest")
    >>> evaluation = rain.stsr.evaluate(s=5, t=3, realizations=4, methods=methods)
    >>> evaluation.verdict.headline
    'Use it with care'
    >>> evaluation.table["rainfarm"]["fair_crps"] < evaluation.table["linear"]["rmse"]
    True
    """
    choices: dict[str, Any] = {
        "realizations": realizations,
        "methods": None if methods is None else tuple(methods),
        "seed": seed,
        "model": None if model is None else os.fspath(model),
        "steps": steps,
        "sampler": sampler,
        "recipe": recipe,
        "device": device,
        "static": static,
        "given": given,
    }
    chosen = {name: value for name, value in choices.items() if value is not None}
    protocol = replace(protocol or Protocol(), **chosen)
    observer = Observer(protocol)
    scores = score_methods(da, s, t, protocol=protocol, watch=observer)
    name = str(da.attrs.get("long_name") or da.name)
    return Evaluation(name, scores, observer.seen(), protocol)


@dataclass(frozen=True, eq=False)
class Report:
    """Evaluations of several events at several factors.

    Parameters
    ----------
    scores : Dataset
        With dims (event, factor, method), from `score_events`.
    evaluations : tuple of Evaluation
        One for each event and factor.
    """

    scores: xr.Dataset
    evaluations: tuple[Evaluation, ...]


def evaluate_events(
    events: Iterable[tuple[str, xr.DataArray]],
    factors: Sequence[tuple[Space, int]],
    protocol: Protocol,
    say: Say = print,
) -> Report:
    """Score every method on the boxes of several events, and keep what is drawn.

    Parameters
    ----------
    events : iterable of (str, DataArray)
        Names and fine fields.
    factors : sequence of (s, t)
        Factors.
    protocol : Protocol
        How fields are judged.
    say : callable
        Takes a line per event and factor.

    Returns
    -------
    Report

    Examples
    --------
    >>> import xstsr
    >>> rain = xstsr.open_demo().rainfall_amount[:6, :40, :30]
    >>> methods = ("rainfarm", "linear", "nearest")
    >>> protocol = Protocol(realizations=2, methods=methods, side=30, frames=6)
    >>> report = evaluate_events([("Gothenburg", rain)], [(5, 3)], protocol, len)
    >>> report.scores.fair_crps.dims
    ('event', 'factor', 'method')
    """
    observers: dict[tuple[str, Space, int], Observer] = {}

    def watch(name: str, s: Space, t: int) -> Observer:
        return observers.setdefault((name, s, t), Observer(protocol))

    scores = score_events(events, factors, protocol, say, watch)
    made = []
    for (name, s, t), observer in observers.items():
        own = scores.sel({"event": name, "factor": name_of(s, t)}, drop=True)
        own.attrs = {"s": in_words(s), "t": t, "realizations": protocol.realizations}
        made.append(Evaluation(name, own, observer.seen(), protocol))
    return Report(scores, tuple(made))


def write(evaluations: Sequence[Evaluation], path: str | Path) -> Path:
    """Write a report of one evaluation or several.

    Parameters
    ----------
    evaluations : sequence of Evaluation
        One at least.
    path : str or Path
        ``*.html``, one page with its pictures inside, or ``*.png``.

    Returns
    -------
    Path
        Where the report is.

    Raises
    ------
    DataError
        The suffix is another, there is nothing to report, or the path cannot be
        written.
    PlotError
        Matplotlib is not installed.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import xstsr
    >>> rain = xstsr.open_demo().rainfall_amount[:6, :40, :30]
    >>> methods = ("rainfarm", "linear", "nearest")
    >>> evaluation = rain.stsr.evaluate(5, 3, realizations=2, methods=methods)
    >>> with TemporaryDirectory() as folder:
    ...     write([evaluation], f"{folder}/report.html").name
    'report.html'
    """
    path = Path(path)
    check_targets([path])
    if not evaluations:
        raise DataError(
            f"cannot write the report {str(path)!r}: there are no evaluations, "
            f"{list(evaluations)!r}. Evaluate something first."
        )
    made = _MAKERS[path.suffix.lower()]([one.sheet for one in evaluations])
    try:
        with atomic_write(path) as new:
            new.write_bytes(made)
    except OSError as error:
        raise DataError(
            f"cannot write the report {str(path)!r}: {error.strerror or error}. "
            "Choose a folder that you may write to."
        ) from error
    return path


def check_targets(paths: Iterable[Path]) -> None:
    """Refuse reports that cannot be drawn or written, before the work and not after it.

    Parameters
    ----------
    paths : iterable of Path
        ``*.html`` or ``*.png``.

    Raises
    ------
    DataError
        The suffix is another, or the folder cannot be written to.
    PlotError
        Matplotlib is not installed.
    """
    for path in paths:
        if path.suffix.lower() not in _MAKERS:
            raise DataError(
                f"cannot write the report {str(path)!r}: its suffix is "
                f"{path.suffix!r}. Name an .html or a .png file."
            )
        folder = next(p for p in path.absolute().parents if p.exists())
        if not (folder.is_dir() and os.access(folder, os.W_OK)):
            raise DataError(
                f"cannot write the report {str(path)!r}: {str(folder)!r} is no folder "
                "that can be written to. Choose a folder that you may write to."
            )
        require_matplotlib()


def _step(minutes: float) -> str:
    """Length of a step in words: "5 min", "3 h", "1 d"."""
    for size, unit in ((1440.0, "d"), (60.0, "h")):
        if minutes >= 2 * size or minutes == size:
            return f"{minutes / size:.3g} {unit}"
    return f"{minutes:.3g} min"


def _model(one: Evaluation) -> str:
    return (
        repr(Path(one.protocol.model).stem)
        if find_method(one.method).is_neural
        else "none"
    )
