"""A module in the place of esmpy, so that the real xesmf can be imported without ESMF.

It holds arrays and knows nothing of geometry: its weights are those it was given.
"""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np


class Grid:
    """As much of a grid as xesmf asks for."""

    def __init__(self, max_index, staggerloc, coord_sys, num_peri_dims):
        self.max_index = np.asarray(max_index)
        self.num_peri_dims, self.periodic_dim = num_peri_dims or 0, None
        self.mask = [None]
        self.size = {0: self.max_index}
        self.coords = {0: [np.zeros(self.max_index) for _ in range(2)]}

    @property
    def has_corners(self):
        return 3 in self.coords

    def add_coords(self, staggerloc):
        self.coords[staggerloc] = [np.zeros(self.max_index + 1) for _ in range(2)]

    def get_coords(self, coord_dim, staggerloc):
        return self.coords[staggerloc][coord_dim]

    def destroy(self):
        """Keep what was told, for the tests to look at."""


class Field:
    """A grid with room for data."""

    def __init__(self, grid, ndbounds=None):
        self.grid, self.finalized = grid, False

    def destroy(self):
        self.finalized = True


class Regrid(Field):
    """Weights that were laid down in `links`, whatever the grids."""

    links: tuple[np.ndarray, np.ndarray, np.ndarray]

    def __init__(self, srcfield, dstfield, **options):
        super().__init__(None)
        self.srcfield, self.dstfield, self.options = srcfield, dstfield, options
        Regrid.last = self

    def get_weights_dict(self, deep_copy=False):
        row, column, part = self.links
        return {"row_dst": row, "col_src": column, "weights": part}


class Mesh:
    """Never made."""


class LocStream:
    """Never made."""


def install(monkeypatch):
    """Put this module in the place of esmpy, for one test; return the real xesmf."""
    fake = ModuleType("esmpy")
    for thing in (Grid, Field, Regrid, Mesh, LocStream):
        setattr(fake, thing.__name__, thing)
    names = {
        "StaggerLoc": {"CENTER": 0, "CORNER": 3},
        "MeshLoc": {"ELEMENT": 1, "NODE": 0},
        "CoordSys": {"SPH_DEG": 1},
        "GridItem": {"MASK": 1},
        "NormType": {"DSTAREA": 0, "FRACAREA": 1},
        "UnmappedAction": {"IGNORE": 1},
        "RegridMethod": dict.fromkeys(
            ("BILINEAR", "CONSERVE", "PATCH", "NEAREST_STOD", "NEAREST_DTOS"), 0
        ),
        "ExtrapMethod": dict.fromkeys(("NEAREST_IDAVG", "NEAREST_STOD"), 0),
    }
    for name, values in names.items():
        setattr(fake, name, SimpleNamespace(**values))
    fake.api = SimpleNamespace(locstream=SimpleNamespace(LocStream=LocStream))
    fake.__version__ = "8.6.0"
    monkeypatch.setitem(sys.modules, "esmpy", fake)
    for name in [n for n in sys.modules if n.partition(".")[0] == "xesmf"]:
        monkeypatch.delitem(sys.modules, name)
    return fake
