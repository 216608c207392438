r"""Attention over frames and over fixed windows of a frame.

Both are local by construction: frames see each other within a horizon in physical time,
pixels within one fixed window. A result therefore does not depend on how much of the
domain or of the record is at hand beyond that reach.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class ChannelNorm(nn.Module):
    """Normalise over channels at each pixel, never over space or time.

    Group and batch statistics would make a pixel depend on the size of its tile.

    Parameters
    ----------
    channels : int
        C of inputs with shape (N, C, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x, shape (N, C, H, W)."""
        rows = x.permute(0, 2, 3, 1)  # a view: tensors are channels-last
        rows = functional.layer_norm(rows, rows.shape[-1:], self.weight, self.bias)
        return rows.permute(0, 3, 1, 2)


class _Attention(nn.Module):
    """Multi-head attention over the second-to-last axis, with an additive bias."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)  # a new block starts as the identity
        nn.init.zeros_(self.out.bias)

    def attend(self, tokens: Tensor, bias: Tensor) -> Tensor:
        """Mix tokens, shape (N, L, C), under a bias of shape (N or 1, heads, L, L)."""
        n, length, channels = tokens.shape
        qkv = self.qkv(tokens).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        mixed = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=bias.to(q.dtype).expand(n, self.heads, length, length)
        )
        mixed = mixed.transpose(1, 2).reshape(n, length, channels)
        out: Tensor = self.out(mixed)
        return out


class TemporalAttention(_Attention):
    """Let frames see each other by relative physical time.

    The bias of each head is a learned function of the time between two frames, so that
    any number of frames at any step can be served; frames further apart than the
    horizon do not see each other.

    Parameters
    ----------
    channels, heads : int
        Width and number of heads.
    """

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__(channels, heads)
        self.norm = ChannelNorm(channels)
        self.bias = nn.Sequential(nn.Linear(3, 32), nn.SiLU(), nn.Linear(32, heads))

    def forward(self, x: Tensor, frames: int, step: Tensor, horizon: Tensor) -> Tensor:
        """Attend over time at each pixel.

        Parameters
        ----------
        x : Tensor, shape (B * frames, C, H, W)
            Features.
        frames : int
            T.
        step, horizon : Tensor, shape (B,)
            Fine step and reach to either side [min].
        """
        n, channels, height, width = x.shape
        b = n // frames
        tokens = self.norm(x).view(b, frames, channels, height * width)
        tokens = tokens.permute(0, 3, 1, 2).reshape(
            b * height * width, frames, channels
        )
        bias = self._relative(frames, step, horizon)
        if b > 1:  # one window's bias is the same for all of its pixels
            bias = bias.repeat_interleave(height * width, 0)
        mixed = self.attend(tokens, bias).view(b, height, width, frames, channels)
        out: Tensor = x + mixed.permute(0, 3, 4, 1, 2).reshape_as(x)
        return out

    def _relative(self, frames: int, step: Tensor, horizon: Tensor) -> Tensor:
        """Bias between every pair of frames, shape (B, heads, T, T)."""
        index = torch.arange(frames, device=step.device, dtype=step.dtype)
        lag = index[None, :] - index[:, None]
        minutes = lag[None] * step[:, None, None]
        place = torch.stack(
            (
                minutes.sign()
                * torch.log1p(minutes.abs() / 5.0),  # 5 min: radar's step
                torch.log1p(minutes.abs() / 5.0),
                lag.expand_as(minutes) / 10.0,
            ),
            dim=-1,
        )
        bias = self.bias(place).permute(0, 3, 1, 2)
        # half a step of slack: a lag that equals the horizon counts as inside
        far = minutes.abs() > (horizon + 0.5 * step)[:, None, None]
        hidden: Tensor = bias.masked_fill(far[:, None], float("-inf"))
        return hidden


class WindowAttention(_Attention):
    """Let the pixels of a fixed window of `size` by `size` see each other.

    Parameters
    ----------
    channels, size, heads : int
        Width, side of the window in pixels of this level, number of heads.
    """

    def __init__(self, channels: int, size: int = 4, heads: int = 4) -> None:
        super().__init__(channels, heads)
        self.size = size
        self.norm = ChannelNorm(channels)
        self.position = nn.Parameter(torch.zeros(heads, size * size, size * size))

    def forward(self, x: Tensor, corner: tuple[int, int] = (0, 0)) -> Tensor:
        """Attend within windows.

        Parameters
        ----------
        x : Tensor, shape (N, C, H, W)
            Features.
        corner : tuple of int
            Absolute place of the first pixel (y, x), to which windows are aligned.
        """
        n, channels, height, width = x.shape
        size = self.size
        top, left = (c % size for c in corner)
        pad = (left, -(width + left) % size, top, -(height + top) % size)
        padded = functional.pad(self.norm(x), pad)
        rows, columns = (length // size for length in padded.shape[-2:])
        cells = padded.view(n, channels, rows, size, columns, size)
        tokens = cells.permute(0, 2, 4, 3, 5, 1).reshape(-1, size * size, channels)
        mixed = self.attend(tokens, self.position[None] + self._outside(x, pad))
        mixed = mixed.view(n, rows, columns, size, size, channels)
        whole = mixed.permute(0, 5, 1, 3, 2, 4).reshape(padded.shape)
        return x + whole[..., top : top + height, left : left + width]

    def _outside(self, x: Tensor, pad: tuple[int, int, int, int]) -> Tensor:
        """Hide the padding from the keys: -1e4, as bf16 softmax dislikes -inf rows."""
        if not any(pad):
            return x.new_zeros(1, 1, 1, 1)
        size = self.size
        inside = functional.pad(x.new_ones(x.shape[-2:]), pad)
        height, width = inside.shape
        tiles = inside.view(height // size, size, width // size, size)
        keys = tiles.permute(0, 2, 1, 3).reshape(-1, 1, 1, size * size)
        return ((keys - 1) * 1e4).repeat(len(x), 1, 1, 1)
