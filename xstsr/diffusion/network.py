r"""The space-time U-Net that serves every factor.

Input and output live on the fine grid, (batch, channel, time, y, x). The first step
folds 2 x 2 pixels or more into channels, and all levels below work on (2+1)-D
convolutions: one
over space within a frame, one over time at a pixel. Frames are an axis of any length:
temporal attention speaks in minutes, not in positions. The factor, the physical spacing
and the step modulate every block (FiLM), so one set of weights serves all of them.

Without gradients, frames pass through a block a few at a time, in place. That takes a
third of the memory, and on the CPU less time: convolutions are fast there, and what
costs is the way of large fields to the memory and back.

Not here: what goes in (`features`) and what comes out means (`mean`, `denoiser`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from xstsr.diffusion.attention import ChannelNorm, TemporalAttention, WindowAttention
from xstsr.diffusion.features import Features

Layer = TypeVar("Layer", bound=nn.Module)
# values that pass through a block together: 8 MiB stay in a CPU's cache, and a GPU
# wants more to do at a time
SLAB, SLAB_GPU = 1 << 21, 1 << 26


@dataclass(frozen=True)
class Architecture:
    """The shape of a network.

    Parameters
    ----------
    widths : tuple of int
        Channels per level; each level halves the resolution of the one above.
    blocks : int or tuple of int
        Residual blocks per level, on the way down and again on the way up.
    temporal : tuple of int
        Levels with temporal attention.
    window : int
        Side of the spatial attention window at the lowest level; 0 for none.
    embedding : int
        Width of the embedded scalars.
    fold : int
        Pixels, per side, that become channels at the door.
    door : int
        Side of the first convolution.
    """

    widths: tuple[int, ...] = (48, 96, 128, 192)
    blocks: int | tuple[int, ...] = 2
    temporal: tuple[int, ...] = (2, 3)
    window: int = 4
    embedding: int = 128
    fold: int = 2
    door: int = 3

    @property
    def stride(self) -> int:
        """Fine pixels per pixel of the lowest level; shapes are whole multiples."""
        return int(self.fold * 2 ** (len(self.widths) - 1))

    @property
    def frames(self) -> int:
        """Fine frames to either side that convolutions look at; shapes stay."""
        return 2 * sum(self.depths) - self.depths[-1]

    @property
    def depths(self) -> tuple[int, ...]:
        """Residual blocks of each level, which all keep their shape."""
        if isinstance(self.blocks, int):
            return (self.blocks,) * len(self.widths)
        return self.blocks


class ResidualBlock(nn.Module):
    """One (2+1)-D residual block, modulated by the embedded scalars.

    Parameters
    ----------
    channels, embedding : int
        Widths of the features and of the embedded scalars.
    """

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.norm_space = ChannelNorm(channels)
        self.space = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm_time = ChannelNorm(channels)
        # a new block is the identity, whatever the scalars
        self.modulation = _zeroed(nn.Linear(embedding, 2 * channels))
        self.time = _zeroed(nn.Conv2d(channels, channels, (3, 1), padding=(1, 0)))

    def forward(self, x: Tensor, embedded: Tensor, frames: int) -> Tensor:
        """Refine features, in place where no gradient is wanted.

        Parameters
        ----------
        x : Tensor, shape (B * frames, C, H, W)
        embedded : Tensor, shape (B, E)
        frames : int
            T.
        """
        film = self.modulation(embedded).to(x.dtype)[:, :, None, None]
        length = _slab(x)
        if length is None:
            h = self._hidden(x, film.repeat_interleave(frames, 0))
            n, channels, height, width = h.shape
            h = h.view(n // frames, frames, channels, height * width)
            h = self.time(h.transpose(1, 2))
            refined: Tensor = x + h.transpose(1, 2).reshape_as(x)
            return refined
        for i, sample in enumerate(x.split(frames)):
            self._pass(sample, film[i : i + 1], min(length, frames))
        return x

    def _hidden(self, x: Tensor, film: Tensor) -> Tensor:
        """Do what stays within a frame."""
        h = self.space(functional.silu(self.norm_space(x)))
        scale, shift = film.chunk(2, dim=1)
        return functional.silu(torch.addcmul(shift, self.norm_time(h), 1 + scale))

    def _pass(self, x: Tensor, film: Tensor, length: int) -> None:
        """Refine the frames of a sample in place, so many at a time.

        A frame needs the hidden features of the next one, so what comes out is one
        frame behind what goes in:

            in        a-2  a-1 [ a  ...  a+length-1 ]
            out            [ a-1 ...  ]
        """
        frames, channels, height, width = x.shape
        hidden = x.new_zeros(length + 2, height * width, channels)
        for a in range(0, frames + 1, length):
            coming = x[a : a + length]
            if len(coming):
                h = self._hidden(coming, film).permute(0, 2, 3, 1)
                hidden[2 : 2 + len(coming)] = h.flatten(1, 2)
            hidden[2 + len(coming) :] = 0  # after the end
            first, last = max(a - 1, 0), min(a + length - 1, frames)
            if first < last:
                seen = hidden[None, first - a + 1 : last - a + 3].permute(0, 3, 1, 2)
                out = functional.conv2d(seen, self.time.weight, self.time.bias)
                out = out.permute(0, 2, 3, 1).reshape(-1, height, width, channels)
                x[first:last] += out.permute(0, 3, 1, 2)
            hidden[:2] = hidden[length:].clone()


class SpaceTimeUNet(nn.Module):
    """Map maps and scalars to maps, for any factor and any number of frames.

    Parameters
    ----------
    inputs, outputs : int
        Channels on the fine grid.
    scalars : int
        Number of conditioning scalars.
    architecture : Architecture
        Widths and depths.
    """

    def __init__(
        self, inputs: int, outputs: int, scalars: int, architecture: Architecture
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.outputs = outputs
        widths, e = architecture.widths, architecture.embedding
        self.embed = nn.Sequential(
            nn.Linear(scalars, e), nn.SiLU(), nn.Linear(e, e), nn.SiLU()
        )
        folded, door = architecture.fold**2, architecture.door
        self.enter = nn.Conv2d(inputs * folded, widths[0], door, padding=door // 2)
        levels = range(len(widths))
        self.down = nn.ModuleList(_Level(architecture, i) for i in levels)
        self.up = nn.ModuleList(_Level(architecture, i) for i in levels[:-1])
        self.shrink = nn.ModuleList(
            nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths)
        )
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        last = _zeroed(nn.Conv2d(widths[0], outputs * folded, 3, padding=1))
        self.leave = nn.Sequential(ChannelNorm(widths[0]), nn.SiLU(), last)

    def forward(
        self, maps: Sequence[Tensor], scalars: Tensor, features: Features
    ) -> Tensor:
        """Run the network.

        Parameters
        ----------
        maps : sequence of Tensor, shape (B, c, T, Y, X)
            With `inputs` channels in all. They are put together piece by piece.
        scalars : Tensor, shape (B, scalars)
        features : Features
            For the step and the horizon of the temporal attention.

        Returns
        -------
        Tensor, shape (B, outputs, T, Y, X), float32
        """
        b, _, frames, height, width = maps[0].shape
        stride, n = self.architecture.stride, self.architecture.fold
        top, left = (o % stride for o in features.origin)
        pad = (left, -(width + left) % stride, top, -(height + top) % stride)

        def fold(*parts: Tensor) -> Tensor:
            count = self.enter.in_channels // n**2
            rows, columns = height + sum(pad[2:]), width + sum(pad[:2])
            x = parts[0].new_zeros(len(parts[0]), count, rows, columns)
            inner = x[..., top : top + height, left : left + width]
            for place, part in zip(
                inner.split([p.shape[1] for p in parts], dim=1), parts, strict=True
            ):
                place.copy_(part)
            return self._enter(x)

        def unfold(part: Tensor) -> Tensor:
            x = functional.pixel_shuffle(self.leave(part), n)
            return x[..., top : top + height, left : left + width]

        x = _in_slabs(fold, *(part.transpose(1, 2).flatten(0, 1) for part in maps))
        clock = (frames, features.step, features.horizon)
        corner = (features.origin[0] // stride, features.origin[1] // stride)
        embedded = self.embed(scalars)
        skips = []
        for i, level in enumerate(self.down):
            x = level(x, embedded, clock, corner)
            if i < len(self.shrink):
                skips.append(x)
                x = self.shrink[i](x)
        for i in reversed(range(len(self.up))):
            x = self.up[i](self._rise(i, x, skips.pop()), embedded, clock, corner)
        x = _in_slabs(unfold, x).reshape(b, frames, self.outputs, height, width)
        fine: Tensor = x.transpose(1, 2).float()
        return fine

    def _enter(self, x: Tensor) -> Tensor:
        """Fold blocks of pixels into channels, and convolve them, in one go."""
        n, door = self.architecture.fold, self.architecture.door
        kernel = self.enter.weight.unflatten(1, (-1, n, n)).permute(0, 1, 4, 2, 5, 3)
        entered = functional.conv2d(
            x,
            kernel.reshape(len(kernel), -1, door * n, door * n),
            self.enter.bias,
            stride=n,
            padding=n * (door // 2),
        )
        return entered.contiguous(memory_format=torch.channels_last)

    def _rise(self, level: int, x: Tensor, skip: Tensor) -> Tensor:
        """Bring features up to a level and add what was kept there, in its place."""
        grow, length = self.grow[level], _slab(skip)
        if length is None:
            return skip + functional.interpolate(grow(x), scale_factor=2.0)
        for part, kept in zip(x.split(length), skip.split(length), strict=True):
            kept += functional.interpolate(grow(part), scale_factor=2.0)
        return skip


class _Level(nn.Module):
    """The blocks of one level, and its attention."""

    def __init__(self, architecture: Architecture, index: int) -> None:
        super().__init__()
        channels = architecture.widths[index]
        lowest = index == len(architecture.widths) - 1
        self.blocks = nn.ModuleList(
            ResidualBlock(channels, architecture.embedding)
            for _ in range(architecture.depths[index])
        )
        self.temporal = (
            TemporalAttention(channels) if index in architecture.temporal else None
        )
        self.spatial = (
            WindowAttention(channels, architecture.window)
            if lowest and architecture.window
            else None
        )

    def forward(
        self,
        x: Tensor,
        embedded: Tensor,
        clock: tuple[int, Tensor, Tensor],
        corner: tuple[int, int],
    ) -> Tensor:
        for block in self.blocks:
            x = block(x, embedded, clock[0])
        if self.temporal is not None:
            x = self.temporal(x, *clock)
        if self.spatial is not None:
            x = self.spatial(x, corner)
        return x


def _zeroed(layer: Layer) -> Layer:
    """Set the weights of a layer to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _slab(*fields: Tensor) -> int | None:
    """Count the frames that are best taken together; None for all, with gradients."""
    if torch.is_grad_enabled():
        return None
    values = SLAB if fields[0].device.type == "cpu" else SLAB_GPU
    return max(1, values // sum(x[0].numel() for x in fields))


def _in_slabs(function: Callable[..., Tensor], *fields: Tensor) -> Tensor:
    """Apply a function of frames to a few at a time."""
    count = len(fields[0])
    length = _slab(*fields) or count
    first = function(*(x[:length] for x in fields))
    if length >= count:
        return first
    whole = torch.empty(
        (count, *first.shape[1:]),
        dtype=first.dtype,
        device=first.device,
        memory_format=torch.channels_last,
    )
    whole[:length] = first
    for i in range(length, count, length):
        whole[i : i + length] = function(*(x[i : i + length] for x in fields))
    return whole
