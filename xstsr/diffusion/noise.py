r"""Standard normal noise as a pure function of where and when it falls.

A random field drawn in sequence depends on how the work was cut: another chunk,
another number. Here every value is a function of (seed, realization, time, y, x), so
windows, tiles, processes and devices that meet share the noise they have in common.

The generator is Philox4x32-10 [1]_, a counter-based block cipher: the counter holds the
absolute place and time, the key a hash of seed and realization. The bits are integers
and the same on every device; the Box-Muller transform to normal values agrees to the
last few units of float32.

Not here: how noise is scaled (`denoiser`) and when it is used (`sampler`).

References
----------
.. [1] Salmon et al. (2011), Parallel random numbers: as easy as 1, 2, 3. SC'11.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from xstsr.geometry.globe import Globe

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)  # golden ratio and sqrt(3) - 1, as in the paper
_MASK = 0xFFFFFFFF
_ROUNDS = 10


def philox4x32(counter: Tensor, key: tuple[int, int]) -> Tensor:
    """Encrypt 128-bit counters with a 64-bit key into 128 random bits.

    Parameters
    ----------
    counter : Tensor, shape (4, *), int64
        Four 32-bit words each, held in int64.
    key : tuple of int
        Two 32-bit words.

    Returns
    -------
    Tensor, shape (4, *), int64
        Four random words in 0 .. 2**32 - 1.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # int64 wraps, but the low 64 bits of the product are all that is needed; what
        # stands above the low 32 of c1 and c3 is masked after they were mixed in
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0 = (p1 >> 32).bitwise_xor_(c1).bitwise_xor_(k0).bitwise_and_(_MASK)
        c2 = (p0 >> 32).bitwise_xor_(c3).bitwise_xor_(k1).bitwise_and_(_MASK)
        c1, c3 = p1, p0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return torch.stack((c0, c1 & _MASK, c2, c3 & _MASK))


def key_of(
    seed: int, realization: int, stream: int = 0, draw: int = 0
) -> tuple[int, int]:
    """Hash (seed, realization, stream, draw) into a Philox key.

    Neighbouring seeds give unrelated keys, whose fields have shape and statistics in
    common but no value.
    """
    words = np.random.SeedSequence([seed, realization, stream, draw]).generate_state(2)
    return int(words[0]), int(words[1])


def normal(
    times: np.ndarray,
    shape: tuple[int, int],
    *,
    seed: int,
    realization: int = 0,
    stream: int = 0,
    draw: int = 0,
    origin: tuple[int, int] = (0, 0),
    globe: Globe | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw white noise for absolute times and pixels, whatever the window or tile.

    Parameters
    ----------
    times : ndarray, shape (T,), int64
        Start of each fine step in microseconds since 1970.
    shape : tuple of int
        (Y, X), the pixels of the tile.
    seed, realization, stream : int
        What the noise belongs to; `stream` tells apart fields drawn together.
    draw : int
        0 for the noise that sampling starts from, 1, 2, ... for the fresh noise of an
        ancestral sampler's steps.
    origin : tuple of int
        Absolute index of the tile's first pixel; may be negative.
    globe : Globe, optional
        How the grid closes on itself: what lies beyond its ends has the noise of the
        place that it is, counted from Greenwich.
    device : torch.device or str
        Where the noise is made.

    Returns
    -------
    Tensor, shape (T, Y, X), float32
        Independent N(0, 1) values.
    """
    if globe is not None:
        draws = partial(
            normal,
            times,
            seed=seed,
            realization=realization,
            stream=stream,
            draw=draw,
            device=device,
        )
        return _on_globe(globe, shape, origin, draws)
    (rows, columns), (y0, x0) = shape, origin
    first = x0 // 4  # one counter serves four pixels in a row
    last = (x0 + columns - 1) // 4
    time = torch.as_tensor(np.asarray(times, dtype=np.int64), device=device)
    y = torch.arange(y0, y0 + rows, device=device)
    x = torch.arange(first, last + 1, device=device)
    grid = (len(time), rows, len(x))
    counter = torch.stack(
        (
            (x & _MASK).expand(grid),
            (y & _MASK)[:, None].expand(grid),
            (time & _MASK)[:, None, None].expand(grid),
            ((time >> 32) & _MASK)[:, None, None].expand(grid),
        )
    )
    words = philox4x32(counter, key_of(seed, realization, stream, draw))
    quads = _box_muller(words).movedim(0, -1).reshape(len(time), rows, -1)
    skip = x0 - 4 * first
    return quads[..., skip : skip + columns]


def _on_globe(
    globe: Globe,
    shape: tuple[int, int],
    origin: tuple[int, int],
    draws: Callable[..., Tensor],
) -> Tensor:
    """Put noise together from the places on the globe that a tile covers."""
    (rows, columns), (y0, x0) = shape, origin
    parts = []
    for strip in globe.strips(y0, y0 + rows):
        start = x0 + globe.turn + (globe.opposite if strip.across else 0)
        runs = [
            draws((strip.count, count), origin=(strip.first, first))
            for first, count in globe.runs(start, start + columns)
        ]
        part = torch.cat(runs, dim=-1)
        parts.append(part.flip(-2) if strip.across else part)
    return torch.cat(parts, dim=-2)


def _box_muller(words: Tensor) -> Tensor:
    """Turn pairs of words, shape (4, *), into normal values of the same shape."""
    # 24 bits, the width of a float32 mantissa, offset by a half: never 0 nor 1
    uniform = ((words >> 8).to(torch.float32) + 0.5) * 2.0**-24
    radius = torch.sqrt(-2.0 * torch.log(uniform[:2]))
    angle = (2.0 * math.pi) * uniform[2:]
    return torch.cat((radius * torch.cos(angle), radius * torch.sin(angle)))
