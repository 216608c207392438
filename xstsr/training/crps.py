r"""The generator's loss: the fair CRPS of two draws, at several scales.

For a number :math:`y` and two draws :math:`x_1, x_2`,

.. math:: \tfrac12 \big(|x_1 - y| + |x_2 - y| - |x_1 - x_2|\big)

is smallest, on average, when the draws are distributed as :math:`y` is [1]_. Of a field
it is taken of many numbers: of averages over growing blocks, and of the differences
between neighbours in time, y and x. A field that is right pixel by pixel, but blobby,
grainy or flickering, is found out by these.

References
----------
.. [1] Gneiting and Raftery (2007), Strictly proper scoring rules, prediction, and
   estimation. doi:10.1198/016214506000001437.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

POOLS = ((1, 1), (1, 2), (1, 4), (2, 8))  # frames and pixels of a block
TEXTURE = 0.5  # weight of differences beside that of values


def crps_loss(first: Tensor, second: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Average the fair CRPS of two draws over all scales.

    Parameters
    ----------
    first, second, truth : Tensor, shape (B, 1, T, Y, X)
        Two draws and what they should resemble.
    weight : Tensor, shape (B, 1, T, Y, X)
        Of each pixel; 0 where there is no truth.

    Returns
    -------
    Tensor, shape ()
    """
    fields = torch.cat((first, second, truth))
    total = torch.zeros((), device=fields.device)
    for frames, pixels in POOLS:
        block = tuple(map(min, (frames, pixels, pixels), fields.shape[2:]))
        pooled, share = _pooled(fields, weight, block)
        total = total + _mean_score(pooled, share)
        for step, both in _differences(pooled, share):
            total = total + TEXTURE * _mean_score(step, both)
    return total / len(POOLS)


def _pooled(
    fields: Tensor, weight: Tensor, block: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Average blocks by weight; fields of shape (3 B, ...), weights of (B, ...)."""
    if max(block) == 1:
        return fields, weight
    share = functional.avg_pool3d(weight, block)
    given = weight.repeat(3, 1, 1, 1, 1)
    total = functional.avg_pool3d(fields * given, block)
    return total / share.clamp(min=1e-9).repeat(3, 1, 1, 1, 1), share


def _differences(fields: Tensor, weight: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Step from neighbour to neighbour along each axis that has any."""
    for axis in (2, 3, 4):
        n = fields.shape[axis] - 1
        if n:
            both = torch.minimum(weight.narrow(axis, 0, n), weight.narrow(axis, 1, n))
            yield fields.narrow(axis, 1, n) - fields.narrow(axis, 0, n), both


def _mean_score(fields: Tensor, weight: Tensor) -> Tensor:
    """Average the fair CRPS by weight."""
    first, second, truth = fields.chunk(3)
    error = (first - truth).abs() + (second - truth).abs()
    score = 0.5 * (error - (first - second).abs())
    mean: Tensor = (score * weight).sum() / weight.sum().clamp(min=1e-9)
    return mean
