"""Pictures of refined fields: what they look like, and how they score.

Each function gives a matplotlib figure, and is a method of ``da.stsr.plot`` too.
"""

from xstsr.plot.animation import animate
from xstsr.plot.panels import compare, side_by_side
from xstsr.plot.statistics import rank_histogram, receipt, spectra, spread
from xstsr.plot.style import RAIN_LEVELS, PlotError

__all__ = [
    "RAIN_LEVELS",
    "PlotError",
    "animate",
    "compare",
    "rank_histogram",
    "receipt",
    "side_by_side",
    "spectra",
    "spread",
]
