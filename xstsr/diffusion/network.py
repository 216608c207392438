r"""The space-time U-Net that serves every factor.

Input and output live on the fine grid, (batch, channel, time, y, x). The first step
folds 2 x 2 pixels into channels, and all levels below work on (2+1)-D convolutions: one
over space within a frame, one over time at a pixel. Frames are an axis of any length:
temporal attention speaks in minutes, not in positions. The factor, the physical spacing
and the step modulate every block (FiLM), so one set of weights serves all of them.

Not here: what goes in (`features`) and what comes out means (`mean`, `denoiser`).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from xstsr.diffusion.attention import ChannelNorm, TemporalAttention, WindowAttention
from xstsr.diffusion.features import Features

Layer = TypeVar("Layer", bound=nn.Module)
FOLD = 2  # pixels folded into channels at the door, per side


@dataclass(frozen=True)
class Architecture:
    """The shape of a network.

    Parameters
    ----------
    widths : tuple of int
        Channels per level; each level halves the resolution of the one above.
    blocks : int
        Residual blocks per level, on the way down and again on the way up.
    temporal : tuple of int
        Levels with temporal attention.
    window : int
        Side of the spatial attention window at the lowest level; 0 for none.
    embedding : int
        Width of the embedded scalars.
    """

    widths: tuple[int, ...] = (48, 96, 128, 192)
    blocks: int = 2
    temporal: tuple[int, ...] = (2, 3)
    window: int = 4
    embedding: int = 128

    @property
    def stride(self) -> int:
        """Fine pixels per pixel of the lowest level."""
        return int(FOLD * 2 ** (len(self.widths) - 1))

    @property
    def grain(self) -> int:
        """Fine pixels per attention window: the pattern that repeats over the plane."""
        return self.stride * max(1, self.window)


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
        """Refine features.

        Parameters
        ----------
        x : Tensor, shape (B * frames, C, H, W)
        embedded : Tensor, shape (B, E)
        frames : int
            T.
        """
        n, channels, height, width = x.shape
        h = self.space(functional.silu(self.norm_space(x)))
        scale, shift = self.modulation(embedded).to(h.dtype).chunk(2, dim=1)
        h = self.norm_time(h)
        h = torch.addcmul(_per_frame(shift, frames), h, 1 + _per_frame(scale, frames))
        h = functional.silu(h).view(n // frames, frames, channels, height * width)
        h = self.time(h.transpose(1, 2))
        refined: Tensor = x + h.transpose(1, 2).reshape(n, channels, height, width)
        return refined


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
        self.enter = nn.Conv2d(inputs * FOLD**2, widths[0], 3, padding=1)
        levels = range(len(widths))
        self.down = nn.ModuleList(_Level(architecture, i) for i in levels)
        self.up = nn.ModuleList(_Level(architecture, i) for i in levels[:-1])
        self.shrink = nn.ModuleList(
            nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths)
        )
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        last = _zeroed(nn.Conv2d(widths[0], outputs * FOLD**2, 3, padding=1))
        self.leave = nn.Sequential(ChannelNorm(widths[0]), nn.SiLU(), last)

    def forward(self, maps: Tensor, scalars: Tensor, features: Features) -> Tensor:
        """Run the network.

        Parameters
        ----------
        maps : Tensor, shape (B, inputs, T, Y, X)
        scalars : Tensor, shape (B, scalars)
        features : Features
            For the step and the horizon of the temporal attention.

        Returns
        -------
        Tensor, shape (B, outputs, T, Y, X), float32
        """
        b, _, frames, height, width = maps.shape
        stride, grain = self.architecture.stride, self.architecture.grain
        top, left = (o % grain for o in features.origin)
        pad = (left, -(width + left) % stride, top, -(height + top) % stride)
        x = functional.pad(maps.transpose(1, 2).flatten(0, 1), pad)
        x = functional.pixel_unshuffle(x, FOLD)
        x = self.enter(x.contiguous(memory_format=torch.channels_last))
        clock = (frames, features.step, features.horizon)
        embedded = self.embed(scalars)
        skips = []
        for i, level in enumerate(self.down):
            x = level(x, embedded, clock)
            if i < len(self.shrink):
                skips.append(x)
                x = self.shrink[i](x)
        for i in reversed(range(len(self.up))):
            x = skips[i] + functional.interpolate(self.grow[i](x), scale_factor=2.0)
            x = self.up[i](x, embedded, clock)
        x = functional.pixel_shuffle(self.leave(x), FOLD)
        x = x[..., top : top + height, left : left + width]
        x = x.reshape(b, frames, self.outputs, height, width)
        fine: Tensor = x.transpose(1, 2).float()
        return fine


class _Level(nn.Module):
    """The blocks of one level, and its attention."""

    def __init__(self, architecture: Architecture, index: int) -> None:
        super().__init__()
        channels = architecture.widths[index]
        lowest = index == len(architecture.widths) - 1
        self.blocks = nn.ModuleList(
            ResidualBlock(channels, architecture.embedding)
            for _ in range(architecture.blocks)
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
        self, x: Tensor, embedded: Tensor, clock: tuple[int, Tensor, Tensor]
    ) -> Tensor:
        for block in self.blocks:
            x = block(x, embedded, clock[0])
        if self.temporal is not None:
            x = self.temporal(x, *clock)
        if self.spatial is not None:
            x = self.spatial(x)
        return x


def _zeroed(layer: Layer) -> Layer:
    """Set the weights of a layer to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _per_frame(values: Tensor, frames: int) -> Tensor:
    """Spread (B, C) over frames and pixels as (B * frames, C, 1, 1)."""
    return values.repeat_interleave(frames, 0)[:, :, None, None]
