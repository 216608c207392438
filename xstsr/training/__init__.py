"""Training: random examples from fine fields, two networks, one checkpoint."""

from xstsr.training.train import train

__all__ = ["train"]
