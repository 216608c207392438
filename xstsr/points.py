r"""Instantaneous fields: what is known between two points in time.

A mean or a sum over a step can be split; a snapshot cannot. Between two snapshots the
coarse field is interpolated linearly in time, and each one, given or interpolated, is
then refined in space alone. So T snapshots become (T - 1) t + 1, every t-th at a time
that was given, with area means as given there; nothing is said beyond the last.
"""

from dataclasses import replace

import numpy as np
import xarray as xr

from xstsr.cf.coords import dequantify, refined
from xstsr.cf.meaning import Meaning


def interpolate_instants(
    da: xr.DataArray, meaning: Meaning, t: int
) -> tuple[xr.DataArray, Meaning]:
    """Interpolate snapshots in time.

    Parameters
    ----------
    da : DataArray
        Snapshots, T of them; chunked input stays lazy.
    meaning : Meaning
        Theirs.
    t : int
        Fine steps per coarse step.

    Returns
    -------
    tuple of DataArray and Meaning
        (T - 1) t + 1 snapshots, plain, with time, y and x last, and their meaning.

    Raises
    ------
    CFError
        There is a single snapshot, and ``t`` is not 1.
    """
    plain, _ = dequantify(da)
    data = plain.transpose(*meaning.extra_dims, *meaning.core_dims).data
    first, second = data[..., :-1, :, :], data[..., 1:, :, :]
    parts = [first] + [
        first * data.dtype.type(1 - j / t) + second * data.dtype.type(j / t)
        for j in range(1, t)
    ]
    steps = np.stack(parts, axis=-3)
    *lead, frames, _, rows, columns = steps.shape
    steps = steps.reshape(*lead, frames * t, rows, columns)
    values = np.concatenate([steps, data[..., -1:, :, :]], axis=-3)
    known = _until_the_last(refined(meaning, 1, t), frames * t + 1, t)
    dims = (*meaning.extra_dims, *meaning.core_dims)
    return xr.DataArray(values, dims=dims, name=da.name), known


def _until_the_last(fine: Meaning, frames: int, t: int) -> Meaning:
    """Drop what lies beyond the last snapshot, and say what was done."""
    coords = {
        name: variable.isel({fine.time_dim: slice(frames)}, missing_dims="ignore")
        for name, variable in fine.coords.items()
    }
    for name, variable in coords.items():
        variable.encoding = fine.coords[name].encoding
    note = (
        "values are instantaneous: between them the coarse field was interpolated "
        f"linearly to {t} times as many steps, and refined in space alone"
    )
    edges = fine.time_edges[: frames + 1]
    return replace(fine, time_edges=edges, coords=coords, notes=(*fine.notes, note))
